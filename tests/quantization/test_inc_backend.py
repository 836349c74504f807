import logging
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from compresslab.errors import DataError, ModelError
from compresslab.export.integer_operators import integer_operators
from compresslab.measure.session import SessionOptions, open_session
from compresslab.quantization import NeuralCompressorSettings, inc_backend, quantize_pt2e, require_neural_compressor

torch.manual_seed(0)
BATCHES = [torch.randn(8, 3, 8, 8) for _ in range(2)]


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.first(x)))
        return self.head(torch.relu(self.second(x)).mean((2, 3)))


def test_where_it_is_missing_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "neural_compressor", None)
    for name in [name for name in sys.modules if name.startswith("neural_compressor.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ModelError, match=r"needs Intel Neural Compressor.*pip install 'compresslab\[inc\]'"):
        require_neural_compressor()


@pytest.fixture
def installed():
    pytest.importorskip("torchao", reason="the extra `inc` is not installed")
    require_neural_compressor()


@pytest.mark.slow
def test_weights_are_stored_as_int8_and_it_says_nothing(installed, tmp_path, capfd, caplog):
    """The package logs at import and at every step, and exports float weights behind Q/DQ pairs."""
    module = Small().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    made = quantize_pt2e(module, tmp_path / "int8.onnx", BATCHES, "logits")
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert made.tuning is None
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    graph = onnx.load(str(made.model.path)).graph
    assert [output.name for output in graph.output] == ["logits"]
    weights = [tensor for tensor in graph.initializer if len(tensor.dims) > 1]
    assert Counter(tensor.data_type for tensor in weights) == {TensorProto.INT8: 3}
    found = integer_operators(made.model.path, SessionOptions())
    assert (found.integer, found.eligible) == (1, 4)
    images = BATCHES[0].numpy()
    given = open_session(made.model.path, SessionOptions(), 1).run(None, {"input": images})[0]
    expected = module(BATCHES[0]).detach().numpy()
    assert np.square(given - expected).mean() < 0.01 * np.square(expected).mean()


@pytest.mark.slow
@pytest.mark.parametrize("offset", [1.0, -5.0, 0.0])
def test_tuning_is_checked_again_where_it_missed_its_target(installed, tmp_path, offset):
    """It hands back a model then too. Of a quality that is zero or negative, its own idea of a loss is upside down."""
    module = Small().eval()
    expected = module(BATCHES[0]).detach()

    def quality(network):
        network.eval()
        with torch.no_grad():
            return offset - float((network(BATCHES[0]) - expected).square().mean())

    settings = NeuralCompressorSettings(tolerable_loss=1e-9)
    missed = quantize_pt2e(module, tmp_path / "a.onnx", BATCHES, "logits", settings, quality).tuning
    assert missed is not None
    assert (missed.met, missed.trials) == (False, 2)
    assert missed.floating == offset
    assert missed.reached < missed.target <= offset


@pytest.mark.slow
def test_tuning_stops_at_the_first_that_is_good_enough(installed, tmp_path):
    asked = []

    def quality(network):
        asked.append(network)
        return 0.9

    settings = NeuralCompressorSettings(tolerable_loss=0.01)
    tuning = quantize_pt2e(Small().eval(), tmp_path / "a.onnx", BATCHES, "logits", settings, quality).tuning
    assert tuning is not None
    assert (tuning.met, tuning.trials, tuning.target) == (True, 1, pytest.approx(0.891))


@pytest.mark.slow
def test_a_network_without_layers_is_refused(installed, tmp_path):
    with pytest.raises(ModelError, match="Flatten: Neural Compressor found nothing in it to quantize"):
        quantize_pt2e(nn.Flatten(), tmp_path / "a.onnx", BATCHES, "logits")


@pytest.mark.parametrize(
    ("batches", "message"),
    [([], "no calibration batches"), ([BATCHES[0], BATCHES[1] / 0], "batch 1 holds NaN or infinity")],
)
def test_bad_batches(monkeypatch, tmp_path, batches, message):
    monkeypatch.setattr(inc_backend, "require_neural_compressor", lambda: None)
    with pytest.raises(DataError, match=message):
        quantize_pt2e(Small(), tmp_path / "a.onnx", batches, "logits")
