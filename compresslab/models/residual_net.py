"""A residual network of basic blocks (He et al., CVPR 2016, arXiv 1512.03385) with a stem for small images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Sequence


class ResidualNet(nn.Module):
    """Images [b, in_channels, h, w] to logits [b, classes].

    It can be traced by torch.fx and exported with a dynamic batch: no shape is read, no branch depends on data.

    Args:
        classes: Outputs.
        in_channels: Channels of the images.
        widths: Channels of each stage.
        blocks: Basic blocks of each stage.
        strides: Stride of each stage's first block.
        stem: Width, kernel and stride of the first convolution.
        residual: Whether blocks add their input to their output.
    """

    def __init__(
        self,
        classes: int,
        in_channels: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[int],
        stem: tuple[int, int, int],
        residual: bool = True,
    ) -> None:
        super().__init__()
        width, kernel, stride = stem
        padding = kernel // 2 if kernel % 2 else 0
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel, stride, padding, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages = []
        for out, depth, first in zip(widths, blocks, strides, strict=True):
            stages.append(
                nn.Sequential(
                    *(BasicBlock(width if i == 0 else out, out, first if i == 0 else 1, residual) for i in range(depth))
                )
            )
            width = out
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images."""
        features = self.stages(self.stem(images))
        logits: Tensor = self.head(features.mean((2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and the input added to their output; through a 1x1 convolution where the shape changes."""

    def __init__(self, width: int, out: int, stride: int, residual: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module | None = None
        if residual and (stride != 1 or width != out):
            self.shortcut = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))
        elif residual:
            self.shortcut = nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Features [b, width, h, w] to [b, out, h / stride, w / stride]."""
        inner = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(features)))))
        if self.shortcut is not None:
            inner = inner + self.shortcut(features)
        out: Tensor = self.relu2(inner)
        return out
