"""What the other of two towers makes of its training samples: the points that a tower's own embeddings are drawn to."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

# More than these are thinned out: a softmax over them is as sharp, and costs less.
_MOST = 16_384

Made = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]


class Anchors:
    """Embeddings with the numbers of their groups, made when they are first asked for, and then kept.

    Args:
        make: Gives embeddings [m, width] and groups [m].
    """

    def __init__(self, make: Callable[[], Made]) -> None:
        self._make = make

    @cached_property
    def _made(self) -> tuple[Tensor, Tensor]:
        import torch

        embeddings, groups = self._make()
        rows = np.unique(np.linspace(0, len(groups) - 1, _MOST).astype(np.int64))
        return torch.from_numpy(np.array(embeddings[rows], np.float32)), torch.from_numpy(np.array(groups[rows]))

    @property
    def embeddings(self) -> Tensor:
        """[m, width]."""
        return self._made[0]

    @property
    def groups(self) -> Tensor:
        """int64 [m]."""
        return self._made[1]
