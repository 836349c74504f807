"""Every term of a loss: the function it stands for, on the rows and layers that it is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional as F

from compresslab import losses
from compresslab.distillation.terms import LossTerm, Seen

CLASSES = 4
LABELLED = torch.tensor([True, False, True, True, False, True])
LAYERS = {"student": "a", "teacher": "b"}


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seen(student: tuple[Tensor, ...] = (), teacher: tuple[Tensor, ...] = (), groups: bool = False) -> Seen:
    """Six samples, of which four have labels."""
    return Seen(
        outputs=drawn(6, CLASSES, seed=0), teacher=2 * drawn(6, CLASSES, seed=1),
        features=student, teacher_features=teacher,
        targets=torch.tensor([3, 0, 1, 1]) if not groups else torch.tensor([-1, 0, 1, -2]), labelled=LABELLED,
        task_loss=F.cross_entropy, scale=2.5, others=ANCHORS,
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A term's settings, other than its defaults, and what it must be of these samples."""

    settings: dict[str, Any]
    expected: Callable[[Seen], Tensor]
    student: tuple[Tensor, ...] = ()
    teacher: tuple[Tensor, ...] = ()
    labels: bool = False


def known(of: Seen) -> tuple[Tensor, Tensor]:
    assert of.teacher is not None
    return of.outputs[LABELLED], of.teacher[LABELLED]


SMALL, LARGE = drawn(6, 3, 4, 4, seed=2), drawn(6, 3, 8, 8, seed=3)
ROWS, OTHER_ROWS = drawn(6, 5, seed=4), drawn(6, 5, seed=5)
ANCHORS = drawn(7, CLASSES, seed=10)
CASES: dict[str, Case] = {
    "task": Case({}, lambda of: F.cross_entropy(of.outputs[LABELLED], of.targets), labels=True),
    "kd": Case({"temperature": 3.0}, lambda of: losses.kd(of.outputs, of.teacher, 3.0)),
    "standardised_kd": Case({"temperature": 3.0}, lambda of: losses.standardised_kd(of.outputs, of.teacher, 3.0)),
    "dkd": Case(
        {"temperature": 3.0, "target_weight": 0.7, "other_weight": 1.7},
        lambda of: losses.dkd(*known(of), of.targets, 3.0, 0.7, 1.7), labels=True,
    ),
    "nkd": Case(
        {"temperature": 3.0, "other_weight": 1.7}, lambda of: losses.nkd(*known(of), of.targets, 3.0, 1.7), labels=True
    ),
    "dist": Case(
        {"temperature": 3.0, "inter_weight": 0.7, "intra_weight": 1.7},
        lambda of: losses.dist(of.outputs, of.teacher, 3.0, 0.7, 1.7),
    ),
    "hard_label": Case({}, lambda of: losses.hard_label(of.outputs, of.teacher)),
    "huber": Case({"delta": 0.3}, lambda of: losses.huber(of.outputs, of.teacher, 2.5, 0.3)),
    "hint": Case(LAYERS, lambda _: losses.hint(LARGE, SMALL), (LARGE,), (SMALL,)),
    "attention": Case(LAYERS, lambda _: losses.attention_transfer(LARGE, SMALL), (LARGE,), (SMALL,)),
    # Relations are between samples, whatever axes their features have.
    "rkd": Case(
        {**LAYERS, "distance_weight": 0.7, "angle_weight": 1.7},
        lambda _: 0.7 * losses.rkd_distance(SMALL.flatten(1), ROWS) + 1.7 * losses.rkd_angle(SMALL.flatten(1), ROWS),
        (SMALL,), (ROWS,),
    ),
    "similarity": Case(
        {**LAYERS, "temperature": 0.2}, lambda _: losses.similarity_kl(SMALL.flatten(1), ROWS, 0.2), (SMALL,), (ROWS,)
    ),
    "embedding": Case({**LAYERS, "distance": "mse"}, lambda _: losses.mse(ROWS, OTHER_ROWS), (ROWS,), (OTHER_ROWS,)),
    "margin_mse": Case(
        {}, lambda of: losses.grouped_margin_mse(*known(of), of.targets), labels=True,
    ),
    "feature_mse": Case({}, lambda of: losses.direction_mse(of.outputs, of.teacher)),
    "similarity_kl": Case(
        {"temperature": 0.2}, lambda of: losses.anchored_kl(of.outputs, of.teacher, ANCHORS, 5.0),
    ),
    "hidden_states": Case(
        {"student": ["a", "c"], "teacher": ["b", "d"]},
        lambda _: losses.hidden_states(
            (drawn(6, 7, 5, seed=6), drawn(6, 7, 5, seed=7)), (drawn(6, 7, 5, seed=8), drawn(6, 7, 5, seed=9)),
            torch.ones(6, 7, dtype=torch.bool),
        ),
        (drawn(6, 7, 5, seed=6), drawn(6, 7, 5, seed=7)), (drawn(6, 7, 5, seed=8), drawn(6, 7, 5, seed=9)),
    ),
}  # fmt: skip


