"""The bound between the fake-quantized network and its file: rounding passes, a fault does not."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.errors import ParityError
from compresslab.export.fidelity import check_fidelity

TARGETS = np.arange(512) % 4
RIGHT = np.eye(4, dtype=np.float32)[TARGETS]


def changed(rows: slice) -> np.ndarray:
    """The right answers, but for these rows."""
    outputs = RIGHT.copy()
    outputs[rows] = np.roll(outputs[rows], 1, axis=1)
    return outputs


def test_the_same_outputs_are_faithful() -> None:
    found = check_fidelity(RIGHT, RIGHT, TARGETS, "accuracy")
    assert (found.torch, found.onnx, found.agreement, found.n) == (1.0, 1.0, 1.0, 512)
    assert found.allowed == 0.005


def test_flips_in_both_directions_are_rounding() -> None:
    """Four examples each way: the metric is the same, and answers agree on 98.4 %."""
    found = check_fidelity(changed(slice(0, 4)), changed(slice(4, 8)), TARGETS, "accuracy")
    assert found.torch == found.onnx
    assert found.agreement == pytest.approx(1 - 8 / 512)


def test_a_loss_of_what_luck_cannot_explain_is_a_fault() -> None:
    """Twenty examples that only torch has right: luck would be at most 13 and half a point."""
    message = r"has accuracy 1\.0000 on 512 inputs, its ONNX file 0\.9609; rounding explains .* 0\.0312 at most"
    with pytest.raises(ParityError, match=message):
        check_fidelity(RIGHT, changed(slice(0, 20)), TARGETS, "accuracy")


def test_many_flips_are_a_fault_even_where_they_cancel() -> None:
    with pytest.raises(ParityError, match=r"agree by only 0\.922 on 512 inputs, where 0\.98 is demanded"):
        check_fidelity(changed(slice(0, 20)), changed(slice(20, 40)), TARGETS, "accuracy")


def test_scores() -> None:
    scores = np.linspace(-1, 1, 64, dtype=np.float32)[:, np.newaxis]
    rounded = np.round(scores * 100) / 100
    assert check_fidelity(scores, rounded, scores[:, 0], "pearson").agreement > 0.99
    noisy = scores + np.random.default_rng(0).normal(0, 0.3, scores.shape).astype(np.float32)
    with pytest.raises(ParityError, match="its ONNX file 0"):
        check_fidelity(scores, noisy, scores[:, 0], "pearson")
