"""Predicted against measured latency of the Fashion-MNIST teacher with random widths, in fp32 and int8.

python -m benchmarks.predicted_latency            twenty networks for each precision
python -m benchmarks.predicted_latency --quick    three
python -m benchmarks.predicted_latency --table    the table of the last full run

The widths come from a seed that nothing was tuned on. Weights are the teacher's, cut and not trained again, and int8
ranges come from noise: neither makes a difference to the time. One thread, one image a call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.document import load, options, publish
from compresslab.export.compact import compact, to_bytes
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import INPUT, to_onnx
from compresslab.measure.bench import BenchPoint, BenchSettings, record
from compresslab.measure.comparison import compare
from compresslab.measure.session import SessionOptions
from compresslab.measure.subject import EXAMPLES, Subject
from compresslab.models import architecture
from compresslab.pruning.costs import Costs
from compresslab.pruning.cutting import cut
from compresslab.pruning.finding import find_groups
from compresslab.pruning.latency_table import LatencyTable
from compresslab.pruning.layer_trace import layers_of
from compresslab.pruning.one_layer import Precision
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from compresslab.store import Store

NAME = "predicted_latency"
TEACHER = Path(__file__).parent.parent / "pipelines" / "teachers" / "fashion_mnist"
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")
SEED = 20261
_SHAPE = (1, 28, 28)
_BENCH = BenchSettings(points=(BenchPoint(),), min_seconds=0.6, min_count=300)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    torch.set_num_threads(1)
    begun = time.perf_counter()
    networks = 3 if asked.quick else 20
    body: dict[str, Any] = {"seed": SEED, "networks": networks, "precisions": {}}
    for precision in PRECISIONS:
        with TemporaryDirectory(prefix="compresslab-predicted-") as folder:
            body["precisions"][precision] = _compared(precision, networks, Path(folder))
    print(markdown(body))
    publish(NAME, time.perf_counter() - begun, body, quick=asked.quick)


def _compared(precision: Precision, networks: int, folder: Path) -> dict[str, Any]:
    """Prediction and measurement of each network, the teacher's own time first."""
    module = architecture.load(TEACHER).module
    example = torch.zeros(2, *_SHAPE)
    groups, layers = find_groups(module, example), layers_of(module, example)
    table = LatencyTable(Store(folder / "store"), precision, on_measuring=print)
    begun = time.perf_counter()
    levels = Costs(layers, groups, table).levels
    seconds = time.perf_counter() - begun
    keeps = [{}, *_random_widths(levels, networks)]
    subjects = []
    for number, keep in enumerate(keeps):
        smaller = cut(module, groups, {name: range(units) for name, units in keep.items()})
        graph = _exported(smaller, precision, folder / f"{number}.onnx")
        inputs = np.random.default_rng(0).standard_normal((EXAMPLES, *_SHAPE), np.float32)
        subjects.append(Subject(str(number), {"model": graph}, SessionOptions(), {"model": {INPUT: inputs}}))
    (samples,) = record(subjects, _BENCH)
    whole = samples[0]
    costs = Costs(
        layers, groups, table, measured_ms=whole.median_ms, beside=table.beside(subjects[0].graphs["model"])
    )  # fmt: skip
    rows = []
    for keep, one in zip(keeps[1:], samples[1:], strict=True):
        speedup = compare(one, whole).speedup
        predicted, measured = costs.share(keep), 1 / speedup.value
        rows.append({
            "keep": keep, "predicted": predicted, "measured": measured,
            "low": 1 / speedup.high, "high": 1 / speedup.low, "error": predicted / measured - 1,
        })  # fmt: skip
    return {"whole_ms": whole.median_ms, "parts_ms": dict(costs.parts), "table_seconds": seconds, "networks": rows}


def _random_widths(levels: Mapping[str, tuple[int, ...]], networks: int) -> list[dict[str, int]]:
    """Levels about a share of their own for each network, so that all sizes occur."""
    chance = random.Random(SEED)  # noqa: S311 - no secret
    found = []
    for _ in range(networks):
        share = chance.uniform(0.1, 1.0)
        wanted = {name: allowed[-1] * min(1.0, share * chance.uniform(0.5, 1.5)) for name, allowed in levels.items()}
        found.append({name: _nearest(levels[name], width) for name, width in wanted.items()})
    return found


def _nearest(allowed: Sequence[int], wanted: float) -> int:
    return min(allowed, key=lambda units: abs(units - wanted))


def _exported(module: nn.Module, precision: Precision, path: Path) -> Path:
    if precision == "int8":
        noise = torch.rand(16, *_SHAPE, generator=torch.Generator().manual_seed(0))
        prepared = prepare(module, noise, QuantizerSettings(observer="minmax"))
        calibrate(prepared, [noise])
        module = convert(prepared)
    graph = to_onnx(module.eval(), torch.zeros(2, *_SHAPE), "logits")
    rewrite(graph)
    compact(graph)
    path.write_bytes(to_bytes(graph))
    return path


def markdown(body: Mapping[str, Any]) -> str:
    """The table."""
    lines = [
        "| precision | teacher ms | networks' share of it | median error | worst error | mean signed error |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for precision, found in body["precisions"].items():
        errors = np.array([row["error"] for row in found["networks"]])
        shares = [row["measured"] for row in found["networks"]]
        lines.append(
            f"| {precision} | {found['whole_ms']:.3f} | {min(shares):.2f} to {max(shares):.2f} "
            f"| {np.median(abs(errors)):.1%} | {max(abs(errors)):.1%} | {errors.mean():+.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
