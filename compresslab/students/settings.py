"""What may be asked of a student that is made from its teacher. Needs no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from compresslab.settings import Settings

Place = Annotated[int, Field(ge=0)]


class Trim(Settings):
    """Which tokens stay in the vocabulary."""

    min_count: int = Field(5, ge=1)
    """How often a token must occur in the training texts. Special tokens and single characters stay in any case, so
    that every text that could be spelled still can be."""


def _trim(value: object) -> object:
    """`trim`, or `{trim: {min_count: 5}}`."""
    if value == "trim":
        return Trim()
    if isinstance(value, dict) and set(value) == {"trim"}:
        try:
            return Trim.model_validate(value["trim"] or {})
        except ValidationError as error:
            # Its place has a key more than the settings have, so it is told here.
            told = "; ".join(f"`{one['loc'][0]}` is {one['input']!r}: {one['msg']}" for one in error.errors())
            raise ValueError(f"`trim`: {told}") from error
    if value is None or isinstance(value, Trim | dict):
        return value
    raise ValueError("must be `trim`, or `{trim: {min_count: ...}}`")


Vocabulary = Annotated[Trim | None, BeforeValidator(_trim)]


class FromTeacher(Settings):
    """A student made of the teacher's own weights; what is not named stays as the teacher has it."""

    layers: Annotated[tuple[Place, ...], Field(strict=False, min_length=1)] | None = None
    """Layers of the teacher that are copied, counted from 0, in ascending order."""
    width: int | None = Field(None, ge=8)
    """Hidden width, found by a principal component analysis of the teacher's hidden states; for encoders of texts. The
    student still answers in the teacher's width."""
    ffn: int | None = Field(None, ge=1)
    """Inner width of each layer's MLP: the units whose part in its output varies most are kept."""
    vocabulary: Vocabulary = None
    """`trim`, or `{trim: {min_count: 5}}`: only tokens that occur in the training texts; the tokenizer is cut
    with it."""
    embedding_rank: int | None = Field(None, ge=1)
    """Numbers that are kept of each token; a matrix makes the hidden width of them again."""
    dropout: bool = False
    """Whether the student takes over the teacher's dropout, which is made for learning from labels: the teacher answers
    without it, and a student that has to match its answers learns less with it."""

    @model_validator(mode="after")
    def _check(self) -> FromTeacher:
        if self.layers is not None and list(self.layers) != sorted(set(self.layers)):
            raise ValueError(f"`layers` must be in ascending order, each once, but got {list(self.layers)}")
        if self.width is not None and self.embedding_rank is not None and self.embedding_rank > self.width:
            raise ValueError(
                f"`embedding_rank` must be at most `width`, {self.width}, but got {self.embedding_rank}: it would make "
                "the table larger"
            )
        return self

    @property
    def reads_texts(self) -> bool:
        """Whether anything is asked for that only an encoder of texts has."""
        return (self.width, self.vocabulary, self.embedding_rank) != (None, None, None)


class Static(Settings):
    """A student that is a table of token vectors, the teacher's outputs for each token alone; a text is their mean."""

    width: int | None = Field(None, ge=8)
    """Of the vectors, by a principal component analysis; null keeps the teacher's."""
    vocabulary: Vocabulary = None
    """As in `from_teacher`."""
    weighting: Literal["sif", "none"] = "sif"
    """What a token counts in a text: a / (a + its frequency), a = 0.001, so that rare tokens say more (Arora et al., "A
    Simple but Tough-to-Beat Baseline for Sentence Embeddings", ICLR 2017); or the same for all."""
