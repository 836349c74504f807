"""Whether ONNX Runtime's integers answer as the fake-quantized network does that was calibrated or trained."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import ParityError
from compresslab.measure.measurement import Fidelity
from compresslab.measure.metric_names import CLASS_METRICS
from compresslab.measure.metrics import METRICS

if TYPE_CHECKING:
    Array = npt.NDArray[np.float32]

# Half a point: more than twice what quantization-aware training may lose.
_ALLOWED = 0.005
_SIGMAS = 3.0
# As for parity, but ties count here: a network that is undecided on more than this flips with every rounding.
_LEAST_AGREEMENT = 0.98


def check_fidelity(torch_out: Array, onnx_out: Array, targets: npt.NDArray[np.generic], metric: str) -> Fidelity:
    """The task's metric of both sides on the same inputs, if they are alike.

    Both compute on the same grid, and differ where a value falls near the middle between two steps. That changes
    answers which were nearly a tie, in either direction alike: of d examples that only one side has right, the balance
    is zero with a deviation of sqrt(d). So the metric may differ by half a point and three such deviations; more is no
    rounding but a fault, such as products that saturate, weights that another grid was used for, or a quantizer that
    was dropped. Of retrieval the balance of the queries counts likewise, each by how much its answer has changed. The
    answers must agree on 98 % of the inputs, scores, and cosines between embeddings, be correlated by as much.

    Args:
        torch_out: float32 [n, outputs], of the fake-quantized network.
        onnx_out: float32 [n, outputs], of ONNX Runtime.
        targets: Class indices, groups or scores [n].
        metric: The task's, by its name.

    Raises:
        ParityError: They differ by more.
    """
    how = METRICS[metric]
    ours, theirs = how.value(torch_out, targets), how.value(onnx_out, targets)
    agreement = how.agreement(torch_out, onnx_out)
    allowed = _ALLOWED
    if how.mean_of_shares and metric not in CLASS_METRICS:
        one, other = (how.outcomes(outputs, targets) for outputs in (torch_out, onnx_out))
        allowed += _SIGMAS * math.sqrt(float(((one - other) ** 2).sum())) / len(one)
    elif metric in CLASS_METRICS:
        right = [outputs.argmax(1) == targets for outputs in (torch_out, onnx_out)]
        allowed += _SIGMAS * math.sqrt(int((right[0] != right[1]).sum())) / len(targets)
    if not abs(ours - theirs) <= allowed:
        raise ParityError(
            f"the fake-quantized network has {metric} {ours:.4f} on {len(targets)} inputs, its ONNX file {theirs:.4f}; "
            f"rounding explains a difference of {allowed:.4f} at most. {_CAUSES}"
        )
    if not agreement >= _LEAST_AGREEMENT:
        raise ParityError(
            f"the fake-quantized network and its ONNX file agree by only {agreement:.3f} on {len(targets)} inputs, "
            f"where {_LEAST_AGREEMENT} is demanded. {_CAUSES}"
        )
    return Fidelity(metric, ours, theirs, agreement, allowed, len(targets))


_CAUSES = (
    "An operator is quantized otherwise than it was simulated: on a processor without VNNI sums of products saturate "
    "(see `compresslab doctor`); else keep operators in float with `keep_float`, and report this"
)
