"""What is refused before anything is trained: a network of another task, and a teacher that could not be asked."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresslab import (
    Budget,
    ConfigError,
    DataError,
    Distill,
    ImageClassification,
    ModelError,
    ModelSpec,
    Pipeline,
    Prune,
    Quantize,
    Residual,
    TaskSpec,
    TeacherSpec,
    Train,
    plan,
    run,
)
from compresslab.cli.app import invoke
from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe
from compresslab.distillation.terms import Hint, Kd, LossTerm
from compresslab.errors import BadInput
from compresslab.models import architecture
from compresslab.preflight import built, fitting, require_trainable_stages
from compresslab.stages import Mutual, Tuned
from compresslab.stages.tuned import Variant
from compresslab.teacher import ArrayTeacher
from compresslab.testing import stripes

SMALL = ModelSpec(residual=Residual(widths=(8,)))
HINT = LossTerm(hint=Hint(student="stages.0", teacher="stages.0"))


@pytest.fixture(scope="module")
def checkpoint(finished_run) -> Path:
    """A folder as a run leaves it, with a manifest: of the tiny task."""
    (point,) = (point for point in finished_run.report.points if point.stage == "distill")
    return finished_run.out / "stages" / point.id


@pytest.fixture
def data(tmp_path):
    """The tiny task's data, or some that differ in what a network of it cannot know."""

    def write(name="stripes", labels=None, **settings) -> TaskSpec:
        arrays = stripes()
        if labels is not None:
            arrays["label_names"] = np.array(labels)
        np.savez(tmp_path / f"{name}.npz", **arrays)
        return TaskSpec(image_classification=ImageClassification(npz=str(tmp_path / f"{name}.npz"), **settings))

    return write


def spec_of(checkpoint: Path, kind=ModelSpec):
    return kind(checkpoint=str(checkpoint))


# -- a network of another task ---------------------------------------------------------------------------------------

