import json
import math

import pytest
import torch

from compresslab.measure.measurement import Estimate
from compresslab.models import Residual
from compresslab.pruning.costs import Costs
from compresslab.pruning.finding import find_groups
from compresslab.pruning.layer_trace import layers_of
from compresslab.pruning.verdict import verdict

EXAMPLE = torch.zeros(2, 1, 16, 16)


class Steps:
    """Every block of 16 channels costs the same; 4 channels that do not fill a block of 8 cost twice."""

    def ms(self, layers):
        return {sized: self.one(sized.inputs) * self.one(sized.outputs) for sized in layers}

    def one(self, width):
        return 0.01 * math.ceil(width / 16) * (4 if width == 20 else 1)


@pytest.fixture(scope="module")
def costs():
    torch.manual_seed(0)
    module = Residual(widths=(16, 32)).build(10, 1).eval()
    return Costs(layers_of(module, EXAMPLE), find_groups(module, EXAMPLE), Steps())


def test_layers_that_got_narrower_on_one_step_are_named(costs):
    found = verdict(costs, {"stages.1.0.conv1": 24}, measured_share=Estimate(1.01, 0.99, 1.03))
    assert found.is_faster is False
    assert found.predicted_share == 1.0
    assert [one.layer for one in found.in_vain] == ["stages.1.0.conv1", "stages.1.0.conv2"]
    assert found.sentence.startswith("not faster: predicted 1.00 of the time, measured 1.01 [0.99, 1.03]; ")
    assert "`stages.1.0.conv1` 32 -> 24 outputs: the same time, as they lie on one step" in found.sentence
    assert "`stages.1.0.conv2` 32 -> 24 inputs: the same time" in found.sentence


def test_a_layer_that_got_slower_is_called_so(costs):
    found = verdict(costs, {"stages.1.0.conv1": 20}, measured_share=Estimate(1.4, 1.3, 1.5))
    assert "32 -> 20 outputs: slower, as they do not fill registers (0.0002 ms, then 0.0008 ms)" in found.sentence
    assert found.relative_error == pytest.approx(found.predicted_share / 1.4 - 1)


def test_layers_on_a_lower_step_are_not_named(costs):
    found = verdict(costs, {"stages.1.0.conv1": 16}, measured_share=Estimate(0.8, 0.7, 0.9))
    assert found.is_faster is True
    assert found.in_vain == ()
    assert "not faster" not in found.sentence


@pytest.mark.parametrize(("high", "faster"), [(1.0, False), (0.999, True)])
def test_an_interval_that_holds_one_is_not_faster(costs, high, faster):
    assert verdict(costs, {}, measured_share=Estimate(0.95, 0.9, high)).is_faster is faster


def test_removed_layers_are_not_narrowed_in_vain(costs):
    gone = {"stages.1.0.conv1", "stages.1.0.conv2"}
    assert verdict(costs, {"stages.1.0.conv1": 24}, gone).in_vain == ()


def test_it_is_plain_data_and_says_where_nothing_was_measured(costs):
    found = verdict(costs, {"stages.1.0.conv1": 24})
    assert found.sentence == "predicted 1.00 of the time, not measured"
    plain = json.loads(json.dumps(found.plain()))
    assert plain["verdict"] == "not measured"
    assert plain["narrowed_in_vain"][0] == {
        "layer": "stages.1.0.conv1",
        "before": [16, 32],
        "after": [16, 24],
        "ms": [0.0002, 0.0002],
    }
