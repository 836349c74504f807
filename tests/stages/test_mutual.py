"""mutual: each peer learns from the labels and from the others, as if it were alone with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compresslab.distillation import validation_score
from compresslab.losses import huber, kd
from compresslab.models import ModelSpec, architecture
from compresslab.stages import Mutual
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.tasks.regression import Regression
from compresslab.teacher import OUTPUT
from compresslab.testing import context, stripes, tiny_candidate
from compresslab.training import Batch, Epoch

NARROW, WIDE = ({"residual": {"widths": [width]}} for width in (8, 16))


def mutual(*peers: dict[str, Any], **settings: Any) -> Mutual:
    return Mutual.model_validate({"epochs": 1, "batch": 64, "precision": "fp32", "peers": list(peers), **settings})


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("images")
    np.savez(folder / "stripes.npz", **stripes())
    np.savez(folder / "more.npz", images=stripes(100, seed=7)["images"])
    data = ImageClassification(npz=str(folder / "stripes.npz"), transfer=str(folder / "more.npz"))
    return TaskSpec(image_classification=data).load(folder)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("scores")
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 4)).astype(np.float32)
    np.savez(folder / "scores.npz", features=features, targets=50 + 20 * features[:, 0])
    return TaskSpec(regression=Regression(npz=str(folder / "scores.npz"))).load(folder)


@dataclass
class Asked:
    """What the stage asked of fit()."""

    peers: nn.Module
    batch: Batch
    loss: Callable[[nn.Module, Batch], torch.Tensor]

    def outputs(self) -> list[torch.Tensor]:
        return list(self.peers(self.batch.inputs))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Asked]:
    def ask(stage: Mutual, task: Task, *, taught: bool = False) -> Asked:
        caught: list[Asked] = []

        def fit(module: nn.Module, batches: Any, steps: int, loss: Any, *_: object, **__: object) -> tuple[Epoch, ...]:
            caught.append(Asked(module.eval(), next(iter(batches(0))), loss))
            return ()

        monkeypatch.setattr("compresslab.stages.mutual.fit", fit)
        given = context(tmp_path, task, tiny_candidate((16, 16), seed=1).network if taught else None)
        stage.apply(tiny_candidate(), given)
        return caught[0]

    return ask


# -- the loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peers", [(NARROW, WIDE), (NARROW, NARROW, WIDE)])
@pytest.mark.parametrize("taught", [False, True])
def test_the_loss_by_hand(asked, task, peers, taught) -> None:
    """For each peer: its task's loss, T^2 KL to the mean of the others', and to the teacher; unlabelled samples too."""
    stage = mutual(*peers, temperature=2.0, peer_weight=0.7, task_weight=0.3, teacher_weight=0.5)
    made = asked(stage, task, taught=taught)
    outputs, known = made.outputs(), made.batch.labelled
    assert 0 < known.sum() < 64
    assert (OUTPUT in made.batch.teacher) == taught
    expected = 0.0
    for own in outputs:
        others = [kd(own, other, 2.0).item() for other in outputs if other is not own]
        expected += 0.7 * np.mean(others) + 0.3 * F.cross_entropy(own[known], made.batch.targets[known]).item()
        if taught:
            expected += 0.5 * kd(own, made.batch.teacher[OUTPUT], 2.0).item()
    assert made.loss(made.peers, made.batch).item() == pytest.approx(expected, rel=1e-5)


def test_each_peer_has_the_gradient_of_its_own_loss(asked, task) -> None:
    """What the others answer is given: a peer does not change others to be liked by them."""
    made = asked(mutual(NARROW, WIDE, temperature=2.0), task)
    made.loss(made.peers, made.batch).backward()
    found = [[one.grad.clone() for one in peer.parameters()] for peer in made.peers.peers]
    known = made.batch.labelled
    for index, peer in enumerate(made.peers.peers):
        made.peers.zero_grad()
        outputs = made.outputs()
        own, other = outputs[index], outputs[1 - index].detach()
        (kd(own, other, 2.0) + F.cross_entropy(own[known], made.batch.targets[known])).backward()
        for one, gradient in zip(peer.parameters(), found[index], strict=True):
            torch.testing.assert_close(gradient, one.grad)
        assert all(one.grad is None for one in made.peers.peers[1 - index].parameters())


def test_peers_of_a_regression_learn_from_each_others_numbers(asked, scores) -> None:
    """A softmax over one number is 1: KL would be 0 whatever they answer."""
    peers = {"mlp": {"widths": [8]}}, {"mlp": {"widths": [4]}}
    made = asked(mutual(*peers, task_weight=0.0, peer_weight=2.0), scores)
    one, other = made.outputs()
    expected = 4 * huber(one, other, scores.target_scale, 1.0).item()
    assert made.loss(made.peers, made.batch).item() == pytest.approx(expected, rel=1e-5)
    assert expected > 0


def test_parts_of_a_batch_add_up_to_the_whole(asked, task) -> None:
    made = asked(mutual(NARROW, NARROW), task)
    parts = made.batch.parts(7)
    total = sum(made.loss(made.peers, part).item() * len(part.inputs) / 64 for part in parts)
    assert total == pytest.approx(made.loss(made.peers, made.batch).item(), rel=1e-5)


def test_peers_trained_apart_leave_unlabelled_samples_out(asked, task) -> None:
    """Nobody speaks about them; and the teacher is not asked where it has no weight."""
    made = asked(mutual(NARROW, WIDE, peer_weight=0.0), task, taught=True)
    assert made.batch.labelled is None
    assert not made.batch.teacher
    expected = sum(F.cross_entropy(one, made.batch.targets).item() for one in made.outputs())
    assert made.loss(made.peers, made.batch).item() == pytest.approx(expected, rel=1e-5)


# -- what comes of it ------------------------------------------------------------------------------------------------


def test_peers_of_one_shape_start_apart_and_alike_again_with_the_same_seed(asked, task) -> None:
    """Two equal networks would stay equal, and have nothing to tell each other."""
    first, again = (asked(mutual(NARROW, NARROW), task).peers.peers for _ in range(2))
    states = [[one.state_dict()["stem.0.weight"] for one in peers] for peers in (first, again)]
    assert not torch.equal(states[0][0], states[0][1])
    assert torch.equal(states[0][0], states[1][0])
    assert torch.equal(states[0][1], states[1][1])


def test_every_peer_is_a_candidate_and_the_best_on_validation_is_told(task, tmp_path) -> None:
    stage = mutual(NARROW, WIDE, NARROW, epochs=2, learning_rate=0.05)
    start = tiny_candidate()
    made = stage.apply(start, context(tmp_path, task))
    scores = [validation_score(one.network.module, task) for one in made]
    decisions = [one.lineage[-1].decisions for one in made]
    assert [one["peer"] for one in decisions] == [0, 1, 2]
    assert [one["validation"] for one in decisions] == pytest.approx(scores, abs=1e-6)
    assert [one["best"] for one in decisions] == [index == int(np.argmax(scores)) for index in range(3)]
    assert all(len(one["loss"]) == 2 for one in decisions)
    assert len({one.digest for one in made}) == 3
    signature = task.signature
    for one, peer in zip(made, stage.peers, strict=True):
        expected = ModelSpec.model_validate(peer.model_dump()).build(signature).builder
        assert one.network.builder == expected
        architecture.save(one.network, tmp_path / one.digest)
    assert not any(one.network.module.training for one in made)


def test_a_killed_training_goes_on_to_the_same_peers(task, tmp_path, monkeypatch) -> None:
    class Killed(Exception):
        pass

    stage = mutual(NARROW, NARROW, epochs=3, batch=109)
    whole = [architecture.digest(one.network) for one in stage.apply(tiny_candidate(), context(tmp_path / "a", task))]
    given = context(tmp_path / "b", task)
    begun: list[int] = []

    class Watch(type(given.progress)):
        def advance(self, steps: int = 1, **values: float) -> None:
            begun.append(int(values.get("epoch", 0)))
            if begun.count(2) == 3 and len(begun) < 12:
                raise Killed("in the second epoch")

    with pytest.raises(Killed, match="in the second epoch"):
        stage.apply(tiny_candidate(), replace(given, progress=Watch()))
    begun.extend([0] * 12)
    resumed = stage.apply(tiny_candidate(), replace(given, progress=Watch()))
    assert [architecture.digest(one.network) for one in resumed] == whole
    assert begun.count(1) == 4, "the first epoch is not trained again"


def test_two_peers_at_least() -> None:
    with pytest.raises(ValueError, match="at least 2 items"):
        mutual(NARROW)
