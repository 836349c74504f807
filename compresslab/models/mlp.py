"""Settings of the built-in networks of fully connected layers. Needs no torch until one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compresslab.settings import Settings

if TYPE_CHECKING:
    from compresslab.models.mlp_net import MlpNet

Width = Annotated[int, Field(ge=1)]


class Mlp(Settings):
    """Fully connected layers for rows of features."""

    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1)]
    """Outputs of each hidden layer. Multiples of 8 or 16 fill the SIMD registers."""
    activation: Literal["relu", "gelu"] = "relu"
    """After each hidden layer. An integer kernel computes `relu` for nothing; `gelu` stays in float."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Share of the hidden values that is set to zero in training."""

    def build(self, outputs: int, inputs: int, center: float = 0.0, scale: float = 1.0) -> MlpNet:
        """A network with new weights, drawn from torch's generator; its answers are `center + scale * ...`."""
        from compresslab.models.mlp_net import MlpNet

        return MlpNet(
            outputs,
            inputs,
            widths=self.widths,
            activation=self.activation,
            dropout=self.dropout,
            center=center,
            scale=scale,
        )
