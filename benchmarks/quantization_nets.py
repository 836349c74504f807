"""Networks that quantize differently from residual ones: inverted bottlenecks with ReLU6, and a small transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Output channels, stride and repeats of each group of blocks: MobileNetV2's first, at an eighth of its input size.
_BLOCKS = ((16, 1, 1), (24, 2, 2), (40, 2, 3), (80, 1, 2))
_EXPANSION, _STEM, _LAST = 4, 16, 320
_PATCH, _SIZE = 4, 28


def mobilenet(classes: int = 10) -> nn.Module:
    """Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018, made for 28x28 grey."""
    parts: list[nn.Module] = [_convolution(1, _STEM, 3, 1)]
    channels = _STEM
    for width, stride, repeats in _BLOCKS:
        for index in range(repeats):
            parts.append(_Bottleneck(channels, width, stride if index == 0 else 1))
            channels = width
    parts += [_convolution(channels, _LAST, 1, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(_LAST, classes)]
    return nn.Sequential(*parts)


def vision_transformer(width: int = 96, depth: int = 4, heads: int = 3, classes: int = 10) -> nn.Module:
    """Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, with 4x4 patches and their mean as the answer."""
    return _VisionTransformer(width, depth, heads, classes)


def _convolution(
    given: int, made: int, size: int, stride: int, *, depthwise: bool = False, clip: bool = True
) -> nn.Module:
    groups = given if depthwise else 1
    layer = nn.Conv2d(given, made, size, stride, size // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(made), *([nn.ReLU6()] if clip else []))


class _Bottleneck(nn.Module):
    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        inner = given * _EXPANSION
        self.layers = nn.Sequential(
            _convolution(given, inner, 1, 1),
            _convolution(inner, inner, 3, stride, depthwise=True),
            _convolution(inner, made, 1, 1, clip=False),
        )
        self.adds = given == made and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return x + made if self.adds else made


class Attention(nn.Module):
    """Attention of a sequence [n, length, width] with itself; `bias` [n, 1, 1, length] is added to the scores."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """As `x`."""
        query, key, value = (self._split(part(x)) for part in (self.query, self.key, self.value))
        scores = query @ key.transpose(-1, -2) * self.size**-0.5
        if bias is not None:
            scores = scores + bias
        mixed = scores.softmax(-1) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, self.size)).transpose(1, 2)  # type: ignore[no-any-return, no-untyped-call]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.before(x))
        return x + self.mlp(self.between(x))  # type: ignore[no-any-return]


class _VisionTransformer(nn.Module):
    def __init__(self, width: int, depth: int, heads: int, classes: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, _PATCH, stride=_PATCH)
        self.position = nn.Parameter(torch.randn(1, (_SIZE // _PATCH) ** 2, width) * 0.02)
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))  # type: ignore[no-any-return]
