"""AverageTeacher: one voice of several, which is their weighted mean and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.data.augmentation import Augmentation
from compresslab.errors import DataError, ModelError
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.teacher import OUTPUT, ArrayTeacher, AverageTeacher, Cache, NetworkTeacher, Question

UNCHANGED = Augmentation()


@pytest.fixture
def member(noise, network, tmp_path):
    def make(seed, task=None, precision="fp32"):
        return NetworkTeacher(network(seed), f"{seed}" * 8, task or noise(), Store(tmp_path), precision=precision)

    return make


class Asked(AverageTeacher):
    """Has the task of its first member, as `answered` needs it."""

    @property
    def task(self):
        return self.teachers[0].task


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0), (0.2, 0.6), (1e-3, 5.0)])
@pytest.mark.parametrize(("seed", "mixup"), [(None, 0.0), (4, 0.5)])
def test_it_is_the_weighted_mean_of_the_logits(member, answered, weights, seed, mixup):
    one, two = member(1), member(2)
    found = answered(Asked((one, two), weights), seed, mixup=mixup)
    parts = [answered(each, seed, mixup=mixup).astype(np.float64) for each in (one, two)]
    expected = (weights[0] * parts[0] + weights[1] * parts[1]) / sum(weights)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_networks_and_predictions_together(member, noise, answered):
    task = noise(augmentation=UNCHANGED)
    given = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    found = answered(Asked((member(1, task), ArrayTeacher({"train": given}, "a" * 8, task)), (1.0, 3.0)), 7)
    np.testing.assert_allclose(found, (answered(member(1, task)) + 3 * given) / 4, rtol=1e-5, atol=1e-6)


def test_an_average_of_averages(member, answered):
    inner = AverageTeacher((member(1), member(2)), (1.0, 1.0))
    found = answered(Asked((member(3), inner), (1.0, 2.0)))
    expected = sum(answered(member(seed)) for seed in (1, 2, 3)) / 3
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_every_member_keeps_its_answers_as_asked(member, answered, tmp_path):
    made = Asked((member(1), member(2)), (1.0, 1.0))
    answered(made, 1, cache=Cache(dtype="float16"))
    assert len(Store(tmp_path).entries()) == 2
    assert all(file.stat().st_size < 40 * 3 * 2 + 256 for file in tmp_path.rglob("values.npy"))


def test_another_member_order_or_weight_is_another_teacher(member):
    one, two, three = member(1), member(2), member(3)
    made = [
        AverageTeacher((one, two), (1.0, 1.0)),
        AverageTeacher((one, three), (1.0, 1.0)),
        AverageTeacher((one, two), (1.0, 2.0)),
        AverageTeacher((one, two, three), (1.0, 1.0, 1.0)),
    ]
    assert len({each.digest for each in made}) == len(made)
    assert AverageTeacher((member(1), member(2)), (1.0, 1.0)).digest == made[0].digest


def test_the_exact_average_is_that_of_exact_members(member, answered):
    rough = Asked((member(1, precision="bf16"), member(2, precision="bf16")), (1.0, 1.0))
    exact = answered(Asked((member(1), member(2)), (1.0, 1.0)))
    np.testing.assert_array_equal(answered(rough.exact()), exact)
    assert np.abs(answered(rough) - exact).max() > 1e-4


def test_layers_of_several_networks_have_no_mean(member):
    made = AverageTeacher((member(1), member(2)), (1.0, 1.0))
    message = "several teachers have no layer `0` in common; leave out the losses on features, or give one network"
    with pytest.raises(ModelError, match=message):
        made.require(0.0, [OUTPUT, "0"])
    with pytest.raises(ModelError, match=message):
        made.answers(Question("train", 1, outputs=[OUTPUT, "0"]), Silent())


def test_what_one_member_refuses_all_do(member, noise):
    """Predictions cannot answer for augmented samples; known before the first member is asked anything."""
    predictions = ArrayTeacher({"train": np.zeros((40, 3), np.float32)}, "a" * 8, noise())
    made = AverageTeacher((member(1), predictions), (1.0, 1.0))
    with pytest.raises(DataError, match="cannot answer for augmented or mixed samples"):
        made.require(0.0, [OUTPUT])
