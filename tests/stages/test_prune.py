"""The prune stage: what it reaches, what it decides, and what it refuses. CountingClock makes time a count."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from compresslab.candidate import Candidate, TorchModel
from compresslab.distillation import Recipe
from compresslab.errors import ModelError
from compresslab.measure.measurement import Estimate
from compresslab.models import architecture
from compresslab.pruning import Timing
from compresslab.pruning.damage import reestimate
from compresslab.stages import Prune
from compresslab.testing import CountingClock, context, tiny_candidate, tiny_task

OWN = f"{Path(__file__).parent.parent / 'pruning' / 'own_importance.py'}:by_number"
SHORT = Recipe(epochs=1, batch=64, learning_rate=0.05, precision="fp32")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return tiny_task(tmp_path_factory.mktemp("task"))


@pytest.fixture
def around(task, tmp_path):
    return context(tmp_path, task)


@pytest.fixture
def candidate():
    return tiny_candidate((16, 32))


def applied(stage, candidate, around):
    (found,) = stage.apply(candidate, around)
    return found, found.lineage[-1].decisions


def parameters(candidate):
    return sum(parameter.numel() for parameter in candidate.network.module.parameters())


class Forbidden:
    """A clock that must not be asked."""

    def table(self, *asked):
        raise AssertionError("a replayed decision asks no clock")

    measure = beside = table


class Optimistic(CountingClock):
    """Networks take longer than their layers say: by as much more as they were cut."""

    def __init__(self, task):
        super().__init__(task)
        self.asked = []

    def measure(self, models):
        first, *others = super().measure(models)
        self.asked.append(len(models))
        slower = [Timing(one.ms, Estimate(*(value**0.7 for value in (one.share.value,) * 3))) for one in others]
        return (first, *slower)


def test_a_share_of_the_time_is_met_by_measurement(candidate, around):
    """The search must not stop at a prediction that the measurement belies."""
    clock = Optimistic(around.task)
    found, decisions = applied(Prune(latency=0.6, round_to=2, recover=None), candidate, replace(around, clock=clock))
    record = decisions["latency"]
    assert record["measured"]["value"] <= 0.6 * 1.02
    assert len(record["attempts"]) > 1, "the first is too slow by construction"
    assert record["attempts"][0]["measured"]["value"] > 0.6 * 1.02
    assert record["verdict"]["verdict"] == "faster"
    assert clock.measure([candidate.network, found.network])[1].share.value == pytest.approx(
        record["measured"]["value"]
    )
    assert {group["name"] for group in decisions["sensitivity"]["groups"]} >= set(decisions["widths"])


def test_a_time_in_milliseconds_is_met(candidate, around):
    (whole,) = around.clock.measure([candidate.network])
    found, decisions = applied(Prune(latency_ms=whole.ms / 2, round_to=2, recover=None), candidate, around)
    assert around.clock.measure([found.network])[0].ms <= whole.ms / 2 * 1.02
    assert decisions["latency"]["asked"] == pytest.approx(0.5, abs=1e-6)


def test_a_decision_is_followed_without_a_clock(candidate, around):
    """What lock.yaml replays must give the same network on a machine that is busy, or another one."""
    stage = Prune(latency=0.5, round_to=2, blocks="auto", steps=2, recover=None)
    found, decisions = applied(stage, candidate, around)
    again, replayed = applied(stage, candidate, replace(around, clock=Forbidden(), decided=(decisions,)))
    assert replayed == decisions
    assert architecture.digest(again.network) == architecture.digest(found.network)


def test_a_decision_that_makes_no_sense_is_refused(candidate, around):
    stage = Prune(latency=0.5, round_to=2, recover=None)
    for wrong, words in (
        ({}, "does not name the units"),
        ({"units": {"no": 3}, "removed": []}, "does not name the units"),
        ({"units": {"stem.0": 0}, "removed": []}, "cannot keep none"),
    ):
        decided = ({"latency": wrong},)
        with pytest.raises(ModelError, match=words):
            stage.apply(candidate, replace(around, clock=Forbidden(), decided=decided))
    with pytest.raises(ModelError, match="decisions for 2 steps of 1"):
        stage.apply(candidate, replace(around, decided=({"latency": {"steps": [{}]}},)))


def test_a_time_that_no_widths_reach_is_told_with_what_is_in_the_way(candidate, around):
    with pytest.raises(ModelError, match=r"no width of its \d groups makes the network run in .* the least is"):
        Prune(latency=0.001, round_to=8, recover=None).apply(candidate, around)


@pytest.mark.parametrize(
    ("stage", "share"),
    [
        (Prune(parameters=0.5, round_to=1, recover=None), 0.5),
        (Prune(parameters=0.5, round_to=1, steps=3, recover=None), 0.5),
        (Prune(parameters=0.3, round_to=1, scope="local", importance="lamp", recover=None), 0.3),
        (Prune(parameters=0.6, round_to=1, scope="sensitivity", recover=None), 0.6),
    ],
    ids=["global", "steps", "local", "sensitivity"],
)
def test_a_share_of_the_parameters_is_left(stage, share, candidate, around):
    found, decisions = applied(stage, candidate, around)
    assert parameters(found) / parameters(candidate) == pytest.approx(share, abs=0.04)
    assert decisions["left"]["parameters"] == pytest.approx(parameters(found) / parameters(candidate), abs=2e-3)
    assert decisions["kept_whole"] == {"head": "its channels are the network's outputs"}


def test_ratio_is_what_channels_leaves(candidate, around):
    one, _ = applied(Prune(ratio=0.25, round_to=2, recover=None), candidate, around)
    other, _ = applied(Prune(channels=0.75, round_to=2, recover=None), candidate, around)
    assert architecture.digest(one.network) == architecture.digest(other.network)


def test_every_step_is_followed_by_a_recovery(candidate, around):
    _, decisions = applied(Prune(ratio=0.5, round_to=2, steps=3, recover=SHORT), candidate, around)
    assert len(decisions["loss"]) == 3


@pytest.mark.parametrize(
    ("stage", "refits"),
    [
        (Prune(parameters=0.5, round_to=1, reconstruct=True, recover=None), 1),
        (Prune(latency=0.5, round_to=2, blocks="auto", steps=2, reconstruct=True, recover=None), 2),
        (Prune(blocks=1, parameters=0.6, round_to=1, reconstruct=True, recover=None), 2),
    ],
    ids=["parameters", "latency", "blocks"],
)
def test_what_is_refitted_answers_more_like_what_was_cut(stage, refits, candidate, around):
    """Every cut is followed by a refit, of blocks as well; the argument and the cut itself are what they were."""
    # As training leaves it: statistics that are those of its inputs.
    reestimate(candidate.network.module, torch.from_numpy(around.task.batch("train", np.arange(48), None)))
    before = architecture.digest(candidate.network)
    found, decisions = applied(stage, candidate, around)
    plain, undone = applied(stage.model_copy(update={"reconstruct": False}), candidate, around)
    records = decisions["reconstruction"]
    assert len(records) == refits
    assert "reconstruction" not in undone
    assert all(record["layers"] > 0 for record in records)
    assert records[0]["damage"] < records[0]["damage_before"]
    assert architecture.digest(found.network) != architecture.digest(plain.network)
    assert architecture.digest(candidate.network) == before


def test_a_refit_that_brings_nothing_nearer_is_undone(candidate, around, monkeypatch):
    def spoil(smaller, *_whole, **_settings):
        torch.nn.init.zeros_(smaller.head.weight)
        return ("head",)

    stage = Prune(parameters=0.5, round_to=1, reconstruct=True, recover=None)
    plain, _ = applied(stage.model_copy(update={"reconstruct": False}), candidate, around)
    monkeypatch.setattr("compresslab.stages.prune.reconstruct", spoil)
    found, decisions = applied(stage, candidate, around)
    (record,) = decisions["reconstruction"]
    assert record["damage"] >= record["damage_before"]
    assert architecture.digest(found.network) == architecture.digest(plain.network)


def test_a_block_goes_and_the_network_is_rebuilt_without_it(around, tmp_path):
    from compresslab.models import ModelSpec, Residual, Signature

    model = ModelSpec(residual=Residual(widths=(8, 8), blocks=2)).build(Signature("images", 1, 3), 0)
    start = Candidate(model, tiny_candidate().lineage)
    found, decisions = applied(Prune(blocks=1, recover=None), start, around)
    (gone,) = decisions["removed_blocks"]
    assert gone in ("stages.0.0", "stages.0.1", "stages.1.1")
    assert decisions["block_damage"][gone] >= 0
    assert len(start.network.module.stages[0]) == 2, "the argument is left as it was"
    architecture.save(found.network, tmp_path / "pruned")
    example = torch.from_numpy(around.task.batch("validation", [0, 1], None))
    again = architecture.load(tmp_path / "pruned")
    torch.testing.assert_close(again.module(example), found.network.module(example), rtol=0, atol=0)


def test_more_blocks_than_there_are_is_told(candidate, around):
    with pytest.raises(ModelError, match=r"`blocks: 3`: no block can be removed once 1 are gone; `stages\.0\.0`: "):
        Prune(blocks=3, recover=None).apply(candidate, around)


def test_an_importance_of_the_users_own_decides(candidate, around):
    stage = Prune(ratio=0.5, round_to=2, scope="local", importance={"python": OWN}, recover=None)
    assert stage.code == (OWN,)
    found, _ = applied(stage, candidate, around)
    kept = found.network.module.stem[0].weight
    last = candidate.network.module.stem[0].weight[-len(kept) :]
    torch.testing.assert_close(kept, last, rtol=0, atol=0)


def test_scales_that_are_all_alike_are_told(candidate, around):
    """In torch-pruning an untrained BatchNorm makes this a silent no-op."""
    with pytest.raises(ModelError, match=r"`bn_scale` cannot judge .* all alike"):
        Prune(ratio=0.5, importance="bn_scale", recover=None).apply(candidate, around)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "must say how far to go"),
        ({"ratio": 0.5, "macs": 0.5}, "exactly one of"),
        ({"macs": 0.5, "precision": "int8"}, "whose time is meant"),
        ({"macs": 0.5, "blocks": "auto"}, "weighs blocks by their time"),
        ({"latency_ms": 0.5, "steps": 2}, "divides a share"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(given, words):
    with pytest.raises(ValidationError, match=words):
        Prune(**given)


def test_the_precision_that_ships_is_timed(candidate, around):
    """A pipeline that ends with INT8 means INT8 time: widths that pay in fp32 need not pay there."""
    asked = []

    class Listening(CountingClock):
        def table(self, precision):
            asked.append(precision)
            return self

        def measure(self, models):
            asked.extend(model.builder is None for model in models)
            return tuple(Timing(1.0, Estimate(share, share, share)) for share in (1.0, 0.5)[: len(models)])

    clock = Listening(around.task)
    Prune(latency=0.5, round_to=4, recover=None).apply(candidate, replace(around, clock=clock, ships="int8"))
    assert "int8" in asked
    assert {True} == {one for one in asked if isinstance(one, bool)}, "every network that was timed was converted"


def test_a_network_without_a_graph_is_refused(around):
    class Detached(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = torch.nn.Linear(144, 3)

        def forward(self, images):
            return self.fc(images.flatten(1)).detach()

    start = Candidate(TorchModel(Detached(), None), tiny_candidate().lineage)
    with pytest.raises(ModelError, match="Detached"):
        Prune(ratio=0.5, recover=None).apply(start, around)
