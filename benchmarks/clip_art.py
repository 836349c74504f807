"""Unlabelled pictures that have nothing to do with clothes: Debian's openclipart-png, as 28x28 grey images."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from compresslab.data.debian import unpack_debian_package

PACKAGE = "openclipart-png"
SIDE = 28
# Posters of hundreds of megapixels take more time than all the others together.
_MOST_PIXELS = 4_000_000


def clip_art(cache: Path) -> Path:
    """The path of an .npz file with `images` uint8 [n, 28, 28, 1]: white strokes on black, as Fashion-MNIST has them.

    Fetched once, about 130 MB, and kept in `cache`.
    """
    kept = cache / "clip_art.npz"
    if kept.is_file():
        return kept
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        root = unpack_debian_package(PACKAGE, Path(scratch))
        images = [_read(path) for path in sorted(root.rglob("*.png"))]
        drawn = np.stack([image for image in images if image is not None and np.ptp(image) > 0])
        partial = Path(scratch) / "clip_art.npz"
        np.savez_compressed(partial, images=drawn[..., None])
        partial.replace(kept)
    return kept


def _read(path: Path) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(path)
        with opened as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            page = Image.new("RGBA", image.size, "white")
            page.alpha_composite(image.convert("RGBA"))
    # A few of the package's files are no pictures, or far too large.
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    grey = page.convert("L")
    grey.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    square = Image.new("L", (SIDE, SIDE), 255)
    square.paste(grey, ((SIDE - grey.width) // 2, (SIDE - grey.height) // 2))
    return 255 - np.asarray(square, np.uint8)
