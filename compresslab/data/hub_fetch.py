"""Fetches Fashion-MNIST from the Hugging Face hub and writes it as idx files: `python -m ... FOLDER`.

A process of its own: whatever the network libraries do, their caller can give up on it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from compresslab.data.idx import write_idx

REPOSITORY = "zalando-datasets/fashion_mnist"


def write_splits(splits: Any, folder: Path) -> None:
    """Writes a `datasets.DatasetDict` with `train` and `test`, each of images and labels, as the four idx files."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        rows = splits[split]
        images = np.stack([np.asarray(image.convert("L"), np.uint8) for image in rows["image"]])
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.asarray(rows["label"], np.uint8))


def main() -> None:
    """Fetches into the folder named by the first argument."""
    from datasets import load_dataset

    folder = Path(sys.argv[1])
    write_splits(load_dataset(REPOSITORY, cache_dir=str(folder / "hub")), folder)


if __name__ == "__main__":
    main()
