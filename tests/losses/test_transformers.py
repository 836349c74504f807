from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compresslab.losses import attention_maps, hidden_states, uniform_mapping

RANDOM = torch.Generator().manual_seed(29)
MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])
REAL = [(0, 0), (0, 1), (0, 2), (1, 0)]


def layers(*shape: int) -> list[Tensor]:
    return [torch.randn(shape, generator=RANDOM, dtype=torch.float64) for _ in range(2)]


def test_hidden_states_over_real_tokens() -> None:
    """Catches a mean over padded tokens too, a mean of means over samples of unequal length, and a sum over layers."""
    student, teacher = layers(2, 4, 3), layers(2, 4, 3)
    errors = [
        (s[b, t, d] - r[b, t, d]).item() ** 2
        for s, r in zip(student, teacher, strict=True)
        for b, t in REAL
        for d in range(3)
    ]
    assert len(errors) == 2 * 4 * 3
    assert hidden_states(student, teacher, MASK).item() == pytest.approx(math.fsum(errors) / len(errors), rel=1e-10)


def test_attention_maps_over_real_pairs() -> None:
    """Only where query and key are both real: 9 pairs of the first sample, 1 of the second."""
    student, teacher = layers(2, 3, 4, 4), layers(2, 3, 4, 4)
    errors = [
        (s[b, h, q, k] - r[b, h, q, k]).item() ** 2
        for s, r in zip(student, teacher, strict=True)
        for h in range(3)
        for b, q in REAL
        for other, k in REAL
        if other == b
    ]
    assert len(errors) == 2 * 3 * (9 + 1)
    assert attention_maps(student, teacher, MASK).item() == pytest.approx(math.fsum(errors) / len(errors), rel=1e-10)


def test_layers_of_another_size_weigh_the_same() -> None:
    student, teacher = layers(2, 4, 3), layers(2, 4, 3)
    student[1], teacher[1] = (torch.cat([x, x], dim=2) for x in (student[1], teacher[1]))
    expected = sum(hidden_states([s], [t], MASK).item() for s, t in zip(student, teacher, strict=True)) / 2
    assert hidden_states(student, teacher, MASK).item() == pytest.approx(expected)


@pytest.mark.parametrize("padding", [1e9, -math.inf, math.nan])
@pytest.mark.parametrize("teacher_too", [False, True])
@pytest.mark.parametrize("kind", ["hidden", "scores"])
def test_padding_has_no_part_in_value_or_gradient(padding: float, teacher_too: bool, kind: str) -> None:
    """Scores of padded keys are -inf: their difference is NaN, and NaN * 0 in a gradient still is."""
    loss, shape = (hidden_states, (2, 4, 3)) if kind == "hidden" else (attention_maps, (2, 3, 4, 4))
    student, teacher = layers(*shape), layers(*shape)
    expected = loss(student, teacher, MASK).item()
    padded = ~MASK[:, :, None] if kind == "hidden" else ~(MASK[:, None, :, None] & MASK[:, None, None, :])
    student = [layer.masked_fill(padded, padding).requires_grad_() for layer in student]
    teacher = [layer.masked_fill(padded, padding) if teacher_too else layer for layer in teacher]
    value = loss(student, teacher, MASK)
    value.backward()
    assert value.item() == pytest.approx(expected)
    for layer in student:
        assert layer.grad is not None
        assert layer.grad.masked_select(padded).abs().sum() == 0
        assert layer.grad.masked_select(~padded).abs().min() > 0


def test_nothing_but_padding() -> None:
    assert hidden_states(layers(2, 4, 3), layers(2, 4, 3), torch.zeros_like(MASK)).item() == 0


def test_layers_that_do_not_belong_together() -> None:
    states, maps = layers(2, 4, 3), layers(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"each layer .* but got 2 and 1; choose the teacher's with `uniform_mapping`"):
        hidden_states(states, states[:1], MASK)
    with pytest.raises(ValueError, match=r"each layer .* but got 0 and 0"):
        attention_maps([], [], MASK)
    with pytest.raises(ValueError, match=r"but got \[2, 4, 3\] and \[2, 4, 5\]; project hidden states"):
        hidden_states(states, layers(2, 4, 5), MASK)
    with pytest.raises(ValueError, match="attention maps need as many heads"):
        attention_maps(maps, [layer[:, :1] for layer in maps], MASK)
    with pytest.raises(ValueError, match=r"a layer of 4 axes and a bool mask .* but got \[2, 4, 3\]"):
        attention_maps(states, states, MASK)
    with pytest.raises(ValueError, match=r"but got .* torch.int64 .*; give `attention_mask.bool\(\)`"):
        hidden_states(states, states, MASK.long())
    with pytest.raises(ValueError, match=r"torch.bool \[2, 3\]"):
        hidden_states(states, states, MASK[:, :3])


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        (4, 12, (2, 5, 8, 11)),
        (6, 12, (1, 3, 5, 7, 9, 11)),
        (3, 3, (0, 1, 2)),
        (1, 12, (11,)),
        (4, 6, (0, 2, 3, 5)),
    ],
)
def test_uniform_mapping(student: int, teacher: int, expected: tuple[int, ...]) -> None:
    assert uniform_mapping(student, teacher) == expected


@pytest.mark.parametrize("teacher", range(1, 25))
def test_uniform_mapping_rises_and_ends_at_the_top(teacher: int) -> None:
    for student in range(1, teacher + 1):
        mapping = uniform_mapping(student, teacher)
        assert len(set(mapping)) == student
        assert list(mapping) == sorted(mapping)
        assert mapping[0] >= 0
        assert mapping[-1] == teacher - 1


@pytest.mark.parametrize(("student", "teacher"), [(0, 3), (4, 3)])
def test_layers_that_cannot_be_mapped(student: int, teacher: int) -> None:
    with pytest.raises(ValueError, match=f"must hold, but got {student} and {teacher}; give the student fewer layers"):
        uniform_mapping(student, teacher)
