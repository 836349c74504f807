"""Preflight: a network of another task is refused in every role, before anything is trained."""

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
    Quantize,
    Residual,
    TaskSpec,
    TeacherSpec,
    plan,
    run,
)
from compresslab.cli.app import invoke
from compresslab.data.augmentation import Augmentation
from compresslab.errors import BadInput
from compresslab.models import architecture
from compresslab.preflight import fitting
from compresslab.progress import Silent
from compresslab.runner import _Run
from compresslab.stages import Mutual, Tuned
from compresslab.stages.tuned import Variant
from compresslab.testing import stripes

SMALL = ModelSpec(residual=Residual(widths=(8,)))


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
    one, again, other = (architecture.digest(SMALL.build(task.signature, seed)) for seed in (1, 1, 2))
    assert one == again != other


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


# -- quantization ----------------------------------------------------------------------------------------------------


def test_importance_that_reads_labels_is_refused_where_calibration_has_none(
    finished_run, data, tmp_path, nothing_may_be_made
):
    """Else it would be an assertion, after the training that stands before."""
    np.savez(tmp_path / "field.npz", images=stripes(40, seed=7)["images"])
    task = data(calibration_data=str(tmp_path / "field.npz"))
    train, distil, prune, quantize = finished_run.pipeline.stages
    stages = (train, distil, prune.model_copy(update={"importance": "taylor"}), quantize)
    pipeline = replace(finished_run.pipeline, task=task, stages=stages)
    message = r"stages\[2\]\.prune\.importance: `taylor` asks .* samples have no labels; use `magnitude`"
    for call in (run, plan):
        with pytest.raises(ConfigError, match=message):
            call(pipeline, tmp_path / "out")


@pytest.mark.parametrize(("isa", "slow"), [(["avx2"], True), (["avx2", "avx512_vnni"], False), (["i8mm"], False)])
def test_a_processor_that_is_slow_with_integers_is_told_in_the_run(copied_run, tmp_path, monkeypatch, isa, slow):
    monkeypatch.setattr("compresslab.measured.fingerprint", lambda: {"cpu": "old", "isa": isa})
    notes = _Run(copied_run.pipeline, tmp_path, copied_run.store, False, Silent()).progress.notes
    assert any("slow with int8: without VNNI" in note and "saturate" in note for note in notes) is slow
