import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresslab.errors import Diverged
from compresslab.progress import Silent
from compresslab.training import Batch, FitSettings, _rate, epoch_order, fit

INPUTS = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
TARGETS = (INPUTS[:, 0] > 0).long()


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2))


def batches(epoch):
    for rows in epoch_order(64, 16, seed=0, epoch=epoch):
        yield Batch(INPUTS[rows], TARGETS[rows])


def loss(net, batch):
    return F.cross_entropy(net(batch.inputs).float(), batch.targets)


def train(folder, settings=None, source=batches, objective=loss, progress=None):
    net = network()
    history = fit(
        net, source, 4, objective, settings or FitSettings(epochs=4, learning_rate=0.1, precision="fp32"),
        seed=3, device="cpu", scratch=folder, progress=progress or Silent(), phase="train",
    )  # fmt: skip
    return net, history


def weights(net):
    return b"".join(tensor.numpy().tobytes() for tensor in net.state_dict().values())


def test_learns(tmp_path):
    net, history = train(tmp_path, FitSettings(epochs=30, learning_rate=0.1))
    assert len(history) == 30
    assert history[-1].loss < 0.5 * history[0].loss
    assert (net(INPUTS).argmax(1) == TARGETS).float().mean() > 0.9
    assert not net.training


def test_same_arguments_same_bytes(tmp_path):
    first, _ = train(tmp_path / "a")
    second, _ = train(tmp_path / "b")
    assert weights(first) == weights(second)


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_killed_in_an_epoch_and_started_again_gives_the_same_bytes(tmp_path, epoch, ema):
    """Catches state that the checkpoint forgets: momentum, schedule, BatchNorm statistics, dropout's generator, EMA."""
    settings = FitSettings(epochs=4, learning_rate=0.1, precision="fp32", ema=ema)
    expected, expected_history = train(tmp_path / "whole", settings)

    class Killed(Exception):
        pass

    def dying(current):
        for step, batch in enumerate(batches(current)):
            if (current, step) == (epoch, 2):
                raise Killed("in an epoch")
            yield batch

    with pytest.raises(Killed, match="in an epoch"):
        train(tmp_path / "killed", settings, source=dying)
    seen = []
    resumed, history = train(
        tmp_path / "killed", settings, source=lambda current: (seen.append(current), batches(current))[1]
    )
    assert seen == list(range(epoch, 4)), "finished epochs are not trained again"
    assert weights(resumed) == weights(expected)
    assert history == expected_history


def test_damaged_checkpoint_is_told_and_training_starts_again(tmp_path):
    expected, _ = train(tmp_path)
    checkpoint = tmp_path / "train.checkpoint"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-200])
    progress = Silent()
    again, history = train(tmp_path, progress=progress)
    assert weights(again) == weights(expected)
    assert len(history) == 4
    assert "damaged" in progress.notes[0]


def test_nan_names_the_place_and_the_remedy(tmp_path):
    def poisoned(net, batch):
        value = loss(net, batch)
        return value * math.nan if poisoned.calls == 5 else value

    def counted(net, batch):
        poisoned.calls += 1
        return poisoned(net, batch)

    poisoned.calls = 0
    with pytest.raises(Diverged, match=r"train: the loss became nan in epoch 2, step 1.*lower `learning_rate`"):
        train(tmp_path, objective=counted)


def test_random_state_of_the_caller_is_left_alone(tmp_path):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    net = network  # building seeds the generator, so only fit() runs between the two draws
    built = net()
    torch.manual_seed(7)
    fit(
        built, batches, 4, loss, FitSettings(epochs=1, precision="fp32"),
        seed=3, device="cpu", scratch=tmp_path, progress=Silent(), phase="train",
    )  # fmt: skip
    assert torch.equal(torch.rand(3), expected)


def test_one_cycle_rises_then_falls_to_zero():
    settings = FitSettings(epochs=1, warmup=0.25)
    rates = [_rate(step, 100, settings) for step in range(100)]
    assert max(rates) == rates[25] == 1.0
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] < 0.001


def test_no_weight_decay_on_biases_and_norms(tmp_path):
    """With a zero gradient, decay is all that moves a weight: the vectors must stay and the matrices shrink."""
    net, _ = train(
        tmp_path,
        FitSettings(epochs=1, weight_decay=0.1, precision="fp32", schedule="constant"),
        objective=lambda module, batch: 0.0 * module(batch.inputs).sum(),
    )
    before = dict(network().named_parameters())
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            assert parameter.norm() < before[name].norm()
        else:
            assert torch.equal(parameter, before[name])


def test_epoch_order_covers_everything_once():
    order = epoch_order(103, 10, seed=1, epoch=2)
    seen = [index for rows in order for index in rows]
    assert len(order) == 10
    assert len(set(seen)) == 100
    assert [list(rows) for rows in epoch_order(103, 10, seed=1, epoch=2)] == [list(rows) for rows in order]
    assert [list(rows) for rows in epoch_order(103, 10, seed=1, epoch=3)] != [list(rows) for rows in order]


def test_fewer_samples_than_a_batch_are_one_batch():
    assert [len(rows) for rows in epoch_order(5, 128, seed=0, epoch=0)] == [5]
