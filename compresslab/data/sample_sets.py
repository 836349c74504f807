"""Real data that scikit-learn carries, for first steps on a machine without network."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.datasets import load_digits


def digits() -> dict[str, Any]:
    """1,797 handwritten digits, 8x8 grey (UCI "Optical Recognition of Handwritten Digits"), as a `python:` source."""
    data = load_digits()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    return {
        "images": images[..., None],
        "labels": data.target.astype(np.int64),
        "label_names": [str(n) for n in range(10)],
    }
