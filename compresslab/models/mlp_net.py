"""Fully connected layers that answer in the units of their targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class MlpNet(nn.Module):
    """Features [b, inputs] to answers [b, outputs].

    Args:
        outputs: Numbers a sample is answered with.
        inputs: Features of a sample.
        widths: Outputs of each hidden layer.
        activation: After each hidden layer.
        dropout: Share of the hidden values that is set to zero in training.
        center: Added to what the last layer gives,
        scale: after it was multiplied by this. Weights then stay of the usual size whatever the targets' units are,
            and so do their gradients. Exported, both are part of the last layer's weights.
    """

    def __init__(
        self,
        outputs: int,
        inputs: int,
        *,
        widths: Sequence[int],
        activation: Literal["relu", "gelu"] = "relu",
        dropout: float = 0.0,
        center: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = inputs
        for out in widths:
            layers += [nn.Linear(width, out), nn.ReLU() if activation == "relu" else nn.GELU()]
            layers += [nn.Dropout(dropout)] * (dropout > 0)
            width = out
        self.hidden = nn.Sequential(*layers)
        self.head = nn.Linear(width, outputs)
        self.center = center
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Answers for a batch of features."""
        answers: Tensor = self.head(self.hidden(features))
        if (self.center, self.scale) == (0.0, 1.0):
            return answers
        # Under a bfloat16 autocast a center of 300 would leave steps of 2 between one answer and the next.
        return answers.float() * self.scale + self.center
