"""What an index of a model's embeddings takes, and what is still found in it when its vectors are int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.measure.groups import is_query
from compresslab.measure.measurement import IndexEffects
from compresslab.measure.quality import quality, quality_delta

if TYPE_CHECKING:
    from compresslab.measure.metrics import Metric, Outputs, Targets

_LARGEST = 127


def index_effects(metric: Metric, outputs: Outputs, targets: Targets) -> IndexEffects:
    """The size of a vector, and the quality where the documents' vectors are kept as int8.

    Documents are brought to length 1 and rounded to 255 steps a dimension (see `int8_vectors`); queries stay in
    float32, as they are not stored.

    Args:
        metric: One of retrieval.
        outputs: Embeddings of queries and documents, [n, width].
        targets: Their groups [n].

    Raises:
        DataError: Nothing can be found in them.
    """
    documents = ~is_query(targets)
    codes, scales = int8_vectors(outputs[documents])
    rounded = outputs.copy()
    rounded[documents] = codes * scales
    width = outputs.shape[1]
    return IndexEffects(
        width=width,
        bytes_float32=4 * width,
        bytes_int8=width,
        int8=quality(metric, rounded, targets),
        int8_delta=quality_delta(metric, rounded, outputs, targets),
    )


def int8_vectors(documents: Outputs) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Vectors [n, width] at length 1 as whole numbers, and what one step is worth in each dimension [width].

    Symmetric: 0 stays 0, and the largest magnitude of a dimension among the documents is 127.
    """
    exact = documents.astype(np.float64)
    length = np.linalg.norm(exact, axis=1, keepdims=True)
    unit = np.divide(exact, length, out=np.zeros_like(exact), where=length > 0)
    largest = np.abs(unit).max(axis=0)
    scales = np.where(largest > 0, largest / _LARGEST, 1.0)
    return np.rint(unit / scales).astype(np.int8), scales.astype(np.float32)
