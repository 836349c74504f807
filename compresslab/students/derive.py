"""A student made of its teacher's weights: layers, vocabulary, MLPs, hidden width, embeddings, in this order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.measure.text_preprocessing import unknown_id
from compresslab.models.architecture import describe, rebuild
from compresslab.models.builder import StaticBuilder, construct_again
from compresslab.students.dropout import without_dropout
from compresslab.students.embedding import factorise_words, keep_tokens, rows
from compresslab.students.ffn import narrow_mlps
from compresslab.students.layers import keep_layers
from compresslab.students.seeing import Examples
from compresslab.students.static import require_components, telling, token_vectors, weighted
from compresslab.students.vocabulary import Counts, counted, trim
from compresslab.students.width import narrow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from tokenizers import Tokenizer

    from compresslab.data.ragged import Ragged
    from compresslab.students.settings import FromTeacher, Static, Trim

    Ids = npt.NDArray[np.integer[Any]]

# Texts and images by which components, units and scales are found; more say hardly more, and cost time.
EXAMPLES = 256
_TOKENS = 64
_BATCH = 64
_CHUNK = 1024


@dataclass(frozen=True)
class Corpus:
    """Texts that the student will be trained on, and the teacher's way to read them.

    Args:
        parts: All of them, in one list or several; they are counted.
        tokenizer: The teacher's tokenizer.json.
        pad_id: By which shorter texts are filled up.
        max_length: Tokens that are read of a text.
        known: The ids of each part, where they are known already.

    Raises:
        ValueError: A part is a string, whose letters would be taken for texts.
    """

    parts: Sequence[Sequence[str]]
    tokenizer: str
    pad_id: int
    max_length: int
    known: Sequence[Ragged] = ()

    def __post_init__(self) -> None:
        given = [self.parts] if isinstance(self.parts, str) else self.parts
        text = next((one for one in given if isinstance(one, str)), None)
        if text is not None:
            raise ValueError(f"`parts` must be lists of texts, but one is the text {text[:40]!r}; give `[texts]`")

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def open(self) -> Tokenizer:
        """The tokenizer, which cuts at `max_length` and does not pad."""
        from tokenizers import Tokenizer

        opened = Tokenizer.from_str(self.tokenizer)
        opened.no_padding()
        opened.enable_truncation(self.max_length)
        return opened

    @property
    def vocabulary(self) -> int:
        """How many ids there are: one more than the largest."""
        return 1 + max(map(int, self.open().get_vocab(with_added_tokens=True).values()))

    def examples(self) -> Examples:
        """The beginnings of some of the texts, spread over all, in batches of similar length."""
        places = np.linspace(0, len(self) - 1, min(EXAMPLES, len(self))).astype(int)
        ends = np.cumsum([0, *map(len, self.parts)])
        inside = np.searchsorted(ends, places, "right") - 1
        texts = [self.parts[part][int(place - ends[part])] for part, place in zip(inside, places, strict=True)]
        short = replace(self, max_length=min(_TOKENS, self.max_length))
        ids = sorted(short.encoded(texts), key=len)
        return Examples(tuple(self._padded(ids[at : at + _BATCH]) for at in range(0, len(ids), _BATCH)), self.pad_id)

    def counts(self, size: int) -> Counts:
        """How often each id occurs [size]."""
        return counted(self.read(), size)

    def read(self) -> Iterator[Ids]:
        """The ids of each of the texts."""
        if self.known:
            return (one for part in self.known for one in part)
        return self.encoded(text for part in self.parts for text in part)

    def encoded(self, texts: Iterable[str]) -> Iterator[Ids]:
        """The ids of other texts, each."""
        opened = self.open()
        given = iter(texts)
        while part := [str(text) for text in islice(given, _CHUNK)]:
            for one in opened.encode_batch(part):
                yield np.array(one.ids, np.int64)

    def _padded(self, ids: Sequence[Ids]) -> torch.Tensor:
        filled = torch.full((len(ids), max(map(len, ids))), self.pad_id)
        for row, one in enumerate(ids):
            filled[row, : len(one)] = torch.from_numpy(one)
        return filled


@dataclass(frozen=True)
class Derived:
    """A student that is not trained yet.

    Args:
        model: In eval mode, with weights that are made of the teacher's; it is built again without it.
        corpus: How it reads texts, where that is not the teacher's way: it has a tokenizer of its own then.
        decisions: What was found, as plain data.
        notes: What the user should know.
    """

    model: TorchModel
    corpus: Corpus | None = None
    decisions: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def derive(
    teacher: TorchModel, settings: FromTeacher, seen: Corpus | Examples, trusted: Collection[str] = ()
) -> Derived:
    """A student from the teacher; the teacher is left as it is.

    Args:
        teacher: In any mode.
        settings: What is cut.
        seen: The training texts, or images of the training data.
        trusted: The user's own functions that may be run to build the teacher.

    Raises:
        ModelError: Something is asked for that this teacher does not have, or in a larger size than it has.
    """
    _require_buildable(teacher)
    if settings.reads_texts and not isinstance(seen, Corpus):
        raise ModelError(
            "`width`, `vocabulary` and `embedding_rank` are for networks that read texts; leave them out here"
        )
    model = teacher if settings.dropout else without_dropout(teacher)
    model = keep_layers(model, settings.layers) if settings.layers is not None else model
    made = Derived(model)
    if isinstance(seen, Corpus) and settings.vocabulary is not None:
        made = _trimmed(made, settings.vocabulary, seen)
    reads = made.corpus or seen
    model = made.model
    if settings.ffn is not None or settings.width is not None:
        examples = reads.examples() if isinstance(reads, Corpus) else reads
        model = narrow_mlps(model, settings.ffn, examples) if settings.ffn is not None else model
        model = narrow(model, settings.width, examples) if settings.width is not None else model
    if settings.embedding_rank is not None:
        assert isinstance(reads, Corpus), "checked above"
        model = factorise_words(model, settings.embedding_rank, reads.counts(rows(model.module)))
    return replace(made, model=_independent(model, trusted))


def derive_static(teacher: TorchModel, settings: Static, corpus: Corpus) -> Derived:
    """A table of the teacher's outputs for each token alone; the teacher is left as it is.

    Raises:
        ModelError: The tokenizer is not the teacher's, or `width` is larger than its embeddings, or than the number of
            tokens that are left.
    """
    counts = corpus.counts(corpus.vocabulary)
    kept = np.arange(len(counts))
    reads = corpus
    decisions: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    if settings.vocabulary is not None:
        reads, kept, decisions, notes = _cut(settings.vocabulary, corpus, counts)
    # A pass for each token takes minutes; of one token it says how wide they all are.
    (first,) = token_vectors(teacher.module, kept[:1], corpus.open(), corpus.pad_id)
    require_components(settings, len(first), telling(kept, corpus.open(), corpus.pad_id))
    vectors = token_vectors(teacher.module, kept, corpus.open(), corpus.pad_id)
    table = weighted(vectors, counts[kept], settings)
    builder = StaticBuilder(tokens=len(kept), width=table.shape[1], pad_id=reads.pad_id)
    module = construct_again(builder, ())
    module.load_state_dict({"table.weight": table})
    own = None if settings.vocabulary is None else reads
    return Derived(TorchModel(module, builder.plain()), own, decisions, notes)


def require_static(settings: Static, width: int, corpus: Corpus) -> None:
    """Refuses what `derive_static` would, by the tokenizer, and by the texts where only these can tell.

    Args:
        settings: What is asked for.
        width: Of the teacher's embeddings.
        corpus: All of the training texts; they are counted only where single characters are too few.

    Raises:
        ModelError: `width` is larger than the teacher's embeddings, or than the number of tokens that will be left.
    """

    def require(kept: Counts) -> None:
        require_components(settings, width, telling(kept, corpus.open(), corpus.pad_id))

    require(np.arange(corpus.vocabulary))
    if settings.vocabulary is None or settings.width is None:
        return
    always = trim(corpus.tokenizer, np.zeros(0, np.int64), 1).kept
    if settings.width > telling(always, corpus.open(), corpus.pad_id):
        require(trim(corpus.tokenizer, corpus.counts(corpus.vocabulary), settings.vocabulary.min_count).kept)


def _trimmed(made: Derived, vocabulary: Trim, corpus: Corpus) -> Derived:
    reads, kept, decisions, notes = _cut(vocabulary, corpus, corpus.counts(rows(made.model.module)))
    return Derived(keep_tokens(made.model, kept), reads, decisions, notes)


def _cut(
    vocabulary: Trim, corpus: Corpus, counts: Counts
) -> tuple[Corpus, npt.NDArray[np.int64], dict[str, Any], tuple[str, ...]]:
    """The corpus read by a smaller vocabulary, the ids that are kept, what was found, and what is to be told of it."""
    trimmed = trim(corpus.tokenizer, counts, vocabulary.min_count)
    places = np.flatnonzero(trimmed.kept == corpus.pad_id)
    pad_id = int(places[0]) if len(places) else corpus.pad_id
    reads = replace(corpus, tokenizer=trimmed.tokenizer, pad_id=pad_id, known=())
    lost = unspelt(corpus, reads)
    told = [f"the student's vocabulary has {len(trimmed.kept):,} of the teacher's {len(counts):,} tokens"]
    if lost:
        told.append(
            f"{lost:,} of {len(corpus):,} training texts have parts that the trimmed vocabulary cannot spell; "
            "lower `min_count`, or leave out the texts"
        )
    return reads, trimmed.kept, {"tokens": len(trimmed.kept), "unspelt": lost}, tuple(told)


def unspelt(teacher: Corpus, student: Corpus) -> int:
    """How many texts of a corpus have more unknown parts for the student than for the teacher.

    Such as those in a language whose characters are in no token that was kept.
    """
    unknown = unknown_id(teacher.tokenizer), unknown_id(student.tokenizer)
    if unknown[0] is None or unknown[1] is None:
        return 0
    both = zip(teacher.read(), student.read(), strict=True)
    return sum(bool((after == unknown[1]).sum() > (before == unknown[0]).sum()) for before, after in both)


def _require_buildable(teacher: TorchModel) -> None:
    if teacher.builder is None:
        raise ModelError("a converted INT8 network is kept as ONNX alone; a student is made of a float teacher")


def _independent(model: TorchModel, trusted: Collection[str]) -> TorchModel:
    """The network as it is built again from its description: what a checkpoint would not bring back shows here."""
    module = rebuild(describe(model), trusted)
    module.load_state_dict(model.module.state_dict(), strict=True)
    return replace(model, module=module)
