"""The ids of a split's tokens, made once for each tokenizer and kept while the task lives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from compresslab.measure.text_preprocessing import TextPreprocessing, Texts


@dataclass(frozen=True)
class Ragged:
    """Ids of n texts one after the other: those of text i are `ids[starts[i]:starts[i + 1]]`."""

    ids: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each text [n]."""
        return np.diff(self.starts)

    def rows(self, indices: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int32]]:
        """The ids of some texts."""
        return [self.ids[self.starts[row] : self.starts[row + 1]] for row in indices]


class Tokens:
    """Remembers what was tokenised. Tasks that share a split share this, whatever tokenizer each reads with."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str, int, bool], Ragged] = {}

    def of(self, digest: str, texts: Texts, how: TextPreprocessing) -> Ragged:
        """The ids of a split, as `how` reads it.

        Args:
            digest: Of the split's content.
            texts: Of the split, [n].
            how: The preprocessing.

        Raises:
            DataError: A text is too long, and must not be cut.
        """
        key = (digest, how.sha256, how.max_length, how.truncate)
        if key not in self._made:
            ids = how.encode(texts)
            starts = np.zeros(len(ids) + 1, np.int64)
            np.cumsum([len(one) for one in ids], out=starts[1:])
            self._made[key] = Ragged(np.concatenate(ids) if ids else np.empty(0, np.int32), starts)
        return self._made[key]
