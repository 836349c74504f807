"""NetworkTeacher: what a network says of exactly the pixels that the student sees, asked once and read ever after."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from compresslab.data.augmentation import Augmentation
from compresslab.errors import ModelError
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.teacher import OUTPUT, Cache, NetworkTeacher, Question

CONV, NORM, FLAT = "0", "1", "3"
UNCHANGED = Augmentation()


@pytest.fixture
def teacher(noise, network, tmp_path):
    """Makes teachers that share a store."""

    def make(module=None, digest="t" * 8, task=None, precision="fp32", folder=tmp_path):
        return NetworkTeacher(
            network() if module is None else module, digest, noise() if task is None else task, Store(folder),
            precision=precision,
        )  # fmt: skip

    return make


@pytest.fixture
def counted(network):
    """A network, and the sizes of the batches it was asked for."""
    module, asked = network(), []
    module.register_forward_hook(lambda _module, _args, output: asked.append(len(output)))
    return module, asked


def live(module, task, rows, seed, mixup=0.0):
    with torch.no_grad():
        return module.eval()(torch.from_numpy(task.batch("train", rows, seed, mixup))).numpy()


class WithoutSecond(nn.Module):
    """A network that agrees with another on the largest logit of each sample, and on no other."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        logits = self.inner(images)
        return torch.where(logits == logits.max(1, keepdim=True).values, logits, logits - 1)


# -- which pixels ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "mixup"), [(None, 0.0), (5, 0.0), (5, 0.7), (5, 1.0)])
def test_an_answer_is_what_the_network_says_of_those_pixels(teacher, network, answered, seed, mixup):
    """Catches a cache that ignores augmentation or mixup, rows out of order, and a teacher in train mode."""
    made = teacher()
    rows = np.array([31, 2, 17])
    expected = live(network(), made.task, rows, seed, mixup)
    np.testing.assert_allclose(answered(made, seed, mixup=mixup)[rows], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", [{"seed": 2}, {"seed": None}, {"mixup": 1.0}])
def test_views_differ(teacher, answered, how):
    made = teacher()
    first = answered(made, 1)
    assert np.abs(first - answered(made, **{"seed": 1, **how})).max() > 0.01


def test_where_nothing_is_changed_every_seed_is_the_same_view(teacher, noise, counted, answered):
    """Five seeds of an experiment then ask the teacher once."""
    module, asked = counted
    made = teacher(module, task=noise(augmentation=UNCHANGED))
    views = [answered(made, seed) for seed in (None, 1, 2)]
    assert all((view == views[0]).all() for view in views)
    assert asked == [40, 16, 16]
    assert np.abs(answered(made, 1, mixup=1.0) - views[0]).max() > 0.01, "but mixed they are others"


# -- what is stored --------------------------------------------------------------------------------------------------


def test_the_second_time_the_network_answers_only_the_spot_check(teacher, counted, answered):
    answered(teacher(), 1)
    module, asked = counted
    answered(teacher(module), 1)
    assert sum(asked) == 16


def test_all_that_is_missing_is_made_in_one_pass(teacher, counted, answered):
    module, asked = counted
    stored = Cache(features="stored")
    answered(teacher(module), 1, cache=stored)
    assert asked == [40]
    asked.clear()
    made = teacher(module).answers(Question("train", 1, outputs=(OUTPUT, CONV, FLAT), cache=stored), Silent())
    assert sorted(asked) == [16, 40], "the spot check of what was there, and one pass for the two layers"
    asked.clear()
    assert {name: values.shape for name, values in made.of(np.array([3, 1])).items()} == {
        OUTPUT: (2, 3), CONV: (2, 4, 8, 8), FLAT: (2, 256),
    }  # fmt: skip
    assert asked == [], "stored features are read, not asked for"


@pytest.mark.parametrize("name", [CONV, NORM, FLAT])
def test_stored_features_are_those_that_live_ones_are(teacher, answered, name):
    made = teacher()
    fresh = answered(made, 1, name=name, mixup=0.5)
    kept = answered(made, 1, name=name, mixup=0.5, cache=Cache(features="stored"))
    np.testing.assert_allclose(kept, fresh, rtol=1e-5, atol=1e-6)
    rows = np.array([8, 3])
    again = made.answers(Question("train", 1, mixup=0.5, outputs=(name,)), Silent()).of(rows)
    assert set(again) == {name}, "no output was asked for"
    np.testing.assert_allclose(again[name], fresh[rows], rtol=1e-5, atol=1e-6)


def entries(made):
    return len(made.store.entries())


@pytest.mark.parametrize(
    "how",
    [
        {"seed": 2},
        {"seed": None},
        {"mixup": 0.5},
        {"split": "validation"},
        {"cache": Cache(dtype="float16")},
        {"cache": Cache(top_k=1)},
        {"cache": Cache(top_k=2)},
    ],
)
def test_another_question_is_another_entry(teacher, answered, how):
    made = teacher()
    answered(made, 1)
    answered(made, **{"seed": 1, **how})
    assert entries(made) == 2
    answered(made, **{"seed": 1, **how})
    assert entries(made) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"digest": "u" * 8},
        {"precision": "bf16"},
        {"mean": 0.4},
        {"content": 1},
        {"augmentation": Augmentation(shift=2)},
    ],
)
def test_another_teacher_or_task_is_another_entry(teacher, noise, answered, change):
    """An entry of other pixels or another network under the same key would be taken for this one's."""
    answered(teacher(), 1)
    of_task = {key: value for key, value in change.items() if key in ("mean", "content", "augmentation")}
    of_teacher = {key: value for key, value in change.items() if key not in of_task}
    other = teacher(task=noise(**of_task), **of_teacher)
    answered(other, 1)
    assert entries(other) == 2


