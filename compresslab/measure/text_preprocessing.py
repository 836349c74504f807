"""From texts to ids of tokens: one implementation for training, evaluation, gate and clients."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from pydantic import Field, PrivateAttr

from compresslab.digest import digest_file
from compresslab.errors import ArtifactError, DataError
from compresslab.settings import FileName, Settings, Sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from tokenizers import Tokenizer

Texts: TypeAlias = np.ndarray[Any, np.dtypes.StringDType]
"""Texts as a split holds them: strings of any length [n]."""

TOKENIZER = "tokenizer.json"

# What is tokenised at once: many texts, so that all cores work, and not too much text, for what the library makes of a
# token before its id is taken has a hundred bytes.
_CHUNK = 4096
_CHARACTERS = 1 << 20


def as_texts(texts: Iterable[str]) -> Texts:
    """An array [n] of these strings."""
    return np.array(list(texts), dtype=np.dtypes.StringDType())  # type: ignore[return-value]  # not in the stubs


def portions(texts: Iterable[str]) -> Iterator[list[str]]:
    """Some thousand of the texts after the other, or fewer where these are long."""
    part: list[str] = []
    characters = 0
    for text in texts:
        if part and (len(part) == _CHUNK or characters + len(text) > _CHARACTERS):
            yield part
            part, characters = [], 0
        part.append(str(text))
        characters += len(text)
    if part:
        yield part


@dataclass
class _Opened:
    """Where the tokenizer lies, and what was read of it. No part of what the preprocessing is: any two are equal."""

    file: Path | None = field(default=None, compare=False)
    whole: Any = field(default=None, compare=False)
    unknown: tuple[int | None] | None = field(default=None, compare=False)
    cutting: Any = field(default=None, compare=False)


class TextPreprocessing(Settings):
    """How texts become inputs: ids of tokens, as a `tokenizer.json` of the library `tokenizers` says."""

    kind: Literal["text"] = "text"
    tokenizer: FileName = TOKENIZER
    """The tokenizer's file, beside the manifest."""
    sha256: Sha256
    """Of that file."""
    pad_id: Annotated[int, Field(ge=0)]
    """What shorter texts of a batch are filled up with; the network leaves it out of its attention."""
    max_length: Annotated[int, Field(ge=2)]
    """The most tokens that the network reads of a text, special ones included."""
    truncate: bool = True
    """Whether longer texts are cut there; else they are refused."""

    _opened: _Opened = PrivateAttr(default_factory=_Opened)

    @classmethod
    def of(cls, file: Path, *, pad_id: int, max_length: int, truncate: bool = True) -> TextPreprocessing:
        """The preprocessing with this tokenizer, bound to it.

        Raises:
            DataError: The file is missing or no tokenizer, or the library is not installed.
        """
        if not file.is_file():
            raise DataError(
                f"{file}: there is no such tokenizer; give a `{TOKENIZER}`, as `save_pretrained` of a fast tokenizer "
                "of transformers' writes it"
            )
        made = cls(sha256=digest_file(file), pad_id=pad_id, max_length=max_length, truncate=truncate).in_file(file)
        made.open_tokenizer()
        return made

    def in_folder(self, folder: Path) -> TextPreprocessing:
        """The same, its tokenizer read from this folder when it is first needed."""
        return self.in_file(folder / self.tokenizer)

    def in_file(self, file: Path) -> TextPreprocessing:
        """The same, its tokenizer read from this file when it is first needed."""
        bound = self.model_copy()
        bound._opened = _Opened(file)
        return bound

    @property
    def file(self) -> Path:
        """Where the tokenizer is.

        Raises:
            ArtifactError: Nothing said so: the preprocessing was read apart from its folder.
        """
        if self._opened.file is None:
            raise ArtifactError(
                f"where `{self.tokenizer}` lies is not known; read the model with `load_artifact`, or use `in_folder`"
            )
        return self._opened.file

    @property
    def vocabulary(self) -> int:
        """How many ids there are: one more than the largest."""
        return 1 + int(max(self.open_tokenizer().get_vocab(with_added_tokens=True).values()))

    @property
    def around(self) -> int:
        """How many special tokens stand around every text."""
        return int(self.open_tokenizer().num_special_tokens_to_add(is_pair=False))

    def unknown(self, ids: Iterable[npt.NDArray[np.integer[Any]]]) -> tuple[int, float]:
        """How many texts have parts that the tokenizer has no token for, and which share these are of all tokens.

        Args:
            ids: Of each text, as `encode` gives them.
        """
        if self._opened.unknown is None:
            self._opened.unknown = (unknown_id(self.file.read_text(encoding="utf-8")),)
        (known_as,) = self._opened.unknown
        if known_as is None:
            return 0, 0.0
        texts = strange = unknown = tokens = 0
        for one in ids:
            found = int((one == known_as).sum())
            texts, strange, unknown, tokens = texts + 1, strange + bool(found), unknown + found, tokens + len(one)
        return strange, unknown / max(tokens - self.around * texts, 1)

    def encode(self, texts: np.ndarray[Any, Any]) -> list[npt.NDArray[np.int32]]:
        """The ids of each text, special tokens included, cut to `max_length` where `truncate` says so.

        Raises:
            DataError: These are no texts, or one is too long.
        """
        return [one for part, _ in self.encoded_parts(texts) for one in part]

    def encoded_parts(self, texts: np.ndarray[Any, Any]) -> Iterator[tuple[list[npt.NDArray[np.int32]], int]]:
        """The ids of some of the texts after the other, as `encode`, and how many of these were cut.

        Raises:
            DataError: As `encode`.
        """
        _require_texts(texts)
        tokenizer = self.open_tokenizer()
        done = 0
        for part in portions(texts):
            ids = [encoding.ids for encoding in tokenizer.encode_batch(part)]
            long = [row for row, one in enumerate(ids) if len(one) > self.max_length]
            if long and not self.truncate:
                raise DataError(
                    f"text {done + long[0]} ({part[long[0]][:40]!r}) has {len(ids[long[0]])} tokens, but at most "
                    f"{self.max_length} are read; shorten it, or let long texts be cut (`too_long: note` in the task)"
                )
            for row in long:
                ids[row] = self._cutting().encode(part[row]).ids
            yield [np.array(one, np.int32) for one in ids], len(long)
            done += len(part)

    def lengths(self, texts: Texts) -> npt.NDArray[np.int64]:
        """How many tokens each text has, special ones included, before anything is cut [n]."""
        _require_texts(texts)
        tokenizer = self.open_tokenizer()
        counts: list[int] = []
        for part in portions(texts):
            counts += [len(encoding.ids) for encoding in tokenizer.encode_batch(part)]
        return np.array(counts, np.int64)

    def padded(self, ids: Sequence[npt.NDArray[np.integer[Any]]]) -> npt.NDArray[np.int64]:
        """Ids of several texts as one array [b, longest], filled up on the right."""
        width = max((len(one) for one in ids), default=0)
        filled = np.full((len(ids), width), self.pad_id, np.int64)
        for row, one in enumerate(ids):
            filled[row, : len(one)] = one
        return filled

    def normalize(self, texts: np.ndarray[Any, Any]) -> npt.NDArray[np.int64]:
        """Turns strings [n] into int64 [n, the longest one's tokens].

        Raises:
            DataError: As `encode`.
        """
        return self.padded(self.encode(texts))

    def graph_input(self, texts: np.ndarray[Any, Any]) -> npt.NDArray[np.int64]:
        """What the graph takes: the same as `normalize`."""
        return self.normalize(texts)

    def open_tokenizer(self) -> Tokenizer:
        """The tokenizer, without the padding and the truncation that its file may ask for.

        Raises:
            DataError: The library `tokenizers` is not installed.
            ArtifactError: The file is missing, damaged, or another one.
        """
        opened = self._opened
        if opened.whole is None:
            opened.whole = self._read()
        return opened.whole

    def _cutting(self) -> Tokenizer:
        opened = self._opened
        if opened.cutting is None:
            opened.cutting = self._read()
            opened.cutting.enable_truncation(self.max_length)
        return opened.cutting

    def _read(self) -> Tokenizer:
        if find_spec("tokenizers") is None:
            raise DataError(
                f"{self.file}: reading texts needs the library `tokenizers` (pip install compresslab[text])"
            )
        from tokenizers import Tokenizer

        if not self.file.is_file():
            raise ArtifactError(f"{self.file}: the tokenizer is missing; copy the model again, with all its files")
        content = self.file.read_bytes()
        if digest_file(self.file) != self.sha256:
            raise ArtifactError(f"{self.file}: is not the tokenizer that the model was made with (its SHA-256 differs)")
        try:
            tokenizer = Tokenizer.from_buffer(content)
        except ValueError as error:
            raise ArtifactError(
                f"{self.file}: cannot be read as a tokenizer ({error}); give a `{TOKENIZER}`, as `save_pretrained` of "
                "a fast tokenizer of transformers' writes it"
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer


def unknown_id(tokenizer: str) -> int | None:
    """The id of what a tokenizer.json cannot spell; None where it can spell everything."""
    model = json.loads(tokenizer)["model"]
    if "unk_id" in model:
        return None if model["unk_id"] is None else int(model["unk_id"])
    found = model["vocab"].get(model.get("unk_token"))
    return None if found is None else int(found)


def _require_texts(texts: Texts) -> None:
    if not isinstance(texts.dtype, np.dtypes.StringDType) or texts.ndim != 1:
        raise DataError(
            f"texts must be strings [n] (`numpy.array(texts, dtype=numpy.dtypes.StringDType())`), but got "
            f"{texts.dtype} {list(texts.shape)}"
        )
