"""Feed: labelled and unlabelled samples in one batch, each with the pixels, the label and the answer of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe, learn
from compresslab.distillation.feed import Feed
from compresslab.distillation.sampling import Sampling
from compresslab.tasks import Task
from compresslab.teacher import OUTPUT, NetworkTeacher, Teacher
from compresslab.testing import context, tiny_candidate
from compresslab.training import Batch

UNLABELLED = 100
SHIFTED = Augmentation(shift=2, flip=True)


@pytest.fixture
def make_feed(tmp_path: Path) -> Callable[..., Feed]:
    def make(
        task: Task,
        teacher: Teacher | None = None,
        outputs: Iterable[str] = (),
        *,
        unlabelled: bool = True,
        **settings: Any,
    ) -> Feed:
        sampling = Sampling(**{"epochs": 4, "batch": 64, **settings})
        given = replace(context(tmp_path, task, seed=3), teacher=teacher)
        return Feed(given, sampling, tuple(outputs), unlabelled=unlabelled)

    return make


class Rows:
    """Finds samples of an unaugmented task by their pixels."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.rows = {
            split: {
                pixels.tobytes(): row
                for row, pixels in enumerate(task.batch(split, np.arange(len(task.splits[split].ids)), None))
            }
            for split in ("train", "transfer")
        }

    def of(self, batches: Iterable[Batch], split: str) -> list[int]:
        found = self.rows[split]
        keys = [pixels.numpy().tobytes() for batch in batches for pixels in batch.inputs]
        return [found[key] for key in keys if key in found]


@pytest.fixture(scope="module")
def plain(make_images: Callable[..., Task]) -> Task:
    return make_images(Augmentation(), True)


@pytest.fixture(scope="module")
def rows(plain: Task) -> Rows:
    return Rows(plain)


def batches(feed: Feed, epochs: int) -> list[list[Batch]]:
    return [list(feed.batches(epoch)) for epoch in range(epochs)]


# -- unlabelled samples ----------------------------------------------------------------------------------------------

# There are 336 labelled images and 100 without labels. Batches divide what an epoch has, so that none is left out.
RATIOS = [(None, 100, 109), (0.25, 84, 60), (0.5, 168, 126), (1.0, 336, 96)]


@pytest.mark.parametrize(("ratio", "unlabelled", "batch"), RATIOS)
def test_every_epoch_has_all_labelled_samples_and_as_many_others_as_asked(
    make_feed, plain, rows, ratio, unlabelled, batch
) -> None:
    feed = make_feed(plain, transfer_ratio=ratio, batch=batch)
    assert feed.samples == 336 + unlabelled
    assert feed.steps == (336 + unlabelled) // batch
    for epoch in batches(feed, 3):
        assert len(epoch) == feed.steps
        assert sorted(rows.of(epoch, "train")) == list(range(336))
        assert len(rows.of(epoch, "transfer")) == unlabelled


@pytest.mark.parametrize(("ratio", "unlabelled", "batch"), RATIOS)
def test_each_unlabelled_sample_comes_once_before_any_comes_twice(
    make_feed, plain, rows, ratio, unlabelled, batch
) -> None:
    feed = make_feed(plain, transfer_ratio=ratio, batch=batch, epochs=6)
    counts: Counter[int] = Counter(dict.fromkeys(range(UNLABELLED), 0))
    for number, epoch in enumerate(batches(feed, 6), 1):
        counts.update(rows.of(epoch, "transfer"))
        assert counts.total() == number * unlabelled
        assert max(counts.values()) - min(counts.values()) <= 1


def test_unlabelled_samples_come_in_another_order_each_round(make_feed, plain, rows) -> None:
    feed = make_feed(plain, transfer_ratio=None, batch=109)
    first, second = (rows.of(epoch, "transfer") for epoch in batches(feed, 2))
    assert sorted(first) == sorted(second)
    assert first != second


def test_the_mask_says_which_have_labels_and_labels_are_their_own(make_feed, plain, rows) -> None:
    targets = plain.splits["train"].targets
    mixed = 0
    for batch in make_feed(plain, transfer_ratio=0.5).batches(1):
        assert batch.labelled is not None
        assert len(batch.targets) == len(batch.labelled) == len(batch.inputs) == 64
        known = Batch(batch.inputs[batch.labelled], None)
        own = rows.of([known], "train")
        assert len(own) == int(batch.labelled.sum()), "where the mask is set there is a training sample"
        assert batch.targets[batch.labelled].tolist() == targets[own].tolist()
        assert len(rows.of([batch], "transfer")) == int((~batch.labelled).sum())
        mixed += 0 < int(batch.labelled.sum()) < 64
    assert mixed, "batches hold both kinds"


