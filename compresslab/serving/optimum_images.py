"""What transformers needs to know of images to make of them what a model was trained on: `preprocessor_config.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compresslab.measure.preprocessing import ImagePreprocessing

PREPROCESSOR = "preprocessor_config.json"
IMAGES = "pixel_values"
_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers for filters, by which processors know them."""


def image_processor(how: ImagePreprocessing) -> dict[str, Any] | None:
    """`preprocessor_config.json` that makes AutoImageProcessor do the same; None of grey images, which none takes."""
    if how.channels == 1:
        return None
    plain: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": how.height, "width": how.width},
        "resample": _RESAMPLE[how.resize],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
    if how.crop == 1.0:
        return plain
    return plain | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"height": _uncropped(how.height, how.crop), "width": _uncropped(how.width, how.crop)},
        "do_center_crop": True,
        "crop_size": {"height": how.height, "width": how.width},
    }


def image_notes(how: ImagePreprocessing) -> list[str]:
    """What no processor can do as it was done in training."""
    if how.channels == 1:
        return [
            f"no {PREPROCESSOR}: no image processor of transformers' takes grey images; prepare them as this card says"
        ]
    if any(abs(side / how.crop - _uncropped(side, how.crop)) > 1e-6 * side for side in (how.height, how.width)):
        return [
            f"the central {100 * how.crop:g} % of an image is no whole number of pixels in {PREPROCESSOR}, which "
            "resizes first: inputs are shifted by up to half a pixel; measure that on your data, or crop images before"
        ]
    return []


def _uncropped(side: int, crop: float) -> int:
    """Pixels to resize a whole side to, so that its middle is `side` pixels; what is cut off is even."""
    return side + 2 * round((side / crop - side) / 2)