REORDERED = ["vertical", "horizontal", "diagonal"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": REORDERED}, "the same in another order, in which output 0 is `horizontal`, but the task has `vert"),
        ({"labels": ["horizontal", "vertical", "dots"]}, "other labels .* it has `diagonal` and it lacks `dots`"),
        ({"size": 16}, "prepared in another way: `height` was 12, but is 16; `width` was 12, but is 16"),
        ({"crop": 0.9}, r"prepared in another way: `crop` was 1\.0, but is 0\.9"),
    ],
)
@pytest.mark.parametrize("role", ["model", "teacher", "average", "student", "tuned student", "peer"])
def test_a_checkpoint_of_another_task_is_refused_in_every_role(
    tiny_pipeline, checkpoint, data, trained_checkpoint, tmp_path, nothing_may_be_made, role, changed, message
):
    """Its outputs have the right shape, so nothing else would tell: students would learn, and be judged, wrongly."""
    plain = spec_of(trained_checkpoint)  # without a manifest, and so of any task
    theirs, taught = spec_of(checkpoint), spec_of(checkpoint, TeacherSpec)
    distill = Distill(epochs=1, student=theirs)
    model, teacher, stage = {
        "model": (theirs, None, Quantize()),
        "teacher": (plain, taught, Quantize()),
        "average": (plain, TeacherSpec(average=(spec_of(trained_checkpoint, TeacherSpec), taught)), Quantize()),
        "student": (plain, None, distill),
        "tuned student": (
            plain,
            None,
            Tuned(tuple(Variant({("student",): index}, distill.model_copy(update={"student": student}))
                        for index, student in enumerate([SMALL, theirs]))),
        ),
        "peer": (plain, None, Mutual(epochs=1, peers=(SMALL, theirs))),
    }[role]  # fmt: skip
    pipeline = replace(
        tiny_pipeline, task=data(**changed), model=model, teacher=teacher, stages=(stage,), references=(), budget=None
    )
    where = {"average": "teacher", "tuned student": "student", "peer": r"peers\[1\]"}.get(role, role)
    path = r"tiny: stages\[0\]\.\w+: " if "stude" in role or role == "peer" else ""
    for call in (run, plan):
        with pytest.raises(BadInput, match=rf"^{path}{where}: {checkpoint}: .*{message}"):
            call(pipeline, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_the_same_task_is_taken(checkpoint, data, tmp_path):
    for settings in ({}, {"split_seed": 3}, {"augment": Augmentation(shift=1)}, {"metric": "f1_macro"}):
        fitting("teacher", spec_of(checkpoint), data(**settings).load(tmp_path / "cache"), 0)


def test_without_its_manifest_a_checkpoint_is_the_users_word(checkpoint, data, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "bare")
    (tmp_path / "bare" / "manifest.json").unlink()
    task = data(labels=REORDERED).load(tmp_path / "cache")
    fitting("teacher", spec_of(tmp_path / "bare"), task, 0)
    (tmp_path / "bare" / "model.onnx").unlink()
    shutil.copy(checkpoint / "manifest.json", tmp_path / "bare")
    with pytest.raises(ModelError, match="the same in another order"):
        fitting("teacher", spec_of(tmp_path / "bare"), task, 0)


def test_its_weights_alone_may_be_trained_anew(checkpoint, data, tmp_path):
    """What the error offers as the remedy."""
    task = data(labels=REORDERED).load(tmp_path / "cache")
    anew = ModelSpec(residual=Residual(widths=(8, 16)), weights=str(checkpoint / "weights.safetensors"))
    assert fitting("model", anew, task, 0).module.head.out_features == 3


def test_a_network_that_does_not_run_on_the_task_is_named(data, tmp_path, monkeypatch):
    (tmp_path / "narrow_net.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(5, 3)\n")
    task = data().load(tmp_path / "cache")
    with pytest.raises(ModelError, match=r"^student: Linear fails on inputs of shape \[2, 1, 12, 12\]"):
        fitting("student", ModelSpec(python=f"{tmp_path}/narrow_net.py:build"), task, 0)


def test_a_new_network_depends_on_the_seed_alone(data, tmp_path):
    task = data().load(tmp_path / "cache")
    one, again, other = (architecture.digest(built(SMALL, task, seed)) for seed in (1, 1, 2))
    assert one == again != other


# -- a teacher that cannot be asked ----------------------------------------------------------------------------------


@pytest.fixture
def array_teacher(data, tmp_path):
    """A task, and a teacher of arrays for it."""

    def make(**settings):
        task = data(**settings).load(tmp_path / "cache")
        return task, ArrayTeacher({"train": np.zeros((480, 3), np.float32)}, "a" * 64, task)

    return make


def tried(stage, task, teacher, model=SMALL):
    pipeline = Pipeline(task=TaskSpec(image_classification=ImageClassification(npz="x")), model=spec_of(Path("x")),
                        stages=(stage,), name="tiny")  # fmt: skip
    require_trainable_stages(pipeline, built(model, task, 0).module, teacher, task)


NO_TEACHER = Recipe(epochs=1, kd_weight=0.0, task_weight=1.0)
ASKING = {
    "distill": Distill(epochs=1, student=SMALL),
    "distill the incoming": Distill(epochs=1),
    "recover": Prune(ratio=0.5),
    "qat": Quantize(mode="qat"),
    "auto": Quantize(mode="auto"),
    "mutual": Mutual(epochs=1, peers=(SMALL, SMALL), teacher_weight=1.0),
}
SILENT = {
    "train": Train(epochs=1),
    "control": Distill(epochs=1, student=SMALL, kd_weight=0.0),
    "no recovery": Prune(ratio=0.5, recover=None),
    "recovery by labels": Prune(ratio=0.5, recover=NO_TEACHER),
    "ptq": Quantize(),
    "qat by labels": Quantize(mode="qat", qat=NO_TEACHER),
    "mutual": Mutual(epochs=1, peers=(SMALL, SMALL)),
}


@pytest.mark.parametrize("name", ASKING)
def test_predictions_of_augmented_data_are_refused_by_every_stage_that_asks(array_teacher, name):
    """Also by a recovery at the end of the pipeline, which else were found out after hours."""
    task, teacher = array_teacher(augment=Augmentation(flip=True))
    message = rf"tiny: stages\[0\]\.{ASKING[name].kind}: a teacher given as predictions cannot answer for augmented"
    with pytest.raises(ConfigError, match=message):
        tried(ASKING[name], task, teacher)
    plain, teacher = array_teacher()
    tried(ASKING[name], plain, teacher)


@pytest.mark.parametrize("name", SILENT)
def test_who_does_not_ask_is_not_refused(array_teacher, name):
    task, teacher = array_teacher(augment=Augmentation(flip=True))
    tried(SILENT[name], task, teacher)


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ((HINT,), "predictions has no layer `stages.0`; leave out the losses on features"),
        ((LossTerm(hint=Hint(student="stage.0", teacher="x")),), "`hint`: the student has no layer `stage.0`; did you"),
    ],
)
def test_features_of_predictions_are_refused(array_teacher, losses, message):
    task, teacher = array_teacher()
    for stage in (Distill(epochs=1, losses=losses), Prune(ratio=0.5, recover=Recipe(epochs=1, losses=losses))):
        with pytest.raises(ConfigError, match=message):
            tried(stage, task, teacher)


def test_after_peers_the_network_is_not_known_before(array_teacher):
    """Which of them goes on is found out by training, so its layers cannot be looked up; but a student's can."""
    task, _ = array_teacher()
    peers = Mutual(epochs=1, peers=(SMALL, ModelSpec(residual=Residual(widths=(8, 16)))))
    hint = LossTerm(hint=Hint(student="stages.1", teacher="stages.1"))
    more = Distill(epochs=1, losses=(hint, LossTerm(kd=Kd())))
    pipeline = Pipeline(task=TaskSpec(image_classification=ImageClassification(npz="x")), model=SMALL,
                        stages=(peers, more), name="tiny")  # fmt: skip
    require_trainable_stages(pipeline, built(SMALL, task, 0).module, None, task)
    student = more.model_copy(update={"student": SMALL})
    with pytest.raises(ConfigError, match=r"stages\[1\]\.distill: `hint`: the student has no layer `stages\.1`"):
        require_trainable_stages(replace(pipeline, stages=(peers, student)), built(SMALL, task, 0).module, None, task)


# -- from the command line -------------------------------------------------------------------------------------------


def test_it_is_bad_input_for_the_command_line(tiny_pipeline, data, tmp_path, as_yaml, capsys, nothing_may_be_made):
    np.savez(tmp_path / "few.npz", train=np.ones((7, 3)) * 5)
    pipeline = replace(
        tiny_pipeline, task=data(), references=(), budget=Budget(), stages=(Distill(epochs=1, student=SMALL),),
        teacher=TeacherSpec(predictions=str(tmp_path / "few.npz")),
    )  # fmt: skip
    assert invoke(["run", str(as_yaml(pipeline, tmp_path / "tiny.yaml")), "--out", str(tmp_path / "out")]) == 2
    assert "few.npz: `train` has 7 rows, but the data has 480 samples there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="7 rows"):
        run(pipeline, tmp_path / "out")
