"""Processes that train together: what they hold in common, against one process that has it all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
import torch

import compresslab
from compresslab import launcher
from compresslab.errors import StageFailed
from compresslab.losses import rkd_angle, rkd_distance
from compresslab.progress import Silent
from compresslab.training import Batch, FitSettings, fit
from compresslab.world import World, everywhere, main_first, mean_gradients, on_main, together, world

# What both processes do; each writes what it saw.
SCRIPT = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path

    import torch

    from compresslab.errors import DataError, StageFailed
    from compresslab.world import as_in_main, everywhere, main_first, mean_gradients, on_main, together, wait, world
    from tests.test_world import images, relational, trained

    folder = Path(sys.argv[1])
    here = world()
    seen = {"world": [here.rank, here.size, here.main]}

    with together():
        # Rows in the order of the processes, of every type that a batch has, also of images as convolutions like them.
        rows = torch.arange(6).view(3, 2) + 10 * here.rank
        for kind in (torch.int64, torch.bool, torch.float32, torch.bfloat16, torch.float16):
            seen[str(kind)] = everywhere(rows.to(kind)).float().tolist()
        seen["images"] = everywhere(images(here.rank)).flatten().tolist()

        seen["relational"] = relational(slice(here.rank, None, here.size))

        # The second is used by the other process only, the third by none.
        three = [torch.nn.Parameter(torch.ones(2, 2)) for _ in range(3)]
        three[0].grad = torch.full((2, 2), 2.0 + here.rank)
        if not here.main:
            three[1].grad = torch.full((2, 2), 4.0)
        mean_gradients(three)
        seen["gradients"] = [None if one.grad is None else one.grad.flatten().tolist() for one in three]

        net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
        with torch.no_grad():
            for tensor in net.state_dict().values():
                tensor.fill_(here.rank + 5)
        as_in_main(net)
        held = torch.cat([tensor.flatten().double() for tensor in net.state_dict().values()])
        seen["as in main"] = sorted(set(held.tolist()))

        seen["on main"] = on_main(lambda: {"rank": here.rank})

        def refuse():
            raise DataError("there is nothing to read")

        try:
            on_main(refuse)
        except (DataError, StageFailed) as error:
            seen["refused"] = [type(error).__name__, str(error)]

        def first():
            there = (folder / "first").exists()
            (folder / "first").touch()
            return there

        seen["main first"] = main_first(first)
        for accumulate in (1, 2):
            seen[f"trained {accumulate}"] = trained(folder, accumulate)
        wait()
    seen["parted"] = not torch.distributed.is_initialized()
    (folder / f"{here.rank}.json").write_text(json.dumps(seen))
    """
)


def images(rank: int) -> torch.Tensor:
    made = torch.arange(2 * 3 * 2 * 2, dtype=torch.float32).view(2, 3, 2, 2) + 100 * rank
    return made.contiguous(memory_format=torch.channels_last)


def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))


def samples(seed: int) -> torch.Tensor:
    return torch.randn(8, 4, generator=torch.Generator().manual_seed(seed))