def test_settings_of_logits_do_not_touch_features(teacher, answered):
    made = teacher()
    answered(made, 1, name=FLAT, cache=Cache(features="stored"))
    assert entries(made) == 2
    kept = answered(made, 1, name=FLAT, cache=Cache(features="stored", top_k=1))
    assert entries(made) == 3, "the logits once more, the features as they are"
    assert kept.shape == (40, 256)


def test_the_exact_teacher_answers_in_full_arithmetic(teacher, network, answered):
    made = teacher(precision="bf16")
    expected = live(network(), made.task, np.arange(40), None)
    np.testing.assert_allclose(answered(made.exact()), expected, rtol=1e-5, atol=1e-6)
    assert 1e-4 < np.abs(answered(made) - expected).max() < 0.1
    assert made.exact().digest == made.digest


# -- held against the live network -----------------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [Cache(), Cache(dtype="float16"), Cache(top_k=2), Cache(top_k=9)])
def test_answers_of_another_network_under_the_same_digest_are_made_again(teacher, network, answered, cache):
    answered(teacher(network(0)), 1, cache=cache)
    progress = Silent()
    again = answered(teacher(network(1)), 1, progress=progress, cache=cache)
    assert progress.notes == ["cached teacher outputs differ from the teacher's own; they are computed again"]
    other = teacher(network(1), digest="other")
    np.testing.assert_array_equal(again, answered(other, 1, cache=cache))
    answered(teacher(network(1)), 1, progress=progress, cache=cache)
    assert len(progress.notes) == 1, "the new entry is this network's"


@pytest.mark.parametrize("cache", [Cache(top_k=2), Cache(top_k=3)])
def test_the_spot_check_looks_at_all_that_was_kept(teacher, network, answered, cache):
    """Networks of one task agree on the largest logit of most samples; what tells them apart are the others."""
    answered(teacher(network()), 1, cache=cache)
    progress = Silent()
    answered(teacher(WithoutSecond(network())), 1, progress=progress, cache=cache)
    assert len(progress.notes) == 1


def test_stored_features_of_another_network_are_made_again(teacher, network, answered):
    """The logits alone would not show it: here only the first layer is another one."""
    stored = Cache(features="stored")
    answered(teacher(network()), 1, name=CONV, cache=stored)
    other = network()
    with torch.no_grad():
        other[0].bias += 1.0
        other[1].running_mean += 1.0  # which BatchNorm takes away again
    progress = Silent()
    again = answered(teacher(other), 1, name=CONV, cache=stored, progress=progress)
    assert len(progress.notes) == 1
    np.testing.assert_allclose(again, answered(teacher(other), 1, name=CONV), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["values.npy", "classes.npy", "rest.npy"])
