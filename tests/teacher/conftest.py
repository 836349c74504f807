"""Tiny tasks of noise, networks that answer it, and how a teacher is asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compresslab.data.augmentation import Augmentation
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.progress import Silent
from compresslab.tasks import Classes, Split, Task
from compresslab.teacher import OUTPUT, Question

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture
def noise() -> Callable[..., Task]:
    """Makes tasks of 8x8 grey noise with three classes."""

    def make(
        samples: int = 40,
        augmentation: Augmentation | None = None,
        mean: float = 0.5,
        content: int = 0,
    ) -> Task:
        def split(name: str, seed: int) -> Split:
            random = np.random.default_rng([content, seed])
            images = random.integers(0, 256, (samples, 8, 8, 1)).astype(np.uint8)
            rows = np.arange(samples)
            ids = (rows.astype(np.uint64) + np.uint64(1000 * seed)) * np.uint64(7919)
            targets = random.integers(0, 3, samples)
            return Split(name, images, targets, ids, f"{name} {content}", "train", rows, samples)

        return Task(
            name="noise", objective=Classes(("a", "b", "c")),
            splits={name: split(name, seed) for seed, name in enumerate(("train", "validation", "test"))},
            preprocessing=ImagePreprocessing(height=8, width=8, channels=1, mean=(mean,), std=(0.25,)),
            augmentation=Augmentation(shift=2, flip=True) if augmentation is None else augmentation,
            metric="accuracy", digest="b" * 64,
        )  # fmt: skip

    return make


@pytest.fixture
def network() -> Callable[..., nn.Module]:
    """Makes networks with everything that a teacher could be spoiled by: BatchNorm and dropout."""
    import torch
    from torch import nn

    def make(seed: int = 0, classes: int = 3) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return nn.Sequential(
                nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(256, classes)
            )

    return make


@pytest.fixture
def answered() -> Callable[..., np.ndarray]:
    """All that a teacher says of a view of a split: `answered(teacher, seed, split="train", name=OUTPUT, ...)`."""

    def ask(teacher, seed=None, split="train", name=OUTPUT, progress=None, **how) -> np.ndarray:
        rows = np.arange(len(teacher.task.splits[split].inputs))
        asked = (name,) if name == OUTPUT else (OUTPUT, name)
        question = Question(split, seed, outputs=asked, **how)
        return np.asarray(teacher.answers(question, progress or Silent()).of(rows)[name])

    return ask
