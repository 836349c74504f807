"""Tiny tasks, with and without samples that have no labels, and teachers that answer exactly."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from compresslab.data.augmentation import Augmentation
from compresslab.models import ModelSpec, architecture
from compresslab.models.mlp import Mlp
from compresslab.store import Store
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.tasks.regression import Regression
from compresslab.teacher import NetworkTeacher
from compresslab.testing import stripes, tiny_candidate

UNLABELLED = 100


@pytest.fixture(scope="session")
def make_images(stripes_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Augmentation, bool], Task]:
    """(augmentation, whether there are unlabelled images) -> the task of stripes."""
    folder = tmp_path_factory.mktemp("images")
    np.savez(folder / "more.npz", images=stripes(UNLABELLED, seed=7)["images"])

    @cache
    def make(augment: Augmentation = Augmentation(), transfer: bool = False) -> Task:  # noqa: B008  frozen
        data = ImageClassification(
            npz=str(stripes_file), name="stripes", augment=augment,
            transfer=str(folder / "more.npz") if transfer else None,
        )  # fmt: skip
        return TaskSpec(image_classification=data).load(folder)

    return make


@pytest.fixture(scope="session")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Task:
    """A regression on four features, targets about 50 with a deviation of 20; with unlabelled samples."""
    folder = tmp_path_factory.mktemp("scores")
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 4)).astype(np.float32)
    targets = (50 + 20 * (features @ np.array([1, -1, 0.5, 0])) / 1.5).astype(np.float32)
    np.savez(folder / "scores.npz", features=features, targets=targets)
    np.savez(folder / "more.npz", features=random.normal(size=(60, 4)).astype(np.float32))
    spec = Regression(npz=str(folder / "scores.npz"), transfer=str(folder / "more.npz"), name="scores")
    return TaskSpec(regression=spec).load(folder)


@pytest.fixture(scope="session")
def score_network(scores: Task) -> Callable[[], object]:
    """A new network for `scores`."""
    return lambda: ModelSpec(mlp=Mlp(widths=(8,))).build(scores.signature).module


@pytest.fixture
def make_teacher(tmp_path: Path) -> Callable[..., NetworkTeacher]:
    """(task, widths) -> an untrained network of stripes that answers in float32."""

    def make(task: Task, widths: tuple[int, ...] = (8, 16), seed: int = 9) -> NetworkTeacher:
        model = tiny_candidate(widths, seed).network
        return NetworkTeacher(
            model.module, architecture.digest(model), task, Store(tmp_path / "store"), precision="fp32"
        )

    return make
