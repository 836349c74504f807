"""What a sample is, is its content: hashes that find the same one again wherever it lies."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.data.stored_texts import StoredTexts

if TYPE_CHECKING:
    from compresslab.measure.preprocessing import Samples

Hashes = npt.NDArray[np.uint8]
Ids = npt.NDArray[np.uint64]


def sample_hashes(inputs: Samples | StoredTexts) -> Hashes:
    """SHA-256 of each sample's bytes, as uint8 [n, 32]; of a text those of its UTF-8, as it stands."""
    if isinstance(inputs, StoredTexts):
        return inputs.hashes
    hashes = np.empty((len(inputs), 32), np.uint8)
    for index, sample in enumerate(inputs):
        content = sample.encode() if isinstance(sample, str) else np.ascontiguousarray(sample).data
        hashes[index] = np.frombuffer(sha256(content).digest(), np.uint8)
    return hashes


def ids_of(hashes: Hashes) -> Ids:
    """The first eight bytes of each hash as a number, uint64 [n]."""
    return np.ascontiguousarray(hashes[:, :8]).view(">u8")[:, 0].astype(np.uint64)
