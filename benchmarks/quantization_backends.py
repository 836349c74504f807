"""Every way of quantizing to INT8, on networks of every kind: size, quality, speed, and what runs as integers.

python -m benchmarks.quantization_backends            all rows; QAT with three seeds
python -m benchmarks.quantization_backends --quick    two rows, trained for an epoch on little data: proves that it runs
python -m benchmarks.quantization_backends --table    the table of the last full run

Quality is on test, paired with the float network; the choice among backends reads validation. All models of a row are
timed interleaved. What is finished is kept under runs/quantization_backends, so an interrupted benchmark goes on; what
the code of the quantizers has changed since is made again.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.document import load, options, publish
from benchmarks.quantization_rows import CELLS, FILE, FLOAT, PTQ, QAT, RIVALS, Row, SentenceRow, image_rows
from compresslab.digest import code_digest, digest_file, digest_of
from compresslab.errors import BadInput
from compresslab.export.integer_operators import integer_operators
from compresslab.export.operator_times import with_times
from compresslab.measure.bench import BenchPoint, BenchSettings, record
from compresslab.measure.comparison import compare
from compresslab.measure.measurement import IntegerOperators
from compresslab.measure.subject import Subject
from compresslab.stages.fastest import Judged, preferred

NAME = "quantization_backends"
SEEDS = (0, 1, 2)
ALLOWED = 0.01
"""The budget of the choice: a drop on validation that is below this for certain."""
POINTS = (BenchPoint(), BenchPoint(batch=8))
_Z = 1.96
_NAMED = 4
_TIMES = {"integer": "in integer kernels", "conversions": "converting", "float": "in float"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes, judges and times every cell, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    folder = Path("runs") / f"{NAME}{'-quick' if asked.quick else ''}"
    rows: dict[str, Callable[[], Row]] = image_rows(folder, asked.quick)
    if not asked.quick:
        rows["MiniLM-L6"] = SentenceRow
    table = Table(folder, (0,) if asked.quick else SEEDS, asked.quick)
    body = {
        "allowed_drop": ALLOWED, "seeds": list(table.seeds), "points": [point.model_dump() for point in POINTS],
        "rows": {name: table.row(name, make()) for name, make in rows.items()},
    }  # fmt: skip
    print(markdown(body))
    publish(NAME, table.seconds(), body, quick=asked.quick)


class Table:
    """Cells, each made and judged once and kept as one line of a file; and the timings of a row, kept likewise."""

    def __init__(self, folder: Path, seeds: tuple[int, ...], quick: bool) -> None:
        self.seeds = seeds
        self._folder = folder
        self._file = folder / "cells.jsonl"
        self._code = code_digest("compresslab.stages.quantize", "compresslab.export")[:12]
        self._bench = BenchSettings(
            points=POINTS, processes=2 if quick else 5, min_seconds=0.2 if quick else 2.0, warmup_seconds=0.2
        )
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.is_file() else []
        self._done: dict[str, dict[str, Any]] = {one["key"]: one for one in map(json.loads, lines)}

    def seconds(self) -> float:
        """Of everything that is in the table, whenever it was made."""
        return float(sum(one["seconds"] for one in self._done.values() if self._code in one["key"]))

    def row(self, name: str, row: Row) -> dict[str, Any]:
        """One network in every cell."""
        made = {cell: [self._cell(name, row, cell, seed) for seed in self._seeds_of(cell)] for cell in CELLS}
        timed = self._timed(name, row, [cell for cell, found in made.items() if "refused" not in found[0]])
        cells = {cell: self._summary(found, made[FLOAT][0], timed.get(cell)) for cell, found in made.items()}
        rivals = [cell for cell in RIVALS if "refused" not in cells[cell]]
        judged = [
            Judged(cells[cell]["validation"], cells[cell]["speedup"][0]["value"], cells[cell]["within_budget"])
            for cell in rivals
        ]
        chosen = rivals[preferred(judged)]
        gap = timed[chosen]["versus_own"] if PTQ in timed and chosen != PTQ else None
        return {"trained_for": row.trained_for, "cells": cells, "chosen": chosen, "chosen_versus_own": gap}

    def _seeds_of(self, cell: str) -> tuple[int, ...]:
        return self.seeds if cell == QAT else self.seeds[:1]

    def _cell(self, name: str, row: Row, cell: str, seed: int) -> dict[str, Any]:
        key = f"{name} | {cell} | {seed} | {self._code}"
        if key in self._done:
            return self._done[key]
        folder = self._place(name, cell, seed)
        begun = time.perf_counter()
        try:
            row.build(cell, seed, folder)
        except BadInput as error:
            return self._keep({"key": key, "seconds": time.perf_counter() - begun, "refused": str(error)})
        kernels = _timed_kernels(row.subject(folder, 1))
        hits = {split: row.hits(folder, split) for split in ("validation", "test")}
        np.savez(folder / "hits.npz", allow_pickle=False, **hits)
        return self._keep(
            {
                "key": key, "folder": str(folder), "bytes": (folder / FILE).stat().st_size,
                "eligible": kernels.eligible, "integer": kernels.integer, "time": dict(kernels.time),
                "in_float": [asdict(one) for one in sorted(kernels.in_float, key=lambda one: -one.share)[:_NAMED]],
                "seconds": time.perf_counter() - begun,
            }
        )  # fmt: skip

    def _place(self, name: str, cell: str, seed: int) -> Path:
        return self._folder / "cells" / digest_of([name, cell, seed, self._code])[:16]

    def _keep(self, found: dict[str, Any]) -> dict[str, Any]:
        self._folder.mkdir(parents=True, exist_ok=True)
        found["seconds"] = round(found["seconds"], 1)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        self._done[found["key"]] = found
        print(f"{found['key']}: {found.get('refused', 'done')} ({found['seconds']:.0f} s)", flush=True)
        return found

    def _timed(self, name: str, row: Row, cells: Sequence[str]) -> dict[str, Any]:
        """Speed-ups over float at every point, and at the first over our own PTQ, of all cells side by side."""
        folders = {cell: self._place(name, cell, self.seeds[0]) for cell in cells}
        files = digest_of([[cell, digest_file(folder / FILE)] for cell, folder in folders.items()])
        key = f"{name} | timed {files[:16]} {digest_of(self._bench.model_dump(mode='json'))[:8]} | {self._code}"
        if key not in self._done:
            begun = time.perf_counter()
            subjects = [row.subject(folder, self._bench.largest_batch) for folder in folders.values()]
            points = [dict(zip(cells, samples, strict=True)) for samples in record(subjects, self._bench)]
            found = {
                cell: {
                    "speedup": [asdict(compare(point[cell], point[FLOAT]).speedup) for point in points],
                    "ms": [point[cell].median_ms for point in points],
                    "versus_own": asdict(compare(points[0][cell], points[0][PTQ]).speedup) if PTQ in cells else None,
                }
                for cell in cells
            }
            self._keep({"key": key, "seconds": time.perf_counter() - begun, "timed": found})
        timed: dict[str, Any] = self._done[key]["timed"]
        return timed

    def _summary(
        self, found: Sequence[Mapping[str, Any]], floating: Mapping[str, Any], timed: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        first = found[0]
        if timed is None:
            return {"refused": first["refused"]}
        hits = {split: [_hits(one, split) for one in found] for split in ("validation", "test")}
        drops = {split: _drop(hits[split], _hits(floating, split)) for split in hits}
        return {
            "bytes": first["bytes"], "size_ratio": floating["bytes"] / first["bytes"],
            "integer": first["integer"], "eligible": first["eligible"],
            "time": first["time"], "in_float": first["in_float"],
            "validation": float(np.mean(hits["validation"])), "test": float(np.mean(hits["test"])),
            "test_by_seed": [float(one.mean()) for one in hits["test"]],
            "drop": drops["test"], "validation_drop": drops["validation"],
            "within_budget": bool(drops["validation"]["high"] <= ALLOWED),
            "speedup": timed["speedup"], "ms": timed["ms"], "seconds": sum(one["seconds"] for one in found),
        }  # fmt: skip


def _hits(found: Mapping[str, Any], split: str) -> np.ndarray:
    with np.load(Path(found["folder"]) / "hits.npz", allow_pickle=False) as arrays:
        return np.asarray(arrays[split])


def _drop(quantized: Sequence[np.ndarray], floating: np.ndarray) -> dict[str, float]:
    """Float minus quantized, the mean of the seeds, paired by example, with its 95 % interval over examples."""
    lost = floating - np.mean(quantized, axis=0)
    # Two models that agree on all of a sample may still differ on the next example.
    deviation = math.sqrt(max(float(lost.var()), 1 / len(lost)) / len(lost))
    mean = float(lost.mean())
    return {"value": mean, "low": mean - _Z * deviation, "high": mean + _Z * deviation}


def markdown(body: Mapping[str, Any]) -> str:
    """The table, and where our own quantizer is not the fastest."""
    lines = [
        "| network | quantized by | kB | times smaller | points lost [95 %] | speed-up, batch 1 [95 %] | batch 8 | "
        "integer kernels |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    told: list[str] = []
    refused: dict[tuple[str, str], list[str]] = {}
    for name, row in body["rows"].items():
        for cell, found in row["cells"].items():
            mark = " (tune's choice)" if cell == row["chosen"] else ""
            start = f"| {name} | {cell}{mark} |"
            if "refused" in found:
                lines.append(f"{start} | | refused | | | |")
                refused.setdefault((cell, found["refused"]), []).append(name)
                continue
            size = f"{found['bytes'] / 1000:,.0f} | {found['size_ratio']:.2f}"
            if cell == FLOAT:
                lines.append(f"{start} {size} | {100 * found['test']:.2f} | 1 | 1 | |")
                continue
            lines.append(
                f"{start} {size} | {_interval(found['drop'], 100)} | {_interval(found['speedup'][0])} | "
                f"{found['speedup'][1]['value']:.2f} | {found['integer']}/{found['eligible']} |"
            )
        if row["chosen_versus_own"] is not None:
            own, best = row["cells"][PTQ], row["cells"][row["chosen"]]
            told.append(
                f"- {name}: {row['chosen']} is {_interval(row['chosen_versus_own'])} times as fast as own. Where the "
                f"time goes, {row['chosen']}: {_where(best)}; own: {_where(own)}"
            )
    told += [f"- {cell} on {', '.join(names)}: {reason}" for (cell, reason), names in refused.items()]
    counts = ", ".join(f"{name}: {row['trained_for']}" for name, row in body["rows"].items())
    lines += [
        "",
        f"fp32 rows give the quality itself, of 100 ({counts}). Quality on test, paired by example; QAT over seeds "
        f"{', '.join(map(str, body['seeds']))}. One thread, all models of a network interleaved. The choice: the "
        f"fastest whose loss on validation is below {100 * body['allowed_drop']:g} points for certain, else the most "
        "accurate.",
        "",
        *told,
    ]
    return "\n".join(lines)


def _timed_kernels(subject: Subject) -> IntegerOperators:
    """What runs as integers in a call of one example, and what the rest takes of the time."""
    ((graph, path),) = subject.graphs.items()
    feed = {name: values[:1] for name, values in subject.inputs[graph].items()}
    return with_times(integer_operators(path, subject.session), path, subject.session, feed, threads=1)


def _where(found: Mapping[str, Any]) -> str:
    """The cause of a speed, from ONNX Runtime's profile."""
    time, left = found["time"], found["in_float"]
    named = ", ".join(f"{one['name']} ({one['kind']}, {one['reason']}) {100 * one['share']:.0f} %" for one in left)
    shares = ", ".join(f"{100 * time[what]:.0f} % {told}" for what, told in _TIMES.items())
    return f"{shares}; {found['integer']} of {found['eligible']} operators as integers; in float {named or 'none'}"


def _interval(estimate: Mapping[str, float], scale: float = 1.0) -> str:
    return " ".join(
        [f"{scale * estimate['value']:.2f}", f"[{scale * estimate['low']:.2f}, {scale * estimate['high']:.2f}]"]
    )


if __name__ == "__main__":
    main()
