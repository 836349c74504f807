"""Real servers under load: 16 clients of MLServer and of Triton, beside ONNX Runtime alone.

python -m benchmarks.serving             60 s for each server, protocol and model; needs `make servers`
python -m benchmarks.serving --quick     3 s each

The models are the bundle of runs/fashion_mnist (which `make run` makes, and this does where it is missing; with
--quick a net of made-up weights takes its place) and one of two small nets. Clients, server and ONNX Runtime share
this machine, so the figures say what serving costs, not how many users one could have. Any error ends it with 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
import urllib.request
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from benchmarks.document import publish
from benchmarks.main_job import PIPELINE
from benchmarks.servers.bundles import example_inputs, image_bundle, two_graph_bundle
from benchmarks.servers.load import Arrays, Load, load, outputs
from benchmarks.servers.processes import Server, mlserver, serve_python, triton, triton_python
from compresslab.errors import BadInput
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.measure.machine import usable_cores
from compresslab.measure.session import open_session
from compresslab.serving import export_bundle
from compresslab.serving.measuring import measure_for_serving

RUN = Path("runs") / "fashion_mnist"
CLIENTS = 16
ROWS = 64
TOLERANCE = 1e-5
"""Largest difference of an output: batches of another size may be summed up in another order."""


@dataclass(frozen=True)
class Cell:
    """One line of the table. `server` is None for ONNX Runtime alone."""

    model: str
    server: str | None
    protocol: str | None
    found: Load

    @property
    def faulty(self) -> bool:
        """Whether a request failed, or an answer was not ONNX Runtime's."""
        return bool(self.found.errors) or self.found.largest_difference > TOLERANCE or self.found.requests == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures every cell, prints the table, publishes the document; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    with_mlserver, with_triton = serve_python(), triton_python()
    if with_mlserver is None or with_triton is None:
        raise SystemExit("the servers are not here; `make servers` makes their environments")
    begun = time.perf_counter()
    seconds = 3.0 if options.quick else 60.0
    cells: list[Cell] = []
    versions: dict[str, str] = {}
    with TemporaryDirectory(prefix="compresslab-serving-") as place:
        folder = Path(place)
        bundles = {"fashion-mnist": _fashion_mnist(folder, options.quick), "pair": two_graph_bundle(folder / "pair")}
        for name, artifact in bundles.items():
            cells += _alone(name, artifact, seconds)
        for kind, start, python in (("mlserver", mlserver, with_mlserver), ("triton", triton, with_triton)):
            models = _export(bundles, folder / kind, kind)
            (folder / f"{kind}-log").mkdir()
            running: AbstractContextManager[Server] = start(python, folder / kind, folder / f"{kind}-log" / "log")
            with running as server:
                versions[kind] = _version(server)
                cells += _under_load(server, models, with_triton, folder, seconds)
                if not server.alive:
                    raise SystemExit(f"{kind} died; its log ends with:\n{server.log.read_text()[-2000:]}")
    print(markdown(cells))
    body = {
        "clients": CLIENTS,
        "seconds_each": seconds,
        "servers": versions,
        "cells": [_plain(cell) for cell in cells],
    }
    publish("serving", time.perf_counter() - begun, body, quick=options.quick)
    faulty = [cell for cell in cells if cell.faulty]
    for cell in faulty:
        print(f"{cell.model}, {cell.server}, {cell.protocol}: {cell.found.errors[:3]}", file=sys.stderr)
    return 1 if faulty else 0


def _fashion_mnist(folder: Path, quick: bool) -> Artifact:
    try:
        return load_artifact(RUN)
    except BadInput:
        if quick:
            return image_bundle(folder / "made-up")
    from compresslab import load_pipeline, run

    run(load_pipeline(PIPELINE), RUN)
    return load_artifact(RUN)


