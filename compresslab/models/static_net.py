"""Networks that know tokens but no order: a text is the mean of its tokens' vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class StaticEncoder(nn.Module):
    """Token ids int64 [b, seq], padded with `pad_id`, to embeddings float32 [b, width] of length one.

    What a token counts is the length of its vector, so that a weight of its own is none of the network's.

    Args:
        tokens: Rows of the table.
        width: Of the vectors.
        pad_id: What counts nothing.
    """

    def __init__(self, tokens: int, width: int, pad_id: int) -> None:
        super().__init__()
        self.table = nn.Embedding(tokens, width)
        self.pad_id = pad_id

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings of a batch of texts."""
        real = torch.ne(input_ids, self.pad_id).unsqueeze(-1)
        vectors = self.table(input_ids) * real.to(self.table.weight.dtype)
        # The mean has the direction of the sum, and the length is one anyway.
        return functional.normalize(vectors.sum(1), dim=-1)
