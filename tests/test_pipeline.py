"""The rules of order: what cannot work is refused before anything runs, with the reason and the remedy."""

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
from compresslab.pipeline import broken_rules

TASK = TaskSpec(image_classification=ImageClassification(npz="images.npz"))
SMALL = Residual(widths=(8,))
NEW = ModelSpec(residual=SMALL)
TRAINED = ModelSpec(residual=SMALL, weights="teacher.safetensors")
TEACHER = TeacherSpec(checkpoint="runs/x/stages/abcd")
TRAIN, DISTILL, PRUNE, QUANTIZE = Train(epochs=1), Distill(epochs=1), Prune(ratio=0.5), Quantize()
STUDENT = Distill(epochs=1, student=NEW)


def make(*stages, model=TRAINED, **more):
    return Pipeline(task=TASK, model=model, stages=stages, name="x", **more)


@pytest.mark.parametrize(
    ("stages", "model", "more"),
    [
        ((), TRAINED, {}),
        ((QUANTIZE,), TRAINED, {}),
        ((PRUNE, QUANTIZE), TRAINED, {}),
        ((STUDENT, PRUNE, QUANTIZE), TRAINED, {}),
        ((PRUNE, DISTILL, QUANTIZE), TRAINED, {}),
        ((PRUNE, PRUNE), TRAINED, {}),
        ((TRAIN, STUDENT, QUANTIZE), NEW, {}),
        ((TRAIN, PRUNE, TRAIN), NEW, {}),
        ((DISTILL, QUANTIZE), NEW, {"teacher": TEACHER}),
        ((QUANTIZE,), TRAINED, {"references": (QUANTIZE, STUDENT)}),
        ((PRUNE,), ModelSpec(checkpoint="runs/x/stages/abcd"), {}),
        ((PRUNE,), ModelSpec(python="mine:trained"), {}),
    ],
)
def test_orders_that_work(stages, model, more):
    pipeline = make(*stages, model=model, **more)
    assert broken_rules(pipeline) == []
    assert pipeline.stages == stages


@pytest.mark.parametrize(
    ("stages", "model", "more", "path", "reason"),
    [
        (
            (QUANTIZE, TRAIN),
            TRAINED,
            {},
            "stages[1].train",
            "nothing may follow `quantize`: float training would undo the integer weights; move `quantize` to the end",
        ),
        (
            (QUANTIZE, QUANTIZE),
            TRAINED,
            {},
            "stages[1].quantize",
            "nothing may follow `quantize`: it is int8 already; move `quantize` to the end",
        ),
        (
            (PRUNE, STUDENT),
            TRAINED,
            {},
            "stages[1].distill",
            "`student` starts a new network, so the pruning before it would be lost; distil first, or leave `student` "
            "out to train the pruned network",
        ),
        (
            (DISTILL,),
            NEW,
            {},
            "stages[0].distill",
            "there is no trained teacher: `model` has no weights; give `teacher`, weights for `model`, or a `train` "
            "stage before",
        ),
        (
            (PRUNE,),
            NEW,
            {},
            "stages[0].prune",
            "the network has not been trained yet; give `model` weights, or put `train` or `distill` first",
        ),
        (
            (QUANTIZE,),
            NEW,
            {"teacher": TEACHER},
            "stages[0].quantize",
            "the network has not been trained yet; give `model` weights, or put `train` or `distill` first",
        ),
        (
            (DISTILL,),
            NEW,
            {"teacher": TeacherSpec(average=(TEACHER, TeacherSpec(residual=SMALL)))},
            "teacher.average[1]",
            "this network has no weights, so nothing can be learned from it; give `weights` or a `checkpoint`",
        ),
        (
            (TRAIN,),
            NEW,
            {"references": (QUANTIZE,)},
            "references[0].quantize",
            "a reference starts from `model`, which has no weights; give it weights",
        ),
    ],
)
def test_orders_that_cannot_work(stages, model, more, path, reason):
    with pytest.raises(ConfigError, match=r"^x: ") as caught:
        make(*stages, model=model, **more)
    assert [(problem.path, problem.message) for problem in caught.value.problems] == [(path, reason)]


def test_every_broken_rule_is_told_at_once():
    with pytest.raises(ConfigError, match="nothing may follow") as caught:
        make(PRUNE, QUANTIZE, STUDENT, model=NEW, references=(PRUNE,))
    assert [problem.path for problem in caught.value.problems] == [
        "stages[0].prune", "stages[1].quantize", "stages[2].distill", "stages[2].distill", "stages[2].distill",
        "references[0].prune",
    ]  # fmt: skip


def test_a_list_of_stages_is_kept_as_a_tuple():
    """A caller who goes on editing the list must not change the pipeline."""
    stages = [PRUNE]
    pipeline = Pipeline(task=TASK, model=TRAINED, stages=stages)
    stages.append(QUANTIZE)
    assert pipeline.stages == (PRUNE,)
