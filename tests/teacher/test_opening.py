"""open_teacher: what the pipeline says becomes the teacher that it means."""

from __future__ import annotations

import numpy as np
import pytest

from compresslab.candidate import TorchModel
from compresslab.data.augmentation import Augmentation
from compresslab.errors import DataError, ModelError
from compresslab.models import architecture
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.teacher import ArrayTeacher, AverageTeacher, NetworkTeacher, TeacherSpec, open_teacher


@pytest.fixture
def opened(noise, network, tmp_path, monkeypatch):
    """Opens a spec in which a checkpoint is the seed of a network."""
    # A digest needs a description of the network, which only a network of the pipeline has.
    monkeypatch.setattr(architecture, "digest", lambda model: f"{model.builder['seed']}" * 8)

    def build(spec):
        if spec.checkpoint == "broken":
            raise ModelError("broken: is damaged")
        return TorchModel(network(int(spec.checkpoint)), {"seed": spec.checkpoint})

    def open_(spec, task=None, progress=None):
        return open_teacher(spec, build, task or noise(augmentation=Augmentation()), Store(tmp_path / "store"), "cpu",
                            progress or Silent())  # fmt: skip

    return open_


@pytest.fixture
def predictions(tmp_path):
    """Writes predictions for a task of noise: right on `right` of validation, and on all of the others."""

    def write(task, right=1.0, name="given"):
        parts = {}
        for split in task.splits.values():
            targets = split.targets.copy()
            if split.name == "validation":
                wrong = round(len(targets) * (1 - right))
                targets[:wrong] = (targets[:wrong] + 1) % 3
            parts[split.name] = 4 * np.eye(3, dtype=np.float32)[targets]
        np.savez(tmp_path / f"{name}.npz", **parts)
        return TeacherSpec(predictions=str(tmp_path / f"{name}.npz"))

    return write


@pytest.fixture
def task(noise):
    """A task whose splits are parts of their own, so that predictions may differ in them."""
    from dataclasses import replace

    made = noise(augmentation=Augmentation())
    return replace(made, splits={name: replace(split, part=name) for name, split in made.splits.items()})


def test_each_kind(opened, predictions, task, answered):
    one, two = TeacherSpec(checkpoint="1"), TeacherSpec(checkpoint="2", weight=3.0)
    network = opened(one, task)
    assert isinstance(network, NetworkTeacher)
    assert (network.digest, network.task) == ("1" * 8, task)
    assert isinstance(opened(predictions(task), task), ArrayTeacher)
    average = opened(TeacherSpec(average=(one, two)), task)
    assert isinstance(average, AverageTeacher)
    assert average.weights == (1.0, 3.0)
    nested = opened(
        TeacherSpec(average=(one, TeacherSpec(best_of=(two.model_copy(update={"weight": 1.0}), one)))), task
    )
    assert isinstance(nested.teachers[1], NetworkTeacher)


def test_the_best_on_validation_teaches(opened, predictions, task):
    """Not the first, not the last, and not the one that is best on what the student trains on."""
    specs = [predictions(task, right, f"right{right}") for right in (0.5, 0.9, 0.7)]
    progress = Silent()
    best = opened(TeacherSpec(best_of=tuple(specs)), task, progress)
    assert best.digest == opened(specs[1], task).digest
    (note,) = progress.notes
    assert note == "teacher: number 2 of 3 is the best on validation (0.5000, 0.9000, 0.7000)"


def test_of_equals_the_first_teaches(opened, predictions, task):
    specs = (predictions(task, 0.8, "one"), TeacherSpec(checkpoint="1"), predictions(task, 0.8, "two"))
    progress = Silent()
    opened(TeacherSpec(best_of=specs), task, progress)
    assert progress.notes[0].startswith("teacher: number 1 of 3 is the best on validation (0.8000, ")


def test_the_best_of_augmented_data_is_judged_on_samples_as_they_are(opened, noise):
    """Predictions cannot teach there, but may lose against a network."""
    task = noise()
    best = opened(TeacherSpec(best_of=(TeacherSpec(checkpoint="1"), TeacherSpec(checkpoint="2"))), task)
    assert isinstance(best, NetworkTeacher)


@pytest.mark.parametrize("name", ["average", "best_of"])
def test_what_is_wrong_with_one_of_several_is_told(opened, task, predictions, name):
    broken = TeacherSpec(**{name: (TeacherSpec(checkpoint="1"), TeacherSpec(checkpoint="broken"))})
    with pytest.raises(ModelError, match="broken: is damaged"):
        opened(broken, task)
    gone = TeacherSpec(**{name: (TeacherSpec(checkpoint="1"), TeacherSpec(predictions="gone.npz"))})
    with pytest.raises(DataError, match=r"gone\.npz: there is no such file"):
        opened(gone, task)
