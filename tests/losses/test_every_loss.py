"""What every loss promises, whatever it computes: right gradients, an untouched teacher, fp32."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from compresslab import losses

LABELS = torch.tensor([0, 6, 3, 3, 1])
MASK = torch.tensor([[True, True, True, False], [True, True, False, False]])
GROUPS = torch.tensor([-1, 0, 0, -2, 1])
LOGITS, EMBEDDINGS, HIDDEN = (5, 7), (5, 6), (2, 4, 6)
NOT_LOSSES = {"PrincipalComponents", "principal_components", "projector", "uniform_mapping"}


@dataclass(frozen=True)
class Case:
    """A loss as a function of lists of the student's and the teacher's tensors, and the shapes of these."""

    loss: Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
    student: tuple[tuple[int, ...], ...]
    teacher: tuple[tuple[int, ...], ...]

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], list[Tensor]]:
        random = torch.Generator().manual_seed(7)
        student, teacher = (
            [torch.randn(shape, generator=random, dtype=torch.float64).to(dtype) for shape in shapes]
            for shapes in (self.student, self.teacher)
        )
        return [tensor.requires_grad_() for tensor in student], teacher


NUMBERS = torch.tensor([0, 1, 1, 2, 3])
CASES = {
    "kd": Case(lambda s, t: losses.kd(*s, *t, 3.0), (LOGITS,), (LOGITS,)),
    "standardised_kd": Case(lambda s, t: losses.standardised_kd(*s, *t, 2.0), (LOGITS,), (LOGITS,)),
    "dkd": Case(lambda s, t: losses.dkd(*s, *t, LABELS, 3.0, 1.0, 8.0), (LOGITS,), (LOGITS,)),
    "dist": Case(lambda s, t: losses.dist(*s, *t, 2.0, 1.0, 0.5), (LOGITS,), (LOGITS,)),
    "nkd": Case(lambda s, t: losses.nkd(*s, *t, LABELS, 2.0, 1.5), (LOGITS,), (LOGITS,)),
    "hard_label": Case(lambda s, t: losses.hard_label(*s, *t), (LOGITS,), (LOGITS,)),
    "hint": Case(lambda s, t: losses.hint(*s, *t), ((2, 3, 4, 6),), ((2, 3, 2, 6),)),
    "attention_transfer": Case(lambda s, t: losses.attention_transfer(*s, *t), ((2, 3, 4, 4),), ((2, 5, 2, 2),)),
    "rkd_distance": Case(lambda s, t: losses.rkd_distance(*s, *t), (EMBEDDINGS,), ((5, 9),)),
    "rkd_angle": Case(lambda s, t: losses.rkd_angle(*s, *t), (EMBEDDINGS,), ((5, 9),)),
    "similarity_kl": Case(lambda s, t: losses.similarity_kl(*s, *t, 0.1), (EMBEDDINGS,), ((5, 9),)),
    "cosine": Case(lambda s, t: losses.cosine(*s, *t), (EMBEDDINGS,), (EMBEDDINGS,)),
    "mse": Case(lambda s, t: losses.mse(*s, *t), (EMBEDDINGS,), (EMBEDDINGS,)),
    "margin_mse": Case(lambda s, t: losses.margin_mse(*s, *t), ((5,), (5,)), ((5,), (5,))),
    "grouped_contrastive": Case(lambda s, t: losses.grouped_contrastive(*s, GROUPS, 10.0), (EMBEDDINGS,), ()),
    "grouped_margin_mse": Case(lambda s, t: losses.grouped_margin_mse(*s, *t, GROUPS), (EMBEDDINGS,), ((5, 9),)),
    "feature_mse": Case(lambda s, t: losses.feature_mse(*s, *t), (EMBEDDINGS,) * 2, (EMBEDDINGS,) * 2),
    "contrastive_kl": Case(
        lambda s, t: losses.contrastive_kl(*s, *t, 10.0, 20.0, 2.0), (EMBEDDINGS,) * 2, ((5, 9),) * 2
    ),
    "anchored_contrastive": Case(
        lambda s, t: losses.anchored_contrastive(*s, NUMBERS, *t, NUMBERS.flip(0), 10.0), (EMBEDDINGS,), (EMBEDDINGS,)
    ),
    "anchored_kl": Case(lambda s, t: losses.anchored_kl(*s, *t, 10.0), (EMBEDDINGS,), (EMBEDDINGS,) * 2),
    "direction_mse": Case(lambda s, t: losses.direction_mse(*s, *t), (EMBEDDINGS,), (EMBEDDINGS,)),
    "hidden_states": Case(lambda s, t: losses.hidden_states(s, t, MASK), (HIDDEN,) * 2, (HIDDEN,) * 2),
    "attention_maps": Case(lambda s, t: losses.attention_maps(s, t, MASK), ((2, 3, 4, 4),) * 2, ((2, 3, 4, 4),) * 2),
    "huber": Case(lambda s, t: losses.huber(*s, *t, 2.0, 0.5), ((5, 2),), ((5, 2),)),
}

every_loss = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def test_no_loss_is_left_out() -> None:
    assert set(CASES) == set(losses.__all__) - NOT_LOSSES
    assert losses.__all__ == sorted(losses.__all__)


@pytest.mark.parametrize("name", [name for name in CASES if name != "kd"])
def test_gradient(name: str) -> None:
    """By finite differences in fp64. `kd` computes in fp32 always; its gradient is in test_logits."""
    case = CASES[name]
    student, teacher = case.tensors(torch.float64)
    assert case.loss(student, teacher).dtype == torch.float64
    assert torch.autograd.gradcheck(lambda *tensors: case.loss(tensors, teacher), student)


@every_loss
def test_no_gradient_reaches_the_teacher(case: Case) -> None:
    student, teacher = case.tensors()
    for tensor in teacher:
        tensor.requires_grad_()
    case.loss(student, teacher).backward()
    assert all(tensor.grad is None for tensor in teacher)
    assert all(tensor.grad is not None and tensor.grad.abs().sum() > 0 for tensor in student)


@every_loss
def test_fp32_under_autocast(case: Case) -> None:
    """Catches products of matrices in bf16, in the value and in the gradient."""
    student, teacher = case.tensors()
    with torch.autocast("cpu", torch.bfloat16):
        inside = case.loss(student, teacher)
    outside = case.loss(student, teacher)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, outside, rtol=1e-6, atol=1e-8)
    for one, other in zip(torch.autograd.grad(inside, student), torch.autograd.grad(outside, student), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-8)


@every_loss
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_half_types_are_widened_first(case: Case, dtype: torch.dtype) -> None:
    student, teacher = case.tensors(dtype)
    wide = case.loss([tensor.float() for tensor in student], [tensor.float() for tensor in teacher])
    half = case.loss(student, teacher)
    assert half.dtype == torch.float32
    assert half.item() == wide.item()
    half.backward()
    assert all(tensor.grad is not None and tensor.grad.dtype == dtype for tensor in student)


@pytest.mark.parametrize("name", CASES)
def test_names_and_parameters_survive_the_guard(name: str) -> None:
    """A configuration finds a loss and the names of its weights by these."""
    loss = getattr(losses, name)
    assert loss.__name__ == name
    assert loss.__module__.startswith("compresslab.losses.")
    assert not any(
        parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in inspect.signature(loss).parameters.values()
    )


def test_keyword_arguments_are_guarded_too() -> None:
    student, teacher = (torch.randn(4, 3, dtype=torch.bfloat16) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses.rkd_angle(student=student, teacher=teacher)
    assert loss.item() == losses.rkd_angle(student.float(), teacher.float()).item()
    assert loss.dtype == torch.float32


def test_autocast_is_on_again_afterwards() -> None:
    student = torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        losses.rkd_angle(student, student)
        assert (student @ student.T).dtype == torch.bfloat16
