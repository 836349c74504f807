"""Whether ONNX Runtime computes what torch computes, on real inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from compresslab.errors import ParityError
from compresslab.measure.measurement import Parity
from compresslab.measure.padding import trimmed

if TYPE_CHECKING:
    from collections.abc import Iterator

Array = npt.NDArray[np.float32]

_WORST = 3
_LEAST_AGREEMENT = 0.99
_LEAST_CORRELATION = 0.99
_LEAST_COSINE = 0.99
# Logits below one are rounding; scores and embeddings may be of any size.
_SMALLEST_SCORE = 1e-6
_QUANTIZED_TOLERANCE = 0.1
_TIE = 0.01
_BATCH = 256
_TEXTS = 32


def batches_of(inputs: npt.NDArray[Any], pad_id: int | None) -> Iterator[npt.NDArray[Any]]:
    """The inputs of a network in parts; of ids of tokens without the padding that no text of a part needs."""
    size = _BATCH if pad_id is None else _TEXTS
    for start in range(0, len(inputs), size):
        part = inputs[start : start + size]
        yield part if pad_id is None else trimmed(part, pad_id)


def torch_outputs(module: nn.Module, inputs: npt.NDArray[Any], pad_id: int | None = None) -> Array:
    """float32 [n, ...]: what a network in eval mode, on the CPU, gives for `inputs`; `pad_id` is that of texts."""
    with torch.no_grad():
        parts = [module(torch.from_numpy(batch)) for batch in batches_of(inputs, pad_id)]
    outputs: Array = torch.cat(parts).float().numpy()
    return outputs


def check_parity(
    torch_out: Array, onnx_out: Array, tolerance: float, *, quantized: bool, embedding: bool = False
) -> Parity:
    """The largest difference, if it is small enough.

    A float graph does the same arithmetic in another order: no difference may exceed `tolerance` times the largest
    magnitude among torch's outputs, or, of logits, times one if that is larger.

    A quantized graph ends on the next step of a grid wherever torch's float simulation falls near the middle between
    two, and one such step moves others. It must predict the same (the same largest output) for 99 % of the inputs,
    not counting those where torch's two candidates are closer than a hundredth of the largest magnitude, and no
    difference may exceed a tenth of it. Where there is one output, a score, neither says much, as it may lie far from
    zero: the two must be correlated by 0.99, and no difference may exceed a tenth of the range of torch's. Embeddings
    must point the same way, with a cosine of 0.99 for 99 % of the inputs, and no difference may exceed a tenth of the
    largest magnitude.

    Args:
        torch_out: float32 [n, outputs].
        onnx_out: float32 [n, outputs].
        tolerance: For float graphs.
        quantized: Which of the two rules holds.
        embedding: Whether the outputs are embeddings.

    Raises:
        ParityError: Names the worst examples by index, with both outputs.
    """
    if torch_out.shape != onnx_out.shape:
        raise ParityError(f"torch gives outputs of shape {torch_out.shape}, ONNX Runtime of {onnx_out.shape}")
    scale = float(np.abs(torch_out).max())
    is_score = torch_out.shape[1:] == (1,) and not embedding
    limit = tolerance * max(_SMALLEST_SCORE if is_score or embedding else 1.0, scale)
    if quantized:
        limit = (
            max(limit, _QUANTIZED_TOLERANCE * float(np.ptp(torch_out))) if is_score else _QUANTIZED_TOLERANCE * scale
        )
    # A NaN would compare as no difference at all.
    difference = np.nan_to_num(
        np.abs(torch_out - onnx_out).reshape(len(torch_out), -1).max(1), nan=np.inf, posinf=np.inf
    )
    largest = float(difference.max())
    if not largest <= limit:
        what = f"differ by {largest:.3g} where at most {limit:.3g} is allowed"
        raise ParityError(_explain(what, _largest(difference, limit), torch_out, onnx_out))
    if quantized and is_score:
        _require_correlation(torch_out, onnx_out, difference, limit)
    elif quantized and embedding:
        _require_directions(torch_out, onnx_out)
    elif quantized:
        margin = _margin_of_disagreement(torch_out, onnx_out)
        agreement = float((margin <= _TIE * scale).mean())
        if agreement < _LEAST_AGREEMENT:
            what = f"predict the same for only {agreement:.1%} of the inputs, where {_LEAST_AGREEMENT:.0%} is demanded"
            raise ParityError(_explain(what, _largest(margin, _TIE * scale), torch_out, onnx_out))
    return Parity(largest, len(torch_out))


def _require_correlation(torch_out: Array, onnx_out: Array, difference: Array, limit: float) -> None:
    """Of scores; where they are all the same but for rounding, no correlation exists, and none is asked for."""
    if np.ptp(torch_out) <= limit:
        return
    correlation = float(np.corrcoef(torch_out[:, 0], onnx_out[:, 0])[0, 1]) if np.ptp(onnx_out) > 0 else 0.0
    if correlation < _LEAST_CORRELATION:
        what = f"give scores that are correlated by only {correlation:.3f}, where {_LEAST_CORRELATION} is demanded"
        raise ParityError(_explain(what, _largest(difference, 0.0), torch_out, onnx_out))


def _require_directions(torch_out: Array, onnx_out: Array) -> None:
    lengths = np.linalg.norm(torch_out, axis=1) * np.linalg.norm(onnx_out, axis=1)
    products = (torch_out * onnx_out).sum(axis=1)
    cosines = np.divide(products, lengths, out=np.ones_like(products), where=lengths > 0)
    agreement = float((cosines >= _LEAST_COSINE).mean())
    if agreement < _LEAST_AGREEMENT:
        what = (
            f"give embeddings of one direction (cosine {_LEAST_COSINE}) for only {agreement:.1%} of the inputs, where "
            f"{_LEAST_AGREEMENT:.0%} is demanded"
        )
        raise ParityError(_explain(what, _largest(1 - cosines, 1 - _LEAST_COSINE), torch_out, onnx_out))


def _margin_of_disagreement(torch_out: Array, onnx_out: Array) -> Array:
    """float32 [n]: by how much torch prefers its own prediction to ONNX Runtime's; zero where they are the same."""
    rows = np.arange(len(torch_out))
    margin: Array = torch_out.max(1) - torch_out[rows, onnx_out.argmax(1)]
    return margin


def _largest(values: Array, limit: float) -> npt.NDArray[np.intp]:
    """The places of the values beyond the limit, largest first."""
    order = np.argsort(-values, kind="stable")
    return order[values[order] > limit]


def _explain(what: str, worst_first: npt.NDArray[np.intp], torch_out: Array, onnx_out: Array) -> str:
    examples = "; ".join(
        f"input {index}: torch {_row(torch_out[index])}, ONNX Runtime {_row(onnx_out[index])}"
        for index in worst_first[:_WORST]
    )
    return (
        f"torch and ONNX Runtime {what}, over {len(torch_out)} inputs. The worst: {examples}. An operator was exported "
        "wrongly, or the network computes something else when it is called again"
    )


def _row(values: Array) -> str:
    return np.array2string(values.ravel(), precision=4, threshold=12, max_line_width=10_000)
