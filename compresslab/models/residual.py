"""Settings of the built-in residual networks. Needs no torch until one is built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field, model_validator

from compresslab.settings import Ints, Settings

if TYPE_CHECKING:
    from compresslab.models.residual_net import ResidualNet

Width = Annotated[int, Field(ge=1)]


class Residual(Settings):
    """A residual network of basic blocks (He et al., CVPR 2016, arXiv 1512.03385) with a stem for small images."""

    widths: Annotated[tuple[Width, ...], Field(strict=False, min_length=1)]
    """Channels of each stage. Multiples of 8 or 16 fill the SIMD registers."""
    blocks: int | Ints = 1
    """Basic blocks, of two convolutions each, in every stage; or a list with one number a stage."""
    strides: Ints | None = None
    """Stride of each stage's first block. Null is 1 for the first stage and 2 for the others."""
    stem_width: int | None = Field(None, ge=1)
    """Channels of the first convolution; null takes those of the first stage."""
    stem_kernel: int = Field(3, ge=1)
    """Side of the first convolution. An odd one is padded to keep the size, an even one is not padded."""
    stem_stride: int = Field(1, ge=1)
    """Stride of the first convolution; 2 or more for large images."""
    residual: bool = True
    """Without the additions (false) a small network runs faster in INT8, and a deep one trains worse."""

    @model_validator(mode="after")
    def _check_stages(self) -> Residual:
        stages = len(self.widths)
        for name, values in (("blocks", self.blocks), ("strides", self.strides)):
            if isinstance(values, tuple) and len(values) != stages:
                raise ValueError(f"`{name}` must have one number for each of {stages} `widths`, but got {list(values)}")
            if values is not None and min(values if isinstance(values, tuple) else (values,)) < 1:
                raise ValueError(f"`1 <= {name}` must hold in every stage, but got {values}")
        return self

    def build(self, classes: int, in_channels: int) -> ResidualNet:
        """A network with new weights, drawn from torch's generator."""
        from compresslab.models.residual_net import ResidualNet

        stages = len(self.widths)
        return ResidualNet(
            classes,
            in_channels,
            widths=self.widths,
            blocks=self.blocks if isinstance(self.blocks, tuple) else (self.blocks,) * stages,
            strides=self.strides or (1,) + (2,) * (stages - 1),
            stem=(self.stem_width or self.widths[0], self.stem_kernel, self.stem_stride),
            residual=self.residual,
        )
