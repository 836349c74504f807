"""From a sample to what the network reads: one implementation for training, evaluation, gate and clients."""

from __future__ import annotations

import struct
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from pydantic import Discriminator, Field, Tag, model_validator

from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import TextPreprocessing, Texts
from compresslab.settings import Floats, Settings

if TYPE_CHECKING:
    from pathlib import Path

Samples: TypeAlias = npt.NDArray[np.uint8] | npt.NDArray[np.float32] | Texts
"""As a split holds them: images uint8 [n, height, width, channels], features float32 [n, width], or strings [n]."""

_RESAMPLING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}

Fit = Literal["stretch", "cover"]
"""How an image comes to a shape that is not its own: `stretch` changes the ratio of its sides, `cover` keeps it and
cuts off what sticks out, as much at one end as at the other."""

PixelInput = Literal["uint8-nhwc", "uint8-nchw", "float32-nhwc", "float32-nchw"]
"""How a graph that normalizes by itself takes raw pixels 0..255: their type, and where the channels are."""

# Pillow's decoders let these through on broken files, depending on the format and on where it is cut.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error)


class ImagePreprocessing(Settings):
    """How images become inputs: uint8 pixels, then `(pixel / 255 - mean) / std` per channel."""

    kind: Literal["image"] = "image"
    height: Annotated[int, Field(ge=1)]
    """Rows of the network's input, in pixels."""
    width: Annotated[int, Field(ge=1)]
    """Columns of the network's input, in pixels."""
    channels: Literal[1, 3]
    """1 for grey, 3 for RGB."""
    mean: Floats
    """Per channel, on the 0..1 scale."""
    std: Floats
    """Per channel, on the 0..1 scale."""
    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    """The filter; Pillow's, so it is antialiased when it shrinks."""
    crop: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """The central share of each side that is kept before resizing."""
    fit: Fit = "stretch"
    """Whether an image of another shape is stretched, or cut at both ends of its longer side (`cover`)."""
    folded: PixelInput | None = None
    """How the graph takes raw pixels, where it normalizes by itself; null where it takes what `normalize` gives."""

    @model_validator(mode="after")
    def _check_channels(self) -> ImagePreprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != self.channels:
                raise ValueError(f"`{name}` must have one value for each of {self.channels} channels, but got {values}")
        if min(self.std) <= 0:
            raise ValueError(f"`std > 0` must hold for every channel, but got {self.std}")
        return self

    def open(self, source: str | Path | bytes) -> npt.NDArray[np.uint8]:
        """Reads an image, upright by its EXIF orientation, as uint8 [height, width, channels].

        The central share `crop` of each side is resized to the input's size. The ratio of the sides is not kept, unless
        `fit` is `cover`.

        Args:
            source: A path, or the bytes of a file in any format Pillow reads.

        Raises:
            DataError: The file is missing, broken, not an image, or too large to decode safely.
        """
        name = "the image" if isinstance(source, bytes) else str(source)
        try:
            with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as image:
                _refuse_bomb(image, name)
                pixels = self._pixels(image)
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise DataError(f"{name}: {error}; shrink the image first") from error
        except _BROKEN as error:
            raise DataError(
                f"{name}: cannot be read as an image ({error}); give a PNG, JPEG or similar file"
            ) from error
        return pixels if self.channels == 3 else pixels[:, :, np.newaxis]

    def normalize(self, images: Samples) -> npt.NDArray[np.float32]:
        """Turns uint8 [n, height, width, channels] into C-contiguous float32 [n, channels, height, width].

        Raises:
            DataError: `images` has another type or shape.
        """
        self._require_pixels(images)
        result = np.empty((len(images), self.channels, self.height, self.width), np.float32)
        for channel, (mean, std) in enumerate(zip(self.mean, self.std, strict=True)):
            plane = result[:, channel]
            np.multiply(images[..., channel], np.float32(1.0 / (255.0 * std)), out=plane)
            plane -= np.float32(mean / std)
        return result

    def graph_input(self, images: Samples) -> npt.NDArray[Any]:
        """Turns uint8 [n, height, width, channels] into what the graph takes: normalized, or as `folded` says.

        Raises:
            DataError: `images` has another type or shape.
        """
        if self.folded is None:
            return self.normalize(images)
        self._require_pixels(images)
        dtype, layout = self.folded.split("-")
        ordered = images if layout == "nhwc" else images.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(ordered, dtype=dtype)

    def _require_pixels(self, images: Samples) -> None:
        expected = (self.height, self.width, self.channels)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != expected:
            raise DataError(
                f"images must be uint8 [n, {self.height}, {self.width}, {self.channels}] (rows, columns, channels, "
                f"raw pixels 0..255), but got {images.dtype} {list(images.shape)}{_remedy(images, expected)}"
            )

    def _pixels(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            # Pillow clips 16 bits to 255 on conversion; the eight high bits are the picture.
            upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
        converted = upright.convert("L" if self.channels == 1 else "RGB")
        resized = converted.resize((self.width, self.height), _RESAMPLING[self.resize], box=self._box(*converted.size))
        return np.array(resized, dtype=np.uint8)

    def _box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """What is kept of an image of this size: left, top, right, bottom."""
        kept: tuple[float, float] = (width, height)
        if self.fit == "cover":
            scale = min(width / self.width, height / self.height)
            kept = (scale * self.width, scale * self.height)
        left, top = (
            (side - part + part * (1.0 - self.crop)) / 2.0 for side, part in zip((width, height), kept, strict=True)
        )
        return left, top, width - left, height - top


class FeaturePreprocessing(Settings):
    """How rows of features become inputs: `(feature - mean) / std` for each, or as they are where no mean is given."""

    kind: Literal["features"] = "features"
    width: Annotated[int, Field(ge=1)]
    """Features of a sample."""
    mean: Floats = ()
    """Of each feature; empty for features that the network reads as they are."""
    std: Floats = ()
    """Of each feature; empty as `mean` is."""

    @model_validator(mode="after")
    def _check_width(self) -> FeaturePreprocessing:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, self.width):
                raise ValueError(
                    f"`{name}` must have one value for each of {self.width} features, but has {len(values)}"
                )
        if len(self.mean) != len(self.std):
            raise ValueError("`mean` and `std` must both be given, or neither")
        if self.std and min(self.std) <= 0:
            raise ValueError("`std > 0` must hold for every feature")
        return self

    def graph_input(self, features: Samples) -> npt.NDArray[np.float32]:
        """What the graph takes: the same as `normalize`."""
        return self.normalize(features)

    def normalize(self, features: Samples) -> npt.NDArray[np.float32]:
        """Turns float32 [n, width] into C-contiguous float32 [n, width], always a copy.

        Raises:
            DataError: `features` has another type or shape, or holds NaN or infinity.
        """
        if features.dtype != np.float32 or features.ndim != 2 or features.shape[1] != self.width:
            raise DataError(
                f"features must be float32 [n, {self.width}], but got {features.dtype} {list(features.shape)}"
                f"{_feature_remedy(features, self.width)}"
            )
        broken = np.flatnonzero(~np.isfinite(features).all(axis=1))
        if len(broken):
            raise DataError(
                f"{len(broken)} of {len(features)} rows of features hold NaN or infinity (the first: {broken[0]}); "
                "fill them in as it was done for the training data"
            )
        result = np.array(features, np.float32, order="C")
        if self.mean:
            result -= np.asarray(self.mean, np.float32)
            result /= np.asarray(self.std, np.float32)
        return result


