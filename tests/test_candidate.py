"""The digest of a candidate is the key of everything that is made from it."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
from torch import nn

from compresslab.candidate import Candidate, OnnxModel, Step, TorchModel
from compresslab.errors import ModelError

MODEL = TorchModel(nn.Linear(2, 2), {"residual": {}})
ROOT = Candidate(MODEL, (Step("baseline", {}, {}, "a" * 64),))


def step(digest: str = "b" * 64) -> Step:
    return Step("prune", {"ratio": 0.5}, {"widths": [8]}, digest)


def test_then_appends_a_step_and_leaves_the_parent():
    made = ROOT.then(OnnxModel(Path("x.onnx")), step())
    assert [one.kind for one in made.lineage] == ["baseline", "prune"]
    assert len(ROOT.lineage) == 1
    assert ROOT.model is MODEL


def test_digest_is_of_every_step_and_of_nothing_else():
    made = ROOT.then(MODEL, step())
    assert made.digest == ROOT.then(TorchModel(nn.Linear(2, 2), None), step()).digest
    assert made.digest != ROOT.digest
    assert made.digest != ROOT.then(MODEL, step("c" * 64)).digest
    other_root = Candidate(MODEL, (Step("baseline", {}, {}, "d" * 64),))
    assert made.digest != other_root.then(MODEL, step()).digest
    swapped = Candidate(MODEL, tuple(reversed(made.lineage)))
    assert made.digest != swapped.digest


def test_a_graph_is_no_network():
    assert ROOT.network is MODEL
    with pytest.raises(ModelError, match="is an ONNX graph already"):
        _ = Candidate(OnnxModel(Path("x.onnx"))).network


def test_it_cannot_be_edited():
    with pytest.raises(FrozenInstanceError, match="cannot assign"):
        ROOT.model = OnnxModel(Path("x.onnx"))  # type: ignore[misc]
