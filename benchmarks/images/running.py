"""The run image on the quickstart: stopped half-way, then to the end; its log, its owner, its exit codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from benchmarks.images.check import RUN, Check, Place, timed
from benchmarks.images.engine import Engine
from compresslab.report import load_results
from compresslab.report.results import RESULTS_FILE

_COMMAND = ("run", "pipelines/quickstart.yaml", "--log", "json")
_PATIENCE_S = 1800.0


def check_run(place: Place) -> Iterator[Check]:
    """Leaves the finished run in the place."""
    engine, options = place.engine, place.options(writable=True)
    with engine.running(RUN, _COMMAND, options) as container:
        _wait_until(lambda: any(place.folder.glob("runs/.store/scratch/*/*/distill.checkpoint")), engine, container)
        seconds = engine.stop(container)
        yield Check("run, stopped by SIGTERM", "exit 130", f"exit {engine.exit_code(container)}", seconds)
    with engine.running(RUN, _COMMAND, options) as container:
        again = timed(
            "run, the same command again", "exit 0, from the cache: baseline, train", lambda: _end(place, container)
        )
        yield again
        others = [line for line in engine.logs(container) if not _is_object(line)]
        yield Check("run --log json", "every line an object", others[0] if others else "every line an object", 0.0)
    owners = {(path.stat().st_uid, path.stat().st_gid) for path in (place.folder / "runs").rglob("*")}
    yield Check("run, owners of what it left", f"{place.owner}", ", ".join(map(str, sorted(owners))), 0.0)
    misspelt = [*_COMMAND[:2], "--set", "stages.distill.epoch=3"]
    yield timed("run, a misspelt key", "exit 2", lambda: f"exit {engine.run(RUN, misspelt, options).returncode}")


def _end(place: Place, container: str) -> str:
    code = place.engine.wait(container, _PATIENCE_S)
    if not place.run.joinpath(RESULTS_FILE).is_file():
        return "\n".join([f"exit {code}", *place.engine.logs(container)])
    cached = ", ".join(point["stage"] for point in load_results(place.run)["points"] if point["cached"])
    return f"exit {code}, from the cache: {cached}"


def _wait_until(what: Callable[[], bool], engine: Engine, container: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not what():
        code = engine.exit_code(container)
        if code is not None or time.monotonic() > deadline:
            told = "\n".join(engine.logs(container))
            raise RuntimeError(f"the container did not come so far (exit code {code}):\n{told}")
        time.sleep(0.05)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
