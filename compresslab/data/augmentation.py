"""Random changes of images that keep their label, each derived from (sample id, seed)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from compresslab.data.randomness import integers, uniform
from compresslab.settings import Settings

# A stream for each draw: a new kind of augmentation takes a new number, so that it changes nothing else.
_FLIP, _SHIFT_Y, _SHIFT_X, _ERASE, _ERASE_AREA, _ERASE_ASPECT, _ERASE_Y, _ERASE_X = range(8)

_ERASED_AREA = (0.02, 0.25)
_LEAST_ASPECT = 0.3


class Augmentation(Settings):
    """What is done to training images. The default changes nothing."""

    shift: int = Field(0, ge=0)
    """Moves by up to this many pixels each way; what comes into view is black."""
    flip: bool = False
    """Mirrors left and right, half of the time."""
    erase: float = Field(0.0, ge=0, le=1)
    """Probability that a rectangle of 2-25 % of the image is made black (Zhong et al., AAAI 2020)."""

    @property
    def changes_nothing(self) -> bool:
        """Whether `apply` returns its inputs as they are."""
        return not (self.shift or self.flip or self.erase)

    def apply(self, inputs: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint8]:
        """Augmented copies. The same sample with the same seed gives the same bytes in any batch.

        Args:
            inputs: Images [n, h, w, c]; left as they are.
            ids: Their ids [n].
            seed: One for each view of the data.
        """
        images = np.array(inputs, np.uint8, order="C")
        if self.flip:
            mirrored = uniform(ids, seed, _FLIP) < 0.5
            images[mirrored] = images[mirrored, :, ::-1]
        if self.shift:
            images = self._shifted(images, ids, seed)
        if self.erase:
            self._erase(images, ids, seed)
        return images

    def _shifted(self, images: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint8]:
        n, height, width, channels = images.shape
        most = self.shift
        padded = np.zeros((n, height + 2 * most, width + 2 * most, channels), np.uint8)
        padded[:, most : most + height, most : most + width] = images
        windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
        top = integers(ids, seed, _SHIFT_Y, 0, 2 * most)
        left = integers(ids, seed, _SHIFT_X, 0, 2 * most)
        # The windows are [n, 2s+1, 2s+1, c, h, w]: one is chosen for each image, and channels go last again.
        return np.ascontiguousarray(windows[np.arange(n), top, left].transpose(0, 2, 3, 1))

    def _erase(self, images: npt.NDArray[np.uint8], ids: npt.NDArray[np.uint64], seed: int) -> None:
        chosen = np.flatnonzero(uniform(ids, seed, _ERASE) < self.erase)
        height, width = images.shape[1:3]
        some = ids[chosen]
        low, high = _ERASED_AREA
        area = (low + (high - low) * uniform(some, seed, _ERASE_AREA)) * height * width
        # Half are upright, half lie. Only exactly rounded operations: a vectorised exp may round a sample's last bit
        # differently at another place of the batch.
        drawn = 2 * uniform(some, seed, _ERASE_ASPECT)
        aspect = _LEAST_ASPECT + (1 - _LEAST_ASPECT) * (drawn % 1.0)
        aspect = np.where(drawn < 1, aspect, 1 / aspect)
        tall = np.clip(np.rint(np.sqrt(area * aspect)), 1, height).astype(np.int64)
        broad = np.clip(np.rint(np.sqrt(area / aspect)), 1, width).astype(np.int64)
        top = (uniform(some, seed, _ERASE_Y) * (height - tall + 1)).astype(np.int64)
        left = (uniform(some, seed, _ERASE_X) * (width - broad + 1)).astype(np.int64)
        rows, columns = np.arange(height), np.arange(width)
        inside = ((rows >= top[:, None]) & (rows < (top + tall)[:, None]))[:, :, None] & (
            (columns >= left[:, None]) & (columns < (left + broad)[:, None])
        )[:, None, :]
        images[chosen] = np.where(inside[..., None], np.uint8(0), images[chosen])