def test_a_damaged_entry_is_made_again(teacher, answered, tmp_path, name):
    cache = Cache(top_k=2)
    expected = np.array(answered(teacher(), 1, cache=cache))
    (file,) = tmp_path.rglob(name)
    content = bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    file.write_bytes(bytes(content))
    np.testing.assert_array_equal(answered(teacher(), 1, cache=cache), expected)


def test_every_process_takes_the_same_steps_whether_the_answers_are_there_or_not(teacher, answered, monkeypatch):
    """A second process that is late finds what the first has just written; a step that only one takes is a deadlock."""
    steps = []

    def alone(work):
        steps.append("main")
        return work()

    monkeypatch.setattr("compresslab.teacher.network.on_main", alone)
    monkeypatch.setattr("compresslab.teacher.network.wait", lambda: steps.append("wait"))
    expected = answered(teacher(), 1)
    taken = list(steps)
    answered(teacher(), 1)
    assert steps == taken * 2
    folders = []
    monkeypatch.setattr("compresslab.teacher.network.on_main", lambda work: folders.append(work()) or folders[-1])
    answered(teacher(), 1)
    monkeypatch.setattr("compresslab.teacher.network.on_main", lambda _work: folders[-1])  # as a helping process
    np.testing.assert_array_equal(answered(teacher(), 1), expected)


# -- untouched -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_teacher_is_provably_untouched(teacher, network, answered, precision):
    """BatchNorm buffers of a teacher left in train mode drift with every batch, and a graph to it would grow."""
    module = network().train()
    module[4].bias.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    frozen = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
    made = teacher(module, precision=precision)
    for cache in (Cache(), Cache(features="stored", top_k=2)):
        for _ in range(2):  # made, and then read with a spot check
            answered(made, 1, name=NORM, mixup=0.5, cache=cache)
    after = module.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())
    assert all(parameter.grad is None for parameter in module.parameters())
    assert {name: parameter.requires_grad for name, parameter in module.named_parameters()} == frozen
    assert not any(part.training for part in module.modules()), "also afterwards"
    assert not any(part._forward_hooks for part in module.modules())


# -- what is refused -------------------------------------------------------------------------------------------------


def test_a_layer_that_is_not_there(teacher):
    made = teacher()
    made.require(0.5, [OUTPUT, CONV])

    def answer(mixup, names):
        return made.answers(Question("train", 1, mixup=mixup, outputs=names), Silent())

    for ask in (made.require, answer):
        with pytest.raises(ModelError, match=r"the teacher has no layer `conv`.* It has `0`, `1`, `2`, `3`, `4`"):
            ask(0.0, [OUTPUT, "conv"])


def test_another_number_of_classes(teacher, network, answered):
    with pytest.raises(ModelError, match=r"shape \[40, 5\], but the task has 3 labels"):
        answered(teacher(network(classes=5)))


@pytest.mark.parametrize(("layer", "name"), [(0, OUTPUT), (0, CONV)])
def test_damaged_weights(teacher, network, answered, tmp_path, layer, name):
    module = network()
    with torch.no_grad():
        module[layer].weight[0] = float("nan")
    with pytest.raises(ModelError, match="outputs on `train` are not finite"):
        answered(teacher(module), name=name, cache=Cache(features="stored"))
    assert not list(tmp_path.rglob("values.npy"))


def test_answers_too_large_for_their_type(teacher, network, answered, tmp_path):
    """float16 would make them infinite, and the loss NaN in the middle of the training."""
    module = network()
    with torch.no_grad():
        module[4].bias[1] = 1e5
    with pytest.raises(ModelError, match=r"as large as 1e\+05, and float16 ends at 6\.55e\+04; give `cache: {dtype: "):
        answered(teacher(module), cache=Cache(dtype="float16"))
    assert not list(tmp_path.rglob("values.npy"))
    assert answered(teacher(module), cache=Cache(dtype="float32"))[:, 1].min() > 9e4