def test_answers_belong_to_the_pixels_of_both_splits(make_feed, make_images, make_teacher) -> None:
    """Outputs, which are cached, and features, which are asked for in each step, under augmentation and mixup."""
    task = make_images(SHIFTED, True)
    teacher: NetworkTeacher = make_teacher(task)
    feed = make_feed(task, teacher, (OUTPUT, "stages.0"), views=2, mixup=0.5, transfer_ratio=0.5)
    batch = next(batch for batch in feed.batches(1) if batch.labelled is not None)
    stage = torch.nn.Sequential(teacher.module.stem, teacher.module.stages[0]).eval()
    with torch.no_grad():
        torch.testing.assert_close(batch.teacher[OUTPUT], teacher.module.eval()(batch.inputs), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(batch.teacher["stages.0"], stage(batch.inputs), rtol=1e-4, atol=1e-4)


def test_a_batch_may_be_without_any_label(make_feed, plain, make_teacher) -> None:
    """With many more unlabelled samples than labelled ones and small batches that happens."""
    feed = make_feed(plain, make_teacher(plain), (OUTPUT, "stages.0"), transfer_ratio=5.0, batch=4)
    some = islice(feed.batches(0), 12)
    without = [batch for batch in some if batch.labelled is not None and not batch.labelled.any()]
    assert without
    for batch in without:
        assert (
            len(batch.inputs) == len(batch.targets) == len(batch.teacher[OUTPUT]) == len(batch.teacher["stages.0"]) == 4
        )


def test_where_nobody_speaks_of_unlabelled_samples_they_stay_away(make_feed, plain, rows) -> None:
    feed = make_feed(plain, unlabelled=False, transfer_ratio=2.0)
    assert feed.samples == 336
    for batch in feed.batches(0):
        assert batch.labelled is None
        assert not rows.of([batch], "transfer")


@pytest.mark.parametrize(("settings", "taught"), [({"kd_weight": 0.0}, True), ({}, False)])
def test_a_control_learns_from_labelled_samples_alone(
    monkeypatch, make_images, make_teacher, tmp_path, rows, settings, taught
) -> None:
    """Their fillers for labels would be taken for labels of the first class."""
    task = make_images(Augmentation(), True)
    seen: list[Batch] = []
    monkeypatch.setattr(
        "compresslab.distillation.learning.fit", lambda module, batches, *_, **__: seen.extend(batches(0)) or ()
    )
    given = replace(context(tmp_path, task), teacher=make_teacher(task) if taught else None)
    learn(tiny_candidate((8,)).network.module, Recipe(epochs=1, batch=64, **settings), given, "distill")
    assert len(seen) == 336 // 64
    assert all(batch.labelled is None and not batch.teacher for batch in seen)
    assert not rows.of(seen, "transfer")


def test_a_regression_has_unlabelled_samples_too(make_feed, scores) -> None:
    for batch in make_feed(scores, transfer_ratio=0.5).batches(0):
        assert batch.targets.dtype == torch.float32
        assert batch.labelled is not None
        assert not batch.targets[~batch.labelled].any()
        assert batch.targets[batch.labelled].mean() > 20


# -- mixup -----------------------------------------------------------------------------------------------------------


def test_mixed_samples_and_their_labels_are_blended_alike(make_feed, make_images) -> None:
    """By hand from the partner and the share of each sample: pixels after augmentation, and shares of classes."""
    task = make_images(SHIFTED, True)
    feed = make_feed(task, mixup=0.6, views=1)
    batch = feed.first(60)
    view, train = feed.view(0), task.splits["train"]
    partners, shares = task.mixing("train", np.arange(60), view, 0.6)
    assert 0.4 < (shares < 1).mean() < 0.8
    for row in range(60):
        own, other = (task.batch("train", np.array([one]), view)[0] for one in (row, partners[row]))
        blend = shares[row] * own + (1 - shares[row]) * other if shares[row] < 1 else own
        np.testing.assert_allclose(batch.inputs[row], blend, rtol=1e-5, atol=1e-6)
        expected = np.zeros(3)
        expected[train.targets[row]] += shares[row]
        expected[train.targets[partners[row]]] += 1 - shares[row]
        np.testing.assert_allclose(batch.targets[row], expected, rtol=1e-5, atol=1e-6)
    loss = task.loss(torch.zeros(60, 3), batch.targets)
    assert loss.item() == pytest.approx(np.log(3), rel=1e-6), "shares are probabilities"


def test_mixed_numbers_are_blended(make_feed, scores) -> None:
    feed = make_feed(scores, mixup=1.0)
    batch = feed.first(40)
    partners, shares = scores.mixing("train", np.arange(40), feed.view(0), 1.0)
    targets = scores.splits["train"].targets
    assert batch.targets.dtype == torch.float32
    np.testing.assert_allclose(
        batch.targets, shares * targets[:40] + (1 - shares) * targets[partners], rtol=1e-5, atol=1e-4
    )


def test_mixing_makes_views_differ_where_nothing_is_augmented(make_feed, plain, make_teacher, tmp_path) -> None:
    """And the teacher is asked about each of them."""
    feed = make_feed(plain, make_teacher(plain), (OUTPUT,), mixup=0.5, views=3)
    assert len({feed.view(epoch) for epoch in range(6)}) == 3
    assert len(list((tmp_path / "store").glob("entries/teacher/*"))) == 6, "three views of two splits"


# -- the same whenever it is asked for ---------------------------------------------------------------------------------


def test_batches_depend_on_the_epoch_alone(make_feed, make_images, make_teacher) -> None:
    """A training that was killed goes on in the middle, where the other has been through the epochs before."""
    task = make_images(SHIFTED, True)
    settings = {"mixup": 0.4, "views": None, "transfer_ratio": 0.3}
    whole = batches(make_feed(task, make_teacher(task), (OUTPUT,), **settings), 3)
    resumed = list(make_feed(task, make_teacher(task), (OUTPUT,), **settings).batches(2))
    assert len(resumed) == len(whole[2])
    for one, other in zip(resumed, whole[2], strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.labelled, other.labelled)
        assert torch.equal(one.teacher[OUTPUT], other.teacher[OUTPUT])
    assert not torch.equal(whole[1][0].inputs, whole[2][0].inputs)


def test_what_the_teacher_said_can_be_looked_up(make_feed, plain, make_teacher) -> None:
    teacher = make_teacher(plain)
    feed = make_feed(plain, teacher, (OUTPUT,))
    assert feed.splits == ("train", "transfer")
    for split in feed.splits:
        images = torch.from_numpy(plain.batch(split, np.array([5, 3]), None))
        with torch.no_grad():
            live = teacher.module.eval()(images)
        np.testing.assert_allclose(feed.answered(split, feed.view(0), np.array([5, 3])), live, rtol=1e-4, atol=1e-4)
