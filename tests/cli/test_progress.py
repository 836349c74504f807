"""Progress: lines where the output is piped, bars on a terminal, JSON where it is asked for."""

from __future__ import annotations

import io
import json
import math

from rich.console import Console

from compresslab.cli.progress import Bars, Json, Paced, Words, showing


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_few_seconds_and_one_at_the_end_of_each_phase() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Paced(stream, Words(), every=5.0, clock=clock)
    lines.start("distill", 100)
    for _ in range(20):
        clock.now += 1.0
        lines.advance(5, epoch=1, loss=0.53124)
    lines.start("prune", 10)
    clock.now += 1.0
    lines.note("the channels are few")
    lines.advance(3)
    lines.close()
    lines.close()
    assert stream.getvalue().splitlines() == [
        "distill  25 %  epoch 1  loss 0.5312  15 s left",
        "distill  50 %  epoch 1  loss 0.5312  10 s left",
        "distill  75 %  epoch 1  loss 0.5312  5 s left",
        "distill  100 %  epoch 1  loss 0.5312  0 s left",
        "distill  done in 20.0 s  epoch 1  loss 0.5312",
        "note: the channels are few",
        "prune  stopped at 3 of 10 after 1.0 s",
    ]


def test_what_a_checkpoint_gave_does_not_count_as_pace() -> None:
    """A resumed training begins with many steps at once; by them the rest would take no time."""
    stream, clock = io.StringIO(), Clock()
    lines = Paced(stream, Words(), every=5.0, clock=clock)
    lines.start("train", 100)
    lines.advance(50)
    clock.now += 10.0
    lines.advance(10)
    assert stream.getvalue() == "train  60 %  40 s left\n"


def test_a_pipe_gets_lines() -> None:
    stream = io.StringIO()
    with showing(stream) as progress:
        assert isinstance(progress, Paced)
        progress.start("train", 1)
        progress.advance()
    assert stream.getvalue() == "train  done in 0.0 s\n"


def test_the_last_phase_is_told_when_the_work_fails() -> None:
    stream = io.StringIO()
    try:
        with showing(stream) as progress:
            progress.start("train", 10)
            raise RuntimeError
    except RuntimeError:
        pass
    assert stream.getvalue() == "train  stopped at 0 of 10 after 0.0 s\n"


def test_a_terminal_gets_a_bar_with_its_figures_and_keeps_a_line_a_phase() -> None:
    stream = io.StringIO()
    bars = Bars(Console(file=stream, force_terminal=True, width=100, color_system=None))
    bars.start("distill [ab12]", 4)
    bars.advance(3, epoch=2, loss=0.25)
    bars.refresh()
    bars.note("[bold]not markup")
    bars.start("prune", 1)
    bars.advance()
    bars.close()
    text = stream.getvalue()
    assert "75%" in text
    assert "epoch 2  loss 0.25" in text
    assert "note: [bold]not markup\n" in text
    assert "distill [ab12]  stopped at 3 of 4 after" in text
    assert "prune  done in" in text


def logged(stream: io.StringIO) -> list[dict]:
    """Every line as an object, strictly: `NaN` is not JSON. Without the time, which each must have."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = [json.loads(line, parse_constant=refuse) for line in stream.getvalue().splitlines()]
    assert all(line.pop("time") > 1.7e9 for line in lines)
    return lines


def test_json_lines_tell_phases_and_figures_and_how_long_it_takes() -> None:
    stream, clock = io.StringIO(), Clock()
    lines = Paced(stream, Json(), every=5.0, clock=clock)
    lines.advance()
    lines.start("distill", 100)
    for _ in range(8):
        clock.now += 1.0
        lines.advance(5, epoch=1, loss=0.53124)
    lines.start("prune", 10)
    lines.note("the channels\nare few")
    lines.close()
    lines.close()
    assert logged(stream) == [
        {"event": "start", "phase": "distill", "total": 100},
        {
            "event": "progress", "epoch": 1, "loss": 0.53124, "phase": "distill", "done": 25, "total": 100,
            "seconds": 5.0, "eta_s": 15.0,
        },
        {"event": "end", "epoch": 1, "loss": 0.53124, "phase": "distill", "done": 40, "total": 100, "seconds": 8.0},
        {"event": "start", "phase": "prune", "total": 10},
        {"event": "note", "message": "the channels\nare few"},
        {"event": "end", "phase": "prune", "done": 0, "total": 10, "seconds": 0.0},
    ]  # fmt: skip


def test_json_lines_say_null_for_what_is_not_known_or_not_finite() -> None:
    """The first steps have no pace; a loss may overflow; and a reader's JSON parser takes neither NaN nor Infinity."""
    stream, clock = io.StringIO(), Clock()
    lines = Paced(stream, Json(), every=5.0, clock=clock)
    lines.start("train", 100)
    clock.now += 6.0
    lines.advance(1, loss=math.nan)
    clock.now += 6.0
    lines.advance(1, loss=math.inf)
    lines.close()
    assert [(line.get("loss"), line.get("eta_s")) for line in logged(stream)] == [
        (None, None), (None, None), (None, 588.0), (None, None),
    ]  # fmt: skip
    assert stream.getvalue().count('"loss": null') == 3


def test_json_is_asked_for_and_comes_on_a_terminal_too() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with showing(stream, as_json=True) as progress:
        progress.start("train", 1)
    assert [line["event"] for line in logged(stream)] == ["start", "end"]
