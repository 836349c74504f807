"""The vectors of a student that is a table: what the teacher makes of each token alone.

As Model2Vec does (https://github.com/MinishLab/model2vec): a forward pass for each token, principal components, and a
weight for each token by its frequency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from compresslab.errors import ModelError
from compresslab.students.seeing import at_rest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from compresslab.students.settings import Static
    from compresslab.students.vocabulary import Counts

_BATCH = 1024
_SIF = 1e-3


def token_vectors(teacher: nn.Module, kept: Counts, tokenizer: Tokenizer, pad_id: int) -> Tensor:
    """The teacher's outputs [n, width] for texts of one token each, with what the tokenizer puts around any text.

    Args:
        teacher: Ids int64 [b, seq] to embeddings.
        kept: The tokens' ids [n].
        tokenizer: The teacher's.
        pad_id: Of padding; its vector is zero.
    """
    around = _around(tokenizer)
    before = len(around) // 2
    front, behind = around[:before], around[before:]
    outputs = []
    with at_rest(teacher):
        for at in range(0, len(kept), _BATCH):
            ids = torch.from_numpy(kept[at : at + _BATCH])[:, None]
            ends = [torch.tensor(end, dtype=torch.int64).expand(len(ids), -1) for end in (front, behind)]
            outputs.append(teacher(torch.cat([ends[0], ids, ends[1]], 1)).float())
    vectors = torch.cat(outputs)
    # Nothing to see: padding, or what stands around every text and so tells none apart.
    vectors[torch.from_numpy(np.isin(kept, [*around, pad_id]))] = 0.0
    return vectors


def telling(kept: Counts, tokenizer: Tokenizer, pad_id: int) -> int:
    """How many of these tokens tell texts apart: those that `token_vectors` has something to say of."""
    return int((~np.isin(kept, [*_around(tokenizer), pad_id])).sum())


def require_components(settings: Static, width: int, tokens: int) -> None:
    """Refuses more principal components than there can be.

    Args:
        settings: What is asked for.
        width: Of the teacher's embeddings.
        tokens: That tell texts apart.

    Raises:
        ModelError: `width` is larger than either.
    """
    most = min(width, tokens)
    if settings.width is not None and settings.width > most:
        lower = ", or lower `min_count`" if settings.vocabulary is not None and tokens < width else ""
        raise ModelError(
            f"`width` is {settings.width}, but the teacher's embeddings are {width} wide and there are {tokens} "
            f"tokens that tell texts apart; give {most} or fewer{lower}"
        )


def weighted(vectors: Tensor, counts: Counts, settings: Static) -> Tensor:
    """The table [n, width]: principal components of the vectors, each as long as its token counts.

    Raises:
        ModelError: As `require_components`.
    """
    table = vectors.double()
    there = table.abs().sum(1) > 0
    if settings.width is not None:
        require_components(settings, table.shape[1], int(there.sum()))
        centred = table - table[there].mean(0)
        basis = torch.linalg.eigh(centred[there].T @ centred[there]).eigenvectors[:, -settings.width :].flip(1)
        table = centred @ basis
    if settings.weighting == "sif":
        frequency = torch.from_numpy(counts / max(1, counts.sum()))
        table = table * (_SIF / (_SIF + frequency))[:, None]
    table[~there] = 0.0
    return table.float()


def _around(tokenizer: Tokenizer) -> list[int]:
    return list(tokenizer.encode("").ids)
