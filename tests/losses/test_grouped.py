"""Losses over groups of queries and documents, against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from compresslab.losses import grouped_contrastive, grouped_margin_mse

# Two queries, and two documents of the first's group beside one of the second's.
TARGETS = torch.tensor([-1, 0, -2, 0, 1])


def plane(*degrees: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angles.cos(), angles.sin()], dim=1)


DEGREES = (0.0, 10.0, 60.0, 30.0, 80.0)


def cosines() -> dict[tuple[int, int], float]:
    return {(q, d): math.cos(math.radians(DEGREES[q] - DEGREES[d])) for q in (0, 2) for d in (1, 3, 4)}


def test_contrastive_is_cross_entropy_to_all_right_documents_and_back() -> None:
    scores = {pair: 5.0 * value for pair, value in cosines().items()}

    def log_share(pair: tuple[int, int], among: list[tuple[int, int]]) -> float:
        return scores[pair] - math.log(sum(math.exp(scores[one]) for one in among))

    rows = {q: [(q, d) for d in (1, 3, 4)] for q in (0, 2)}
    columns = {d: [(q, d) for q in (0, 2)] for d in (1, 3, 4)}
    of_queries = [-(log_share((0, 1), rows[0]) + log_share((0, 3), rows[0])) / 2, -log_share((2, 4), rows[2])]
    of_documents = [-log_share((0, 1), columns[1]), -log_share((0, 3), columns[3]), -log_share((2, 4), columns[4])]
    expected = (sum(of_queries) / 2 + sum(of_documents) / 3) / 2
    assert grouped_contrastive(3.0 * plane(*DEGREES), TARGETS, 5.0).item() == pytest.approx(expected, rel=1e-9)


def test_who_has_no_partner_in_the_batch_asks_for_nothing() -> None:
    """A lone query or document is still a wrong answer to others, but is not drawn to anything."""
    pair, lone = plane(0, 10), plane(200)
    alone = grouped_contrastive(pair, torch.tensor([-1, 0]), 5.0)
    assert alone.item() == pytest.approx(0.0, abs=1e-12), "one choice only"
    with_lone = grouped_contrastive(torch.cat([pair, lone]), torch.tensor([-1, 0, 7]), 5.0)
    expected = math.log(1 + math.exp(5 * math.cos(math.radians(200)) - 5 * math.cos(math.radians(10)))) / 2
    assert with_lone.item() == pytest.approx(expected)
    embeddings = plane(0, 10, 20).requires_grad_()
    nothing = grouped_contrastive(embeddings, torch.tensor([-1, 1, 2]), 5.0)
    nothing.backward()
    assert nothing.item() == 0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


def test_margins_are_over_every_triple() -> None:
    teacher = plane(5.0, 40.0, 60.0, 0.0, 100.0)
    ours, theirs = cosines(), {}
    for q, d in ours:
        theirs[q, d] = float(teacher[q] @ teacher[d])
    triples = [(0, 1, 4), (0, 3, 4), (2, 4, 1), (2, 4, 3)]
    errors = [(ours[q, p] - ours[q, n] - theirs[q, p] + theirs[q, n]) ** 2 for q, p, n in triples]
    found = grouped_margin_mse(plane(*DEGREES), torch.cat([teacher, teacher], dim=1), TARGETS)
    assert found.item() == pytest.approx(sum(errors) / 4, rel=1e-9)
    assert grouped_margin_mse(plane(0, 1), plane(0, 5), torch.tensor([-1, 0])).item() == 0, "nothing is wrong there"


def test_gradients() -> None:
    student = plane(*DEGREES).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: grouped_contrastive(one, TARGETS, 5.0), student)
    teacher = plane(5.0, 40.0, 60.0, 0.0, 100.0).requires_grad_()
    assert torch.autograd.gradcheck(lambda one: grouped_margin_mse(one, teacher.detach(), TARGETS), student)
    grouped_margin_mse(student, teacher, TARGETS).backward()
    assert teacher.grad is None


def test_targets_are_one_a_sample() -> None:
    with pytest.raises(ValueError, match=r"one group number each, but got \[2, 2\] and \[3\]"):
        grouped_contrastive(plane(0, 1), torch.tensor([0, 1, 2]), 1.0)
