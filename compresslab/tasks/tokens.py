"""The ids of a split's tokens, made once for each tokenizer: kept in the store, and read from it by memory map."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compresslab.data.ragged import Ragged, read_ragged, writing_ragged
from compresslab.digest import code_digest, digest_of, library_versions
from compresslab.errors import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.text_preprocessing import TextPreprocessing, Texts
    from compresslab.store import Store

_KIND = "tokens"
_CODE = ("compresslab.measure.text_preprocessing", "compresslab.data.ragged")
_TOLD = "tokens.json"
_SHORT = 1 << 16


@dataclass(frozen=True)
class Tokenised:
    """The ids of each text, and how many texts were longer than what is read of them."""

    ids: Ragged
    cut: int


class Tokens:
    """Remembers what was tokenised. Tasks that share a split share this, whatever tokenizer each reads with.

    Args:
        store: Where ids are kept, for other runs too and for more of them than memory holds; None for memory.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._made: dict[tuple[str, str, int, bool], Tokenised] = {}

    def of(self, digest: str, texts: Texts, how: TextPreprocessing) -> Tokenised:
        """The ids of a split, as `how` reads it.

        Args:
            digest: Of the split's content.
            texts: Of the split, [n].
            how: The preprocessing.

        Raises:
            DataError: A text is too long, and must not be cut.
            StoreError: The disk is full or may not be written.
        """
        key = (digest, how.sha256, how.max_length, how.truncate)
        if key not in self._made:
            if self._store is None:
                self._made[key] = tokenised(texts, how)
            else:
                self._made[key] = _in_store(self._store, digest, texts, how)
        return self._made[key]


def tokenised(texts: Texts, how: TextPreprocessing) -> Tokenised:
    """The ids of texts, in memory.

    Raises:
        DataError: A text is too long, and must not be cut.
    """
    parts, lengths, cut = [np.empty(0, np.int32)], [0], 0
    for ids, long in how.encoded_parts(texts):
        parts.append(np.concatenate(ids))
        lengths += [len(one) for one in ids]
        cut += long
    return Tokenised(Ragged(np.concatenate(parts), np.cumsum(lengths)), cut)


def _in_store(store: Store, digest: str, texts: Texts, how: TextPreprocessing) -> Tokenised:
    key = digest_of(
        {
            "texts": digest,
            "tokenizer": how.sha256,
            "max_length": how.max_length,
            "truncate": how.truncate,
            "versions": library_versions("tokenizers"),
            "code": code_digest(*_CODE),
        }
    )
    folder = store.find(_KIND, key)
    if folder is None:
        with store.writing(_KIND, key) as being_made:
            _write(being_made, texts, how)
        folder = store.find(_KIND, key)
    if folder is None:
        raise StoreError(f"{store.root}: what was written there a moment ago is gone; do not prune it while runs begin")
    return Tokenised(read_ragged(folder), json.loads((folder / _TOLD).read_text(encoding="utf-8"))["cut"])


def _write(folder: Path, texts: Texts, how: TextPreprocessing) -> None:
    dtype = np.uint16 if how.vocabulary <= _SHORT else np.int32
    cut = 0
    with writing_ragged(folder, dtype) as writer:
        for ids, long in how.encoded_parts(texts):
            writer.add(np.concatenate(ids), np.array([len(one) for one in ids], np.int64))
            cut += long
    (folder / _TOLD).write_text(json.dumps({"cut": cut}), encoding="utf-8")
