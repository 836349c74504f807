"""How far a run is: bars on a terminal, a line now and then where the output goes elsewhere, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compresslab.progress import Progress

_EVERY_S = 5.0


@contextmanager
def showing(stream: TextIO | None = None, *, as_json: bool = False) -> Iterator[Progress]:
    """A Progress that fits the stream (stderr if not given), for the time of the block; JSON lines if asked for."""
    stream = stream or sys.stderr
    console = Console(file=stream)
    shown: Bars | Lines | JsonLines
    shown = JsonLines(stream) if as_json else Bars(console) if console.is_terminal else Lines(stream)
    try:
        yield shown
    finally:
        shown.close()


def json_line(event: str, **figures: Any) -> str:
    """One line of a log that machines read: `time` in seconds since 1970, `event`, and what belongs to it.

    As in a run's events.jsonl. JSON has no NaN and no infinity: they become null.
    """
    return json.dumps({"time": round(time.time(), 3), "event": event, **{k: _finite(v) for k, v in figures.items()}})


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Bars:
    """One live bar for the phase that is going on; every phase that has ended leaves a line."""

    def __init__(self, console: Console) -> None:
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._phase = _Phase("", 0)
        self._task: TaskID | None = None
        self._bars.start()

    def start(self, phase: str, total: int) -> None:
        """Shows a new bar."""
        self._end_phase()
        self._phase = _Phase(phase, total)
        self._task = self._bars.add_task(phase, total=total, figures="")

    def advance(self, steps: int = 1, **values: float) -> None:
        """Moves the bar."""
        self._phase.advance(steps, values)
        if self._task is not None:
            self._bars.update(self._task, advance=steps, figures=self._phase.figures())

    def note(self, message: str) -> None:
        """Prints it above the bar."""
        self._bars.console.print(f"note: {message}", markup=False, highlight=False)

    def refresh(self) -> None:
        """Draws now, not at the next tenth of a second."""
        self._bars.refresh()

    def close(self) -> None:
        """Ends the last phase and takes the bar away."""
        self._end_phase()
        self._bars.stop()

    def _end_phase(self) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
            self._bars.console.print(self._phase.summary(), markup=False, highlight=False)
            self._task = None


class Lines:
    """A line every few seconds, and one at the end of each phase.

    Args:
        stream: Where they go.
        every: Seconds between two lines of one phase.
        clock: Seconds that only grow.
    """

    def __init__(self, stream: TextIO, every: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._phase: _Phase | None = None
        self._told = 0.0

    def start(self, phase: str, total: int) -> None:
        """Tells how the phase before ended."""
        self._end_phase()
        self._phase = _Phase(phase, total, self._clock)
        self._told = self._clock()

    def advance(self, steps: int = 1, **values: float) -> None:
        """Tells how far the phase is, if nothing was told for a while."""
        if self._phase is None:
            return
        self._phase.advance(steps, values)
        if self._clock() - self._told >= self._every:
            self._print(self._phase.state())
            self._told = self._clock()

    def note(self, message: str) -> None:
        """Prints it on a line of its own."""
        self._print(f"note: {message}")

    def close(self) -> None:
        """Tells how the last phase ended."""
        self._end_phase()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._print(self._phase.summary())
            self._phase = None

    def _print(self, line: str) -> None:
        self._stream.write(f"{line}\n")
        self._stream.flush()


class JsonLines:
    """An object a line: `start` and `end` of each phase, `progress` every few seconds, and every `note`.

    Args:
        stream: Where they go.
        every: Seconds between two `progress` lines of one phase.
        clock: Seconds that only grow.
    """

    def __init__(self, stream: TextIO, every: float = _EVERY_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._phase: _Phase | None = None
        self._told = 0.0

    def start(self, phase: str, total: int) -> None:
        """Ends the phase before and tells the new one."""
        self._end_phase()
        self._phase = _Phase(phase, total, self._clock)
        self._told = self._clock()
        self._print("start", phase=phase, total=total)

    def advance(self, steps: int = 1, **values: float) -> None:
        """Tells how far the phase is, if nothing was told for a while."""
        if self._phase is None:
            return
        self._phase.advance(steps, values)
        if self._clock() - self._told >= self._every:
            self._print("progress", **self._phase.record(), eta_s=_rounded(self._phase.seconds_left()))
            self._told = self._clock()

    def note(self, message: str) -> None:
        """Tells it as an event of its own."""
        self._print("note", message=message)

    def close(self) -> None:
        """Ends the last phase."""
        self._end_phase()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._print("end", **self._phase.record())
            self._phase = None

    def _print(self, event: str, **figures: Any) -> None:
        self._stream.write(json_line(event, **figures) + "\n")
        self._stream.flush()


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


class _Phase:
    """What is known of the phase that is going on."""

    def __init__(self, name: str, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._total = total
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._values: dict[str, float] = {}
        # The first advance may be a checkpoint's, which took no time: the pace is that of the steps after it.
        self._first: tuple[int, float] | None = None

    def advance(self, steps: int, values: dict[str, float]) -> None:
        self._done += steps
        self._values.update(values)
        if self._first is None:
            self._first = (self._done, self._clock())

    def figures(self) -> str:
        return "  ".join(f"{name} {value:.4g}" for name, value in self._values.items())

    def state(self) -> str:
        """`distill  45 %  epoch 3  loss 0.5312  32 s left`."""
        share = f"{100 * self._done / self._total:.0f} %" if self._total else ""
        left = self.seconds_left()
        parts = (self.name, share, self.figures(), "" if left is None else f"{left:.0f} s left")
        return "  ".join(part for part in parts if part)

    def summary(self) -> str:
        """`distill  done in 81.0 s  epoch 16  loss 0.2113`, or how far it came."""
        ended = "done in" if self._done >= self._total else f"stopped at {self._done} of {self._total} after"
        seconds = self._clock() - self._begun
        return "  ".join(part for part in (self.name, f"{ended} {seconds:.1f} s", self.figures()) if part)

    def record(self) -> dict[str, Any]:
        """The same as plain data; the figures, such as `loss`, beside the rest."""
        seconds = round(self._clock() - self._begun, 1)
        return {**self._values, "phase": self.name, "done": self._done, "total": self._total, "seconds": seconds}

    def seconds_left(self) -> float | None:
        """At the pace of the steps so far; None before there is a pace."""
        if self._first is None or self._done == self._first[0]:
            return None
        steps, moment = self._first
        return (self._total - self._done) * (self._clock() - moment) / (self._done - steps)