def relations(outputs: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    return rkd_distance(outputs, teacher) + rkd_angle(outputs, teacher)


def relational(rows: slice) -> list[Any]:
    """The loss of a batch's relations, and its gradient, where this process computes these rows only."""
    net = network()
    value = relations(everywhere(net(samples(0)[rows])), everywhere(samples(1)[rows]))
    value.backward()
    mean_gradients(list(net.parameters()))
    return [value.item(), [one.grad.flatten().tolist() for one in net.parameters() if one.grad is not None]]


def trained(folder: Path, accumulate: int) -> list[Any]:
    """Losses and weights after some steps; with a mean over half of the samples, as one over the labelled ones is."""

    def batches(epoch: int) -> list[Batch]:
        return [Batch(samples(10 * epoch + step), None, torch.arange(8) < 4) for step in range(3)]

    def loss(module: torch.nn.Module, batch: Batch) -> torch.Tensor:
        outputs, inputs, labelled = (everywhere(one) for one in (module(batch.inputs), batch.inputs, batch.labelled))
        weight = 1.0 if batch.labelled_share is None else labelled.float().mean().item() / batch.labelled_share
        known = outputs[labelled].square().mean() * weight
        return known + (outputs[:, 0] - inputs[:, 0]).square().mean()

    net = network()
    history = fit(
        net, batches, 3, loss, FitSettings(epochs=2, batch=8, precision="fp32", accumulate=accumulate, ema=0.5),
        seed=0, device="cpu", scratch=folder / f"scratch{accumulate}", progress=Silent(), phase="train",
    )  # fmt: skip
    return [[epoch.loss for epoch in history], [one.flatten().tolist() for one in net.parameters()]]


def environment(port: int) -> dict[str, str]:
    """As a launcher leaves it for two processes."""
    root = str(Path(compresslab.__file__).parents[1])
    return {
        **os.environ, "PYTHONPATH": root, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("processes")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = environment(port)
    started = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", SCRIPT, str(folder)], text=True, stderr=subprocess.PIPE,
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        told = [process.communicate(timeout=300)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], told
    assert told == ["", ""], "nothing is said of process groups that were left open, or of what is deprecated"
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def test_one_process_is_a_world(monkeypatch: pytest.MonkeyPatch) -> None:
    assert world() == World(0, 1)
    tensor = torch.ones(2)
    assert everywhere(tensor) is tensor
    assert on_main(lambda: 3) == main_first(lambda: 3) == 3


@pytest.mark.parametrize(
    ("environment", "processes", "helps", "alone"),
    [
        ({}, 1, False, False),
        ({"WORLD_SIZE": "1", "RANK": "0"}, 1, False, False),
        ({"WORLD_SIZE": "4", "RANK": "0"}, 4, False, False),
        ({"WORLD_SIZE": "4", "RANK": "3"}, 4, True, False),
        # mpirun, which accelerate uses for CPUs: each process would take itself for the only one.
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, True, False),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}, 2, False, False),
        # `accelerate launch --cpu --num_processes 2` without a list of hosts.
        ({"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}, 1, False, True),
        ({"ACCELERATE_USE_CPU": "True"}, 1, False, False),
    ],
)
def test_what_launchers_say(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], processes: int, helps: bool, alone: bool
) -> None:
    for name in (*launcher._SIZES, *launcher._RANKS, "ACCELERATE_USE_CPU", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (launcher.processes(), launcher.helps(), launcher.started_alone()) == (processes, helps, alone)


def test_a_partner_that_is_gone_is_told_and_other_errors_are_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = RuntimeError("[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer")
    with pytest.raises(RuntimeError, match="Connection closed"), together():
        raise closed
    monkeypatch.setattr("compresslab.world.processes", lambda: 2)
    for lost in (closed, torch.distributed.DistNetworkError("recvVector failed")):
        with pytest.raises(StageFailed, match="a process that trains with this one has ended"), together():
            raise lost
    with pytest.raises(RuntimeError, match="mat1 and mat2"), together():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_a_process_that_is_left_alone_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its launcher was killed before the others came. The patience that measuring takes is not for that."""
    code = """
        from datetime import timedelta
        from compresslab import world
        from compresslab.errors import BadInput

        assert world._TO_MEET <= timedelta(minutes=30)
        world._TO_MEET = timedelta(seconds=1)
        try:
            world.world()
        except BadInput as error:
            print(error)
        """
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env={**environment(port), "RANK": "1", "LOCAL_RANK": "1"},
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert ended.stdout.startswith("the processes of the launcher cannot find each other: ")


def test_both_know_who_they_are_and_part_in_the_end(both: list[dict[str, Any]]) -> None:
    assert [one["world"] for one in both] == [[0, 2, True], [1, 2, False]]
    assert [one["parted"] for one in both] == [True, True]


def test_rows_come_in_the_order_of_the_processes(both: list[dict[str, Any]]) -> None:
    numbers = torch.cat([torch.arange(6).view(3, 2) + 10 * rank for rank in range(2)])
    for one in both:
        for kind in (torch.int64, torch.bool, torch.float32, torch.bfloat16, torch.float16):
            assert one[str(kind)] == numbers.to(kind).float().tolist()
        assert one["images"] == torch.cat([images(0), images(1)]).flatten().tolist()


def test_a_loss_of_relations_has_the_gradient_that_one_process_has(both: list[dict[str, Any]]) -> None:
    """Pairs across the processes count: each alone would see a quarter of the pairs twice."""
    value, gradients = relational(slice(None))
    for one in both:
        assert one["relational"][0] == pytest.approx(value, rel=1e-5)
        for found, expected in zip(one["relational"][1], gradients, strict=True):
            assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_gradients_are_averaged_and_an_unused_parameter_keeps_none(both: list[dict[str, Any]]) -> None:
    """A gradient of zero in place of none would let weight decay and momentum move what is not trained."""
    for one in both:
        assert one["gradients"] == [[2.5] * 4, [2.0] * 4, None]


def test_all_have_the_main_ones_weights_and_statistics(both: list[dict[str, Any]]) -> None:
    assert [one["as in main"] for one in both] == [[5.0], [5.0]]


def test_the_main_one_works_and_all_get_the_result_or_the_failure(both: list[dict[str, Any]]) -> None:
    assert [one["on main"] for one in both] == [{"rank": 0}] * 2
    assert [one["refused"][1] for one in both] == ["there is nothing to read"] * 2
    assert both[0]["refused"][0] == "DataError"
    assert [one["main first"] for one in both] == [False, True]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_two_train_as_one_does(both: list[dict[str, Any]], tmp_path: Path, accumulate: int) -> None:
    """Losses and weights; the labelled samples lie unevenly in the parts of a batch, and count as in the whole."""
    losses, weights = trained(tmp_path, 1)
    for one in both:
        found, made = one[f"trained {accumulate}"]
        assert found == pytest.approx(losses, abs=1e-6)
        for ours, theirs in zip(made, weights, strict=True):
            assert ours == pytest.approx(theirs, abs=1e-6)