def _export(bundles: dict[str, Artifact], out: Path, kind: str) -> dict[str, tuple[Artifact, str]]:
    """The served models, set up by what is measured here: artifact and graph, by the name on the server."""
    to: Literal["triton", "mlserver"] = "triton" if kind == "triton" else "mlserver"
    models = {}
    for name, artifact in bundles.items():
        latencies = measure_for_serving(artifact, usable_cores(), {})
        exported = export_bundle(
            artifact, out, to, name=name, backend="python", latencies=latencies, cores=usable_cores()
        )
        for served, graph in zip(exported.models, artifact.graphs, strict=True):
            models[served] = (artifact, graph)
    return models


def _under_load(
    server: Server, models: dict[str, tuple[Artifact, str]], python: Path, folder: Path, seconds: float
) -> list[Cell]:
    cells = []
    protocols: tuple[Literal["http", "grpc"], ...] = ("http", "grpc")
    for name, (artifact, graph) in models.items():
        inputs = example_inputs(artifact, graph, ROWS)
        expected = outputs(artifact, graph, inputs)
        for protocol in protocols:
            found = load(
                python, server, name, inputs, expected, folder, protocol=protocol, clients=CLIENTS, seconds=seconds
            )
            cells.append(Cell(name, server.name, protocol, found))
            print(f"{name}, {server.name}, {protocol}: {len(found.errors)} errors", flush=True)
    return cells


def _alone(name: str, artifact: Artifact, seconds: float) -> list[Cell]:
    """The same requests, by as many threads, to a session in this process: what no server can be faster than."""
    cells = []
    for graph in artifact.graphs:
        inputs = example_inputs(artifact, graph, ROWS)
        served = name if len(artifact.graphs) == 1 else f"{name}-{graph}"
        cells.append(Cell(served, None, None, _threads(artifact, graph, inputs, seconds)))
    return cells


def _threads(artifact: Artifact, graph: str, inputs: Arrays, seconds: float) -> Load:
    session = open_session(artifact.graphs[graph], artifact.manifest.session, 1)
    rows = [{name: array[row : row + 1] for name, array in inputs.items()} for row in range(ROWS)]
    session.run(None, rows[0])
    taken: list[list[float]] = [[] for _ in range(CLIENTS)]
    ends = time.perf_counter() + seconds

    def client(number: int) -> None:
        turn = number
        while True:
            begun = time.perf_counter()
            if begun > ends:
                return
            session.run(None, rows[turn % ROWS])
            taken[number].append(1000 * (time.perf_counter() - begun))
            turn += CLIENTS

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = tuple(milliseconds for one in taken for milliseconds in one)
    return Load(len(every), time.perf_counter() - begun, (), 0.0, every)


def _version(server: Server) -> str:
    with urllib.request.urlopen(f"http://{server.http}/v2", timeout=10) as answer:
        return str(json.loads(answer.read())["version"])


def _plain(cell: Cell) -> dict[str, Any]:
    return {
        "model": cell.model,
        "server": cell.server,
        "protocol": cell.protocol,
        "requests": cell.found.requests,
        "errors": len(cell.found.errors),
        "requests_per_second": round(cell.found.requests / cell.found.seconds, 1),
        "p50_ms": cell.found.percentile(50),
        "p99_ms": cell.found.percentile(99),
        "largest_difference": cell.found.largest_difference,
    }


def markdown(cells: Sequence[Cell]) -> str:
    """The table: a line a server and protocol, below the line of ONNX Runtime alone."""
    lines = ["| model | by | requests/s | p50 ms | p99 ms | errors |", "| --- | --- | ---: | ---: | ---: | ---: |"]
    for cell in sorted(cells, key=lambda cell: (cell.model, cell.server or "", cell.protocol or "")):
        by = "ONNX Runtime alone" if cell.server is None else f"{cell.server}, {cell.protocol}"
        plain = _plain(cell)
        lines.append(
            f"| {cell.model} | {by} | {plain['requests_per_second']:,.0f} | {_ms(plain['p50_ms'])} | "
            f"{_ms(plain['p99_ms'])} | {plain['errors']} |"
        )
    return "\n".join(lines)


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