def _kind_of(plain: Any) -> str:
    """Which preprocessing it is; one that says no kind is of images, which were first."""
    return str(plain.get("kind", "image") if isinstance(plain, dict) else getattr(plain, "kind", "image"))


Preprocessing = Annotated[
    Annotated[ImagePreprocessing, Tag("image")]
    | Annotated[FeaturePreprocessing, Tag("features")]
    | Annotated[TextPreprocessing, Tag("text")],
    Discriminator(_kind_of),
]
"""How samples become inputs. Told apart by `kind`, in manifests too."""


def _refuse_bomb(image: Image.Image, name: str) -> None:
    """Pillow only warns up to twice its limit; a data set has no business there."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise DataError(
            f"{name}: {image.width} x {image.height} pixels are more than the {limit} that are decoded; "
            "shrink the image first"
        )


def _feature_remedy(features: Samples, width: int) -> str:
    if features.shape == (width,):
        return "; add the first axis: features[numpy.newaxis]"
    if features.dtype != np.float32 and features.ndim == 2 and features.shape[1] == width:
        return "; use `features.astype(numpy.float32)`"
    return "; give the features that the model was trained on, in their order"


def _remedy(images: Samples, expected: tuple[int, int, int]) -> str:
    if images.dtype != np.uint8:
        return "; do not scale the pixels, this does it"
    if images.shape == expected:
        return "; add the first axis: images[np.newaxis]"
    if expected[2] == 1 and images.ndim == 3 and images.shape[1:] == expected[:2]:
        return "; add the last axis: images[..., np.newaxis]"
    if images.ndim == 4 and (images.shape[2], images.shape[3], images.shape[1]) == expected:
        return "; the channels come last: images.transpose(0, 2, 3, 1)"
    return "; `open` reads a file into this shape"
