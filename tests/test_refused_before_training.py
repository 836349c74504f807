"""What cannot be trained is refused before anything is, with the place in the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compresslab import (
    ConfigError,
    Distill,
    ModelSpec,
    Mutual,
    Pipeline,
    Prune,
    Quantize,
    Residual,
    TaskSpec,
    Train,
    plan,
)
from compresslab.distillation import Recipe
from compresslab.stages import Tuned
from compresslab.stages.tuned import Variant
from compresslab.tasks import ImageClassification
from compresslab.teacher import TeacherSpec

NARROW, WIDE = (ModelSpec(residual=Residual(widths=(width, width))) for width in (8, 16))


def hint(student: str = "stages.1", teacher: str = "stages.1") -> dict[str, Any]:
    return {"losses": [{"kd": {}}, {"hint": {"student": student, "teacher": teacher}}]}


def distill(**settings: Any) -> Distill:
    return Distill.model_validate({"epochs": 1, "batch": 64, **settings})


def recipe(**settings: Any) -> Recipe:
    return Recipe.model_validate({"epochs": 1, "batch": 64, **settings})


def tuned(*layers: str) -> Tuned:
    path = ("losses", 1, "hint", "student")
    return Tuned(tuple(Variant({path: layer}, distill(**hint(layer))) for layer in layers))


@pytest.fixture
def refused(tiny_pipeline: Pipeline, tmp_path: Path, nothing_may_be_made: None) -> Callable[..., str]:
    """What the pipeline of these stages is refused with; nothing if it is not."""

    def refuse(*stages: Any, **changes: Any) -> str:
        pipeline = replace(tiny_pipeline, stages=stages, **{"references": (), **changes})
        try:
            plan(pipeline, tmp_path / "out")
        except ConfigError as error:
            return str(error)
        return ""

    return refuse


NEW: dict[str, Any] = {"model": NARROW, "budget": None}

REFUSED: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "a stage": ((distill(**hint("stages.l")),), {}, "tiny: stages[0].distill: `hint`: the student has no layer"),
    "the new student, not the incoming network": (
        (distill(student=NARROW, losses=[{"rkd": {"student": "stages.2", "teacher": "stages.1"}}]),), {},
        "tiny: stages[0].distill: `rkd`: the student has no layer `stages.2`; did you mean `stages.",
    ),
    "recovery after pruning": (
        (Prune(ratio=0.5, recover=recipe(**hint("stages.1", "tail"))),), {},
        "tiny: stages[0].prune.recover: `hint`: the teacher has no layer `tail`",
    ),
    "the traced network of qat": (
        (Quantize(mode="qat", qat=recipe(**hint("stages.1", "stages.1"))),), {},
        "tiny: stages[0].quantize.qat: `hint`: layer `stages.1`",
    ),
    "what a later stage starts from": (
        (distill(student=NARROW), Prune(ratio=0.5, recover=recipe(**hint("stages.1.3")))), {},
        "tiny: stages[1].prune.recover: `hint`: the student has no layer `stages.1.3`",
    ),
    "a teacher that is still to be trained": (
        (Train(epochs=1), distill(student=WIDE, **hint("stages.1", "stages.5"))), NEW,
        "tiny: stages[1].distill: `hint`: the teacher has no layer `stages.5`",
    ),
    "peers of one shape, whichever wins": (
        (Mutual(epochs=1, peers=(WIDE, WIDE)), distill(**hint("head", "stages.1"))), NEW,
        "tiny: stages[1].distill: `hint`: the student's features have 2 axes",
    ),
    "one of the values to choose from": (
        (tuned("stages.0", "stages.7"),), {}, "tiny: stages[0].distill: `hint`: the student has no layer `stages.7`",
    ),
    "a reference": (
        (Train(epochs=1),), {"references": (Quantize(), Prune(ratio=0.5, recover=recipe(**hint("stages.9"))))},
        "tiny: references[1].prune.recover: `hint`: the student has no layer `stages.9`",
    ),
    "a peer that is not for this task": (
        (Mutual(epochs=1, peers=(WIDE, ModelSpec(residual=Residual(widths=(8,)), weights="nowhere.pt"))),), {},
        "tiny: stages[0].mutual: peers[1]: ",
    ),
    "a share of unlabelled samples where there are none": (
        (distill(transfer_ratio=0.5),), {},
        "tiny: stages[0].distill: `transfer_ratio: 0.5` is given, but stripes has no unlabelled samples",
    ),
    "a share of them for peers": (
        (Mutual(epochs=1, peers=(WIDE, WIDE), transfer_ratio=2.0),), {},
        "tiny: stages[0].mutual: `transfer_ratio: 2` is given, but stripes has no unlabelled samples",
    ),
    "too small a batch": (
        (distill(batch=2, losses=[{"rkd": {"student": "head", "teacher": "head"}}]),), {},
        "tiny: stages[0].distill: `rkd` cannot be computed: RKD's angle needs a batch of at least 3 samples",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_its_place(refused, what: str) -> None:
    stages, changes, told = REFUSED[what]
    assert refused(*stages, **changes).startswith(told)


@pytest.mark.parametrize(
    ("stages", "changes"),
    [
        ((distill(student=NARROW, **hint()), Prune(ratio=0.5, recover=recipe(**hint()))), {}),
        # Of a traced network the layers that it calls can be read.
        ((Quantize(mode="qat", qat=recipe(**hint("stages.1.0.relu2", "stages.1"))),), {}),
        ((Quantize(mode="ptq", qat=recipe(**hint("nowhere"))),), {}),
        # Which of the peers goes on, and teaches, is not known before.
        ((Mutual(epochs=1, peers=(NARROW, WIDE)), distill(**hint("stages.1", "stages.1"))), NEW),
        ((tuned("stages.0", "stages.1"),), {}),
    ],
)
def test_what_can_be_trained_is_not_refused(refused, stages, changes) -> None:
    assert refused(*stages, **changes) == ""


def test_predictions_as_teacher_of_peers_under_augmentation(refused, tiny_pipeline, tmp_path) -> None:
    """The tiny pipeline's images are shifted: predictions would be of other pixels."""
    np.savez(tmp_path / "answers.npz", train=np.zeros((480, 3), np.float32))
    teacher = {"teacher": TeacherSpec(predictions=str(tmp_path / "answers.npz"))}
    told = refused(Mutual(epochs=1, peers=(NARROW, NARROW), teacher_weight=0.5), **teacher)
    assert told.startswith("tiny: stages[0].mutual: a teacher given as predictions cannot answer for augmented")
    assert refused(Mutual(epochs=1, peers=(NARROW, NARROW)), **teacher) == "", "it is not asked"
    data = ImageClassification(npz=tiny_pipeline.task.image_classification.npz, name="stripes")
    plain = {"task": TaskSpec(image_classification=data)}
    assert refused(Mutual(epochs=1, peers=(NARROW, NARROW), teacher_weight=0.5), **teacher, **plain) == ""
