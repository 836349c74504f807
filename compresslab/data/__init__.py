"""Data sets from disk and elsewhere, as plain arrays: sources, splits, augmentation. Needs no torch."""

from compresslab.data.arrays import Arrays, Source
from compresslab.data.augmentation import Augmentation
from compresslab.data.fashion_mnist import FashionMnist
from compresslab.data.features import Table, TableSource
from compresslab.data.splits import prove_disjoint

__all__ = ["Arrays", "Augmentation", "FashionMnist", "Source", "Table", "TableSource", "prove_disjoint"]
