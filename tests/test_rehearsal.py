"""Rehearsal: whatever a stage could not do with its teacher is known before the first one is trained."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from compresslab import (
    ConfigError,
    Distill,
    ImageClassification,
    ModelSpec,
    Pipeline,
    Prune,
    Quantize,
    Residual,
    TaskSpec,
    TeacherSpec,
    Train,
)
from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe
from compresslab.distillation.terms import Hint, Kd, LossTerm
from compresslab.progress import Silent
from compresslab.rehearsal import rehearse
from compresslab.stages import Mutual, Tuned
from compresslab.stages.tuned import Variant
from compresslab.store import Store
from compresslab.teachers import Teachers
from compresslab.testing import stripes

SMALL = ModelSpec(residual=Residual(widths=(8,)))
LARGE = ModelSpec(residual=Residual(widths=(8, 16)))
HINT = LossTerm(hint=Hint(student="stages.0", teacher="stages.0"))
AUGMENTED = Augmentation(flip=True)


@pytest.fixture
def tried(tmp_path):
    """Rehearses stages on the tiny task, with a teacher of arrays or without one."""
    np.savez(tmp_path / "stripes.npz", **stripes())
    np.savez(tmp_path / "predictions.npz", train=5 * np.ones((480, 3), np.float32))

    def play(*stages, taught=True, augment=None, references=()):
        data = ImageClassification(npz=str(tmp_path / "stripes.npz"), augment=augment or Augmentation())
        pipeline = Pipeline(
            task=TaskSpec(image_classification=data),
            model=SMALL,
            teacher=TeacherSpec(predictions=str(tmp_path / "predictions.npz")) if taught else None,
            stages=(Train(epochs=1), *stages),
            name="tiny",
        )
        object.__setattr__(pipeline, "references", references)  # which else need weights
        task = pipeline.task.load(tmp_path / "cache")
        baseline = SMALL.build(task.signature, 0)
        teachers = Teachers(
            pipeline,
            baseline,
            lambda spec: spec.build(task.signature, 0),
            task,
            Store(tmp_path / "store"),
            "cpu",
            Silent(),
        )
        rehearse(pipeline, baseline, teachers, task)

    return play


NO_TEACHER = Recipe(epochs=1, kd_weight=0.0, task_weight=1.0)
ASKING = {
    "distill": (Distill(epochs=1, student=SMALL), "distill"),
    "distill the incoming": (Distill(epochs=1), "distill"),
    "recover": (Prune(ratio=0.5), "prune.recover"),
    "qat": (Quantize(mode="qat"), "quantize.qat"),
    "auto": (Quantize(mode="auto"), "quantize.qat"),
    "mutual": (Mutual(epochs=1, peers=(SMALL, SMALL), teacher_weight=1.0), "mutual"),
}
SILENT = {
    "control": Distill(epochs=1, student=SMALL, kd_weight=0.0),
    "no recovery": Prune(ratio=0.5, recover=None),
    "recovery by labels": Prune(ratio=0.5, recover=NO_TEACHER),
    "ptq": Quantize(),
    "qat by labels": Quantize(mode="qat", qat=NO_TEACHER),
    "mutual": Mutual(epochs=1, peers=(SMALL, SMALL)),
}


@pytest.mark.parametrize("name", ASKING)
def test_predictions_of_augmented_data_are_refused_by_every_stage_that_asks(tried, name):
    """Also by a recovery at the end of the pipeline, which else were found out after hours."""
    stage, path = ASKING[name]
    message = rf"^tiny: stages\[1\]\.{path}: a teacher given as predictions cannot answer for augmented"
    with pytest.raises(ConfigError, match=message):
        tried(stage, augment=AUGMENTED)
    tried(stage)


@pytest.mark.parametrize("name", SILENT)
def test_who_does_not_ask_is_not_refused(tried, name):
    tried(SILENT[name], augment=AUGMENTED)


def test_a_reference_that_asks_is_refused_too(tried):
    with pytest.raises(
        ConfigError, match=r"^tiny: references\[1\]\.quantize\.qat: a teacher given as predictions cannot"
    ):
        tried(augment=AUGMENTED, references=(Quantize(), Quantize(mode="qat")))


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ((HINT,), r"predictions has no layer `stages\.0`; leave out the losses on features"),
        (
            (LossTerm(hint=Hint(student="stage.0", teacher="x")),),
            r"`hint`: the student has no layer `stage\.0`; did you",
        ),
    ],
)
def test_features_of_predictions_are_refused(tried, losses, message):
    for stage in (Distill(epochs=1, losses=losses), Prune(ratio=0.5, recover=Recipe(epochs=1, losses=losses))):
        with pytest.raises(ConfigError, match=message):
            tried(stage)


def test_after_different_peers_the_network_is_not_known_before(tried):
    """Which of them goes on is found out by training, so its layers cannot be looked up; but a student's can."""
    peers = Mutual(epochs=1, peers=(SMALL, LARGE))
    hint = LossTerm(hint=Hint(student="stages.1", teacher="stages.1"))
    more = Distill(epochs=1, losses=(hint, LossTerm(kd=Kd())))
    tried(peers, more, taught=False)
    with pytest.raises(ConfigError, match=r"predictions has no layer `stages\.1`"):
        tried(peers, more.model_copy(update={"student": LARGE}))
    with pytest.raises(ConfigError, match=r"stages\[2\]\.distill: `hint`: the student has no layer `stages\.1`"):
        tried(peers, more.model_copy(update={"student": SMALL}))


def backends(*names):
    return Tuned(tuple(Variant({("backend",): name}, Quantize(backend=name)) for name in names))


def test_a_quantizer_that_is_not_for_such_a_network_is_refused_before_training(tried):
    """Of several that are tried one must be left; those that are not for it are told when it is their turn."""
    with pytest.raises(ConfigError, match=r"^tiny: stages\[1\]\.quantize\.backend: `backend: dynamic` is for"):
        tried(Quantize(backend="dynamic"))
    tried(backends("dynamic", "own"))


def test_a_quantizer_that_is_not_installed_is_told_before_training(tried, monkeypatch):
    """Also where others are tried beside it: whoever names it wants to see it."""
    monkeypatch.setitem(sys.modules, "neural_compressor.torch.quantization", None)
    with pytest.raises(ConfigError, match=r"stages\[1\]\.quantize\.backend: .*compresslab\[inc\]"):
        tried(backends("own", "neural_compressor"))
