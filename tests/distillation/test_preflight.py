"""require_trainable(): what cannot be trained is refused before, and networks are as they were after."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from compresslab.data.augmentation import Augmentation
from compresslab.distillation import Recipe
from compresslab.distillation.preflight import require_trainable
from compresslab.errors import BadInput, DataError, ModelError
from compresslab.models import ModelSpec, Signature, architecture
from compresslab.models.residual import Residual
from compresslab.store import Store
from compresslab.tasks import Task
from compresslab.teacher import ArrayTeacher, NetworkTeacher
from compresslab.testing import tiny_candidate


@pytest.fixture(scope="module")
def task(make_images: Callable[..., Task]) -> Task:
    return make_images(Augmentation(), True)


def recipe(*losses: dict[str, Any], **settings: Any) -> Recipe:
    return Recipe.model_validate({"epochs": 1, "batch": 64, **({"losses": list(losses)} if losses else {}), **settings})


def layers(name: str, student: str, teacher: str) -> dict[str, Any]:
    return {name: {"student": student, "teacher": teacher}}


def student() -> torch.nn.Module:
    return tiny_candidate((8,)).network.module


REFUSED = {
    "the student's layer is misspelt": (
        recipe({"kd": {}}, layers("hint", "stage.0", "stages.1")),
        r"`hint`: the student has no layer `stage\.0`; did you mean `stages\.0`\?",
    ),
    "the teacher's layer is misspelt": (
        recipe(layers("rkd", "stages.0", "stages.l")),
        r"`rkd`: the teacher has no layer `stages\.l`; did you mean `stages\.\d`\?",
    ),
    "the ranks differ": (
        recipe(layers("hint", "stages.0", "head")),
        r"`hint`: the student's features have 4 axes .*, the teacher's 2 .*; name two layers of the same kind",
    ),
    "attention without positions": (
        recipe({"task": {}}, layers("attention", "head", "head")),
        r"`attention` cannot be computed: attention transfer needs \[batch, channels, height, width\]",
    ),
    "embeddings of another size": (
        recipe(layers("embedding", "stages.0", "stages.1")),
        r"`embedding` cannot be computed: student and teacher must have the same shape",
    ),
    "too small a batch for triplets": (
        recipe(layers("rkd", "head", "head"), batch=2),
        r"`rkd` cannot be computed: RKD's angle needs a batch of at least 3 samples, but got 2",
    ),
    "too small a part of a batch": (
        recipe({"dist": {}}, batch=8, accumulate=8),
        r"`dist` cannot be computed: DIST needs a batch of at least 2 samples, but got 1",
    ),
}


@pytest.mark.parametrize("why", REFUSED)
def test_refused_with_the_term_and_the_remedy(task, make_teacher, why) -> None:
    refused, message = REFUSED[why]
    with pytest.raises(ModelError, match=message):
        require_trainable(refused, student(), make_teacher(task), task)


@pytest.mark.parametrize(
    "fits",
    [
        recipe(),
        recipe({"kd": {}}, {"task": {}}, layers("hint", "stages.0", "stages.1"), layers("rkd", "stages.0", "head")),
        # The strides differ: hint and attention pool the larger feature to the smaller one's size.
        recipe(layers("attention", "stem", "stages.1"), layers("hint", "stem", "stages.1")),
        recipe(layers("embedding", "head", "head"), {"dist": {}}, mixup=0.5, batch=2),
        recipe({"rkd": {"student": "stages.0", "teacher": "head", "weight": 0}}, {"kd": {}}, batch=2),
    ],
)
def test_what_fits_passes(task, make_teacher, fits) -> None:
    require_trainable(fits, student(), make_teacher(task), task)


@pytest.mark.parametrize(
    "listed", [recipe(layers("hint", "stages.0", "stages.1")), recipe(layers("hint", "stages.0", "head"))]
)
def test_networks_and_randomness_are_left_alone(task, make_teacher, listed) -> None:
    """Also when it is refused: BatchNorm statistics, modes, gradients, and what is drawn next."""
    teacher = make_teacher(task)
    learns = student().train()
    before = [copy.deepcopy(one.state_dict()) for one in (learns, teacher.module)]
    torch.manual_seed(7)
    with suppress(ModelError):
        require_trainable(listed, learns, teacher, task)
    assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(7)))
    assert learns.training
    assert not teacher.module.training
    for module, state in zip((learns, teacher.module), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())
        assert not any(part._forward_hooks for part in module.modules())


def test_a_teacher_of_other_classes(task, tmp_path) -> None:
    """It would be found out when it first answers, which may be after hours of `train`."""
    model = ModelSpec(residual=Residual(widths=(8,))).build(Signature("images", 1, 5))
    teacher = NetworkTeacher(model.module, architecture.digest(model), task, Store(tmp_path / "store"))
    with pytest.raises(ModelError, match=r"answers with shape \[4, 5\], but the task has 3 labels and needs \[4, 3\]"):
        require_trainable(recipe(), student(), teacher, task)


def test_a_layer_of_the_teacher_that_does_not_run(task, make_teacher) -> None:
    teacher = make_teacher(task)
    teacher.module.add_module("spare", torch.nn.Linear(2, 2))
    with pytest.raises(ModelError, match=r"layer `spare` \(Linear\) is not run by its network"):
        require_trainable(recipe(layers("hint", "head", "spare")), student(), teacher, task)


def test_predictions_as_teacher(make_images, tmp_path: Path) -> None:
    """They have no layers, and are of the samples as they are."""
    plain, shifted = (make_images(augment, False) for augment in (Augmentation(), Augmentation(shift=1)))
    parts = {"train": np.zeros((480, 3), np.float32)}
    require_trainable(recipe(), student(), ArrayTeacher(parts, "digest", plain), plain)
    with pytest.raises(ModelError, match="has no layer `head`"):
        require_trainable(recipe(layers("rkd", "head", "head")), student(), ArrayTeacher(parts, "d", plain), plain)
    for task, settings in ((shifted, {}), (plain, {"mixup": 0.1})):
        with pytest.raises(DataError, match="cannot answer for augmented or mixed samples"):
            require_trainable(recipe(**settings), student(), ArrayTeacher(parts, "d", task), task)


def test_losses_between_classes_for_a_regression(scores, score_network) -> None:
    silent = SimpleNamespace(require=lambda *_: pytest.fail("the teacher is not asked"))
    with pytest.raises(BadInput, match="`dist` is a loss between classes, but scores is a regression; use `huber`"):
        require_trainable(recipe({"dist": {}}), score_network(), silent, scores)


def test_without_a_teacher_or_use_for_it_nothing_is_asked(task) -> None:
    silent = SimpleNamespace(require=lambda *_: pytest.fail("the teacher is not asked"))
    require_trainable(recipe(layers("rkd", "head", "head")), student(), None, task)
    require_trainable(recipe(kd_weight=0.0), student(), silent, task)
    with pytest.raises(ModelError, match=r"`rkd`: the student has no layer `heed`; did you mean `head`\?"):
        require_trainable(recipe(layers("rkd", "heed", "head")), student(), None, task)
