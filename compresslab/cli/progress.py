"""How far a run is: bars on a terminal, a line now and then where the output goes elsewhere, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

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
    bars = console.is_terminal and not as_json
    shown = Bars(console) if bars else Paced(stream, Json() if as_json else Words())
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


class Paced:
    """A line every few seconds, and where a phase ends; what the lines say is the caller's.

    Args:
        stream: Where they go.
        wording: How a phase and a note are told.
        every: Seconds between two lines of one phase.
        clock: Seconds that only grow.
    """

    def __init__(
        self, stream: TextIO, wording: Wording, every: float = _EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._wording = wording
        self._every = every
        self._clock = clock
        self._phase: _Phase | None = None
        self._told = 0.0

    def start(self, phase: str, total: int) -> None:
        """Tells how the phase before ended, and the new one where that has a wording."""
        self._end_phase()
        self._phase = _Phase(phase, total, self._clock)
        self._told = self._clock()
        self._print(self._wording.start(phase, total))

    def advance(self, steps: int = 1, **values: float) -> None:
        """Tells how far the phase is, if nothing was told for a while."""
        if self._phase is None:
            return
        self._phase.advance(steps, values)
        if self._clock() - self._told >= self._every:
            self._print(self._wording.state(self._phase))
            self._told = self._clock()

    def note(self, message: str) -> None:
        """Tells it on a line of its own."""
        self._print(self._wording.note(message))

    def close(self) -> None:
        """Tells how the last phase ended."""
        self._end_phase()

    def _end_phase(self) -> None:
        if self._phase is not None:
            self._print(self._wording.end(self._phase))
            self._phase = None

    def _print(self, line: str | None) -> None:
        if line is not None:
            self._stream.write(f"{line}\n")
            self._stream.flush()


class Wording(Protocol):
    """What is told on a line; None for nothing."""

    def start(self, phase: str, total: int) -> str | None:
        """Of a phase that begins."""

    def state(self, phase: _Phase) -> str:
        """Of a phase that is going on."""

    def end(self, phase: _Phase) -> str:
        """Of a phase that has ended."""

    def note(self, message: str) -> str:
        """Of a note."""


class Words:
    """For people."""

    def start(self, phase: str, total: int) -> None:
        """Nothing: its first state is told soon."""

    def state(self, phase: _Phase) -> str:
        """`distill  45 %  epoch 3  loss 0.5312  32 s left`."""
        return phase.state()

    def end(self, phase: _Phase) -> str:
        """`distill  done in 81.0 s  epoch 16  loss 0.2113`, or how far it came."""
        return phase.summary()

    def note(self, message: str) -> str:
        """The note, as one."""
        return f"note: {message}"


class Json:
    """For machines: an object a line, `start`, `progress` and `end` of each phase, and every `note`."""

    def start(self, phase: str, total: int) -> str:
        """The phase and its steps."""
        return json_line("start", phase=phase, total=total)

    def state(self, phase: _Phase) -> str:
        """How far it is, its figures, and the seconds left."""
        return json_line("progress", **phase.record(), eta_s=_rounded(phase.seconds_left()))

    def end(self, phase: _Phase) -> str:
        """How far it came, and its figures."""
        return json_line("end", **phase.record())

    def note(self, message: str) -> str:
        """The message."""
        return json_line("note", message=message)


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
