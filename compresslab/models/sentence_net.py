"""Networks that make one vector of a text: a transformer's hidden states, pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from compresslab.models.hf_net import build_hf
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

Pooling = Literal["mean", "cls", "max"]
Activation = Literal["identity", "tanh", "relu", "gelu"]

_ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "identity": nn.Identity, "tanh": nn.Tanh, "relu": nn.ReLU, "gelu": nn.GELU,
}  # fmt: skip
# As sentence-transformers has them; a text of nothing but padding must not divide by zero.
_LEAST_TOKENS = 1e-9
_LOWEST = -1e9


class DenseLayer(Settings):
    """A fully connected layer behind the pooling."""

    inputs: int = Field(ge=1)
    outputs: int = Field(ge=1)
    bias: bool = True
    activation: Activation = "identity"


class SentenceEncoder(nn.Module):
    """Token ids int64 [b, seq], padded at the end with `pad_id`, to embeddings float32 [b, width].

    The attention leaves out what is padding, and so does the pooling, so that an embedding is the same in any batch.

    Args:
        transformer: Ids [b, seq] to hidden states [b, seq, hidden]; it leaves out padding by itself.
        pad_id: What stands where a text has ended.
        pooling: `mean` of a text's hidden states, the first one's (`cls`), or the largest value of each (`max`).
        dense: Layers behind it.
        normalize: Whether embeddings have length one.
    """

    def __init__(
        self, transformer: nn.Module, *, pad_id: int, pooling: Pooling, dense: Sequence[DenseLayer], normalize: bool
    ) -> None:
        super().__init__()
        self.transformer = transformer
        self.dense = nn.Sequential(*(
            nn.Sequential(nn.Linear(one.inputs, one.outputs, one.bias), _ACTIVATIONS[one.activation]()) for one in dense
        ))  # fmt: skip
        self.pad_id = pad_id
        self.pooling = pooling
        self.normalize = normalize

    def forward(self, input_ids: Tensor) -> Tensor:
        """Embeddings of a batch of texts."""
        embeddings: Tensor = self.dense(self.pooled(self.transformer(input_ids), input_ids))
        return functional.normalize(embeddings, dim=-1) if self.normalize else embeddings

    def pooled(self, states: Tensor, input_ids: Tensor) -> Tensor:
        """Of hidden states [b, seq, hidden], one vector a text [b, hidden]."""
        if self.pooling == "cls":
            return states[:, 0]
        real = torch.ne(input_ids, self.pad_id).unsqueeze(-1)
        if self.pooling == "max":
            return states.masked_fill(~real, _LOWEST).amax(1)
        weight = real.to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1).clamp_min(_LEAST_TOKENS)


def build_sentence(
    config: Mapping[str, Any], pooling: Pooling, dense: Sequence[DenseLayer], normalize: bool
) -> SentenceEncoder:
    """An encoder with new weights.

    Args:
        config: Of its transformer, with `pad_token_id`.
        pooling: As in `SentenceEncoder`, and so are
        dense: the layers behind it, and
        normalize: the length of what comes out.

    Raises:
        ModelError: transformers is missing, or cannot build it.
    """
    transformer = build_hf("feature-extraction", config)
    return SentenceEncoder(
        transformer, pad_id=config["pad_token_id"], pooling=pooling, dense=dense, normalize=normalize
    )
