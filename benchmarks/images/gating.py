"""The gate image on the run: within a budget, over it, and where it cannot be told."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks.images.check import GATE, Check, Place, timed
from compresslab.report import load_results

_WITHOUT_TORCH = (
    "import importlib.util as u; print(', '.join(name for name in ('torch', 'onnx') if u.find_spec(name)) or 'none')"
)


def check_gate(place: Place) -> Iterator[Check]:
    """Needs the finished run, and writes nothing into the mounted folder."""
    results = load_results(place.run)
    (selected,) = [point for point in results["points"] if point["id"] == results["selected"]]
    (accuracy,) = [quality["value"] for quality in selected["quality"]["validation"].values()]
    # An interval holds its own middle, so whether the model is that good cannot be told.
    budgets = (
        ("within", "exit 0", "p90_ms: 1000\naccuracy: 0.5\n"),
        ("over", "exit 1", "p90_ms: 0.00001\naccuracy: 0.5\n"),
        ("undecidable", "exit 3", f"p90_ms: 1000\naccuracy: {accuracy!r}\n"),
    )
    for name, expected, text in budgets:
        (place.folder / f"{name}.yaml").write_text(text, encoding="utf-8")
        yield timed(f"gate, {name}", expected, partial(_gated, place, f"{name}.yaml"))
    python = ["--entrypoint", "python", *place.options(writable=False)]
    heavy = partial(place.engine.run, GATE, ["-c", _WITHOUT_TORCH], python)
    yield timed("gate, torch or onnx in it", "none", lambda: heavy().stdout.strip())


def _gated(place: Place, budget: str) -> str:
    command = ["gate", "runs/quickstart", "--budget", budget]
    return f"exit {place.engine.run(GATE, command, place.options(writable=False)).returncode}"
