import io
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compresslab.errors import BadInput, Diverged
from compresslab.progress import Silent
from compresslab.training import Batch, FitSettings, _rate, epoch_order, fit
from compresslab.world import World

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


def train(folder, settings=None, source=batches, objective=loss, progress=None, until=None, made=network):
    net = made()
    history = fit(
        net, source, 4, objective, settings or FitSettings(epochs=4, learning_rate=0.1, precision="fp32"),
        seed=3, device="cpu", scratch=folder, progress=progress or Silent(), phase="train", until=until,
    )  # fmt: skip
    return net, history


def plain_network():
    """Without what depends on a whole batch (BatchNorm) or on how often it is called (dropout)."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 2))


def large_loss(net, batch):
    """So large that its first gradients overflow in fp16, as those of a real network often do."""
    return 200 * loss(net, batch)


def _content(checkpoint):
    """What torch wrote, after the SHA-256."""
    return io.BytesIO(checkpoint.read_bytes()[32:])


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


@pytest.mark.parametrize(("ema", "precision"), [(None, "fp32"), (0.9, "fp32"), (None, "fp16")])
@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_killed_in_an_epoch_and_started_again_gives_the_same_bytes(tmp_path, epoch, ema, precision):
    """Catches state that the checkpoint forgets: momentum, schedule, BatchNorm statistics, dropout's generator, EMA,
    the scale of fp16's gradients, which the first steps have brought down."""
    settings = FitSettings(epochs=4, learning_rate=0.1, precision=precision, ema=ema)
    objective = large_loss if precision == "fp16" else loss
    expected, expected_history = train(tmp_path / "whole", settings, objective=objective)

    class Killed(Exception):
        pass

    def dying(current):
        for step, batch in enumerate(batches(current)):
            if (current, step) == (epoch, 2):
                raise Killed("in an epoch")
            yield batch

    with pytest.raises(Killed, match="in an epoch"):
        train(tmp_path / "killed", settings, source=dying, objective=objective)
    seen = []
    resumed, history = train(
        tmp_path / "killed", settings, source=lambda current: (seen.append(current), batches(current))[1],
        objective=objective,
    )  # fmt: skip
    assert seen == list(range(epoch, 4)), "finished epochs are not trained again"
    assert weights(resumed) == weights(expected)
    assert history == expected_history


@pytest.mark.parametrize("ema", [None, 0.9])
def test_until_and_then_the_rest_gives_the_same_bytes_as_in_one_go(tmp_path, ema):
    """The schedule is that of the whole training; what was not asked for is not trained; EMA's weights, which a
    training that stops hands out, are not those it goes on with."""
    settings = FitSettings(epochs=4, learning_rate=0.1, precision="fp32", ema=ema)
    expected, expected_history = train(tmp_path / "whole", settings)
    seen = []

    def source(epoch):
        seen.append(epoch)
        return batches(epoch)

    parts = [train(tmp_path / "parts", settings, source=source, until=until) for until in (1, 3, 3, None)]
    assert [history for _, history in parts] == [expected_history[:end] for end in (1, 3, 3, 4)]
    assert seen == [0, 1, 2, 3]
    assert weights(parts[1][0]) == weights(parts[2][0]), "stopped at the same place"
    assert weights(parts[0][0]) != weights(parts[1][0])
    assert weights(parts[3][0]) == weights(expected)


@pytest.mark.parametrize("accumulate", [2, 3, 16, 40])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path, accumulate):
    """Also parts of unequal size (16 samples in three), and more parts than samples."""
    settings = FitSettings(epochs=2, learning_rate=0.1, precision="fp32")
    whole, expected = train(tmp_path / "whole", settings, made=plain_network)
    parts, history = train(
        tmp_path / "parts", settings.model_copy(update={"accumulate": accumulate}), made=plain_network
    )
    for ours, theirs in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)
    assert [epoch.loss for epoch in history] == pytest.approx([epoch.loss for epoch in expected], abs=1e-6)


def test_parts_share_out_the_unlabelled_samples_and_know_the_share_of_the_whole():
    """A feed puts labelled samples first: parts one after the other would have all or none."""
    labelled = torch.arange(12) < 6
    batch = Batch(torch.arange(12.0), torch.arange(12), labelled, {"output": torch.arange(12.0)})
    parts = batch.parts(4)
    assert sorted(float(value) for part in parts for value in part.inputs) == list(range(12))
    for part in parts:
        assert part.labelled_share == 0.5
        assert part.labelled.sum() in (1, 2)
        assert torch.equal(part.inputs, part.teacher["output"])
        assert torch.equal(part.labelled, part.inputs < 6)
    shares = [part.share(World(rank, 2)) for part in batch.parts(2) for rank in range(2)]
    assert [float(one.labelled_share) for one in shares] == [0.5] * 4
    assert sorted(float(value) for one in shares for value in one.inputs) == list(range(12))
    assert batch.parts(1) == (batch,)


def test_fp16_lowers_the_scale_of_gradients_that_overflow_and_learns(tmp_path):
    """Whole steps are left out until the scale fits; nothing warns that the schedule goes on meanwhile."""
    net, history = train(tmp_path, FitSettings(epochs=20, learning_rate=0.02, precision="fp16"), objective=large_loss)
    assert history[-1].loss < 0.7 * history[0].loss
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    stored = torch.load(_content(tmp_path / "train.checkpoint"), weights_only=True)
    assert 0 < stored["scaler"]["scale"] < 65536.0


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_network_runs_in_half_precision_and_what_is_kept_is_float32(tmp_path, precision):
    seen = set()

    def watching(net, batch):
        outputs = net(batch.inputs)
        seen.add(outputs.dtype)
        return F.cross_entropy(outputs.float(), batch.targets)

    net, _ = train(tmp_path, FitSettings(epochs=1, precision=precision), objective=watching)
    assert seen == {torch.bfloat16 if precision == "bf16" else torch.float16}
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32, torch.int64}


@pytest.mark.parametrize(
    ("batch", "accumulate", "found"),
    [
        (15, 1, "must share a batch evenly, but `batch` is 15; make it a multiple of 2"),
        (16, 3, "must share parts of a batch evenly, but `batch` is 16; make it a multiple of 6"),
        # 63 samples are one batch, whatever `batch` says.
        (128, 1, "cannot share 63 samples evenly; there are fewer than a batch, so start one process"),
    ],
)
def test_processes_must_share_batches_evenly(tmp_path, monkeypatch, batch, accumulate, found):
    """Else one would wait for rows that no other has."""
    monkeypatch.setattr("compresslab.training.world", lambda: World(0, 2))

    def source(epoch):
        for rows in epoch_order(63, batch, seed=0, epoch=epoch):
            yield Batch(INPUTS[rows], TARGETS[rows])

    with pytest.raises(BadInput, match=f"train: 2 processes {found}"):
        train(tmp_path, FitSettings(epochs=1, batch=batch, accumulate=accumulate), source=source)


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


def test_the_learning_rate_follows_the_schedule_over_all_epochs(tmp_path):
    settings = FitSettings(epochs=4, learning_rate=0.1, precision="fp32", schedule="cosine")
    _, history = train(tmp_path, settings)
    ends = [0.1 * 0.5 * (1 + math.cos(math.pi * step / 16)) for step in (3, 7, 11, 15)]
    assert [epoch.learning_rate for epoch in history] == pytest.approx(ends)


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