def term(name: str, **more: Any) -> Any:
    return LossTerm.model_validate({name: {**CASES[name].settings, **more}}).term


def value(name: str, of: Seen | None = None) -> Tensor:
    return term(name).value(of or made(name))


def made(name: str) -> Seen:
    case = CASES[name]
    return seen(case.student, case.teacher, groups=name == "margin_mse")


def test_every_term_is_here() -> None:
    assert list(CASES) == list(LossTerm.model_fields)


@pytest.mark.parametrize("name", CASES)
def test_a_term_is_its_function(name: str) -> None:
    """With settings that are not the defaults, so that one which is not handed on shows."""
    case = CASES[name]
    found, expected = value(name), case.expected(made(name))
    assert found.shape == ()
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    assert found.item() != 0


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.student])
def test_terms_of_the_labels_see_labelled_samples_only_and_all_others_see_all(name: str) -> None:
    one = made(name)
    other = replace(one, outputs=torch.where(LABELLED[:, None], one.outputs, one.outputs.roll(1, dims=1)))
    same = value(name, one).item() == value(name, other).item()
    assert same == CASES[name].labels


@pytest.mark.parametrize("name", ["task", "dkd", "nkd", "margin_mse"])
@pytest.mark.parametrize("targets", [None, torch.empty(0, dtype=torch.int64)])
def test_a_batch_without_labels_adds_nothing_and_passes_no_gradient(name: str, targets: Tensor | None) -> None:
    """The mean over no samples would be NaN, which a sum of terms cannot get rid of."""
    outputs = drawn(6, CLASSES, seed=0).requires_grad_()
    nothing = value(name, replace(seen(), outputs=outputs, targets=targets, labelled=torch.zeros(6, dtype=torch.bool)))
    assert nothing.item() == 0
    nothing.backward()
    assert outputs.grad is not None
    assert not outputs.grad.any()


@pytest.mark.parametrize("name", CASES)
def test_a_part_of_a_batch_weighs_its_labelled_samples_alone(name: str) -> None:
    case = CASES[name]
    whole = made(name)
    weighed = term(name).value(replace(whole, labelled_weight=0.25))
    assert weighed.item() == pytest.approx(value(name).item() * (0.25 if case.labels else 1.0), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_what_a_term_says_of_itself(name: str) -> None:
    said = term(name, weight=0.3)
    layers = {"a": "b", "c": "d"} if name == "hidden_states" else {"a": "b"} if CASES[name].student else {}
    assert said.layers == tuple(layers.items())
    assert said.weight == 0.3
    assert said.reads_teacher == (name != "task")
    assert said.reads_labels == (name in ("dkd", "nkd", "margin_mse"))
    assert said.reads_groups == (name == "margin_mse")
    assert not said.reduced
    assert said.projected == (name in ("hint", "embedding", "hidden_states"))
    assert said.reads_classes == (name in ("kd", "standardised_kd", "dkd", "nkd", "dist", "hard_label"))


def test_an_entry_is_exactly_one_term() -> None:
    with pytest.raises(ValidationError, match=r"exactly one of .* must be given, but got none"):
        LossTerm()
    with pytest.raises(ValidationError, match="but got `task` and `kd`"):
        LossTerm.model_validate({"kd": {}, "task": {}})


def test_hidden_states_come_in_pairs() -> None:
    with pytest.raises(ValidationError, match="one teacher layer for each of the student's, but got 2 and 1"):
        LossTerm.model_validate({"hidden_states": {"student": ["a", "c"], "teacher": ["b"]}})


@pytest.mark.parametrize("settings", [{"kd": {"weight": -1}}, {"kd": {"temperature": 0}}, {"huber": {"delta": 0}}])
def test_weights_and_temperatures_out_of_range(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="greater than"):
        LossTerm.model_validate(settings)


def test_between_towers_means_that_there_are_two() -> None:
    with pytest.raises(ValueError, match="between two towers, and the model is one network; use `similarity`"):
        value("similarity_kl", replace(made("similarity_kl"), others=None))
