"""The three images, built and tried.

python -m benchmarks.images            builds, and tries every promise on real containers: some minutes
python -m benchmarks.images --quick    builds, and starts each once
python -m benchmarks.images --table    the tables of the last full run, as docs/docker.md shows them

Ends with 1 if a promise is not kept. Needs docker, podman, or COMPRESSLAB_CONTAINERS (see benchmarks/images/engine.py).
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.document import load, publish
from benchmarks.images.building import NO_TORCH, TORCH_INDEX, build
from benchmarks.images.engine import NONE_FOUND, BuildFailed, find_engine
from benchmarks.images.trying import checks, starts

NAME = "images"
_MB = 1e6


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds, tries, prints the tables, publishes the document; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(arguments)
    if options.table:
        print(markdown(load(NAME)))
        return 0
    engine = find_engine()
    if engine is None:
        print(f"error: {NONE_FOUND}", file=sys.stderr)
        return 2
    begun = time.perf_counter()
    try:
        images = [{**asdict(one), "kept": one.small_enough} for one in build(engine)]
    except BuildFailed as failed:
        if NO_TORCH in str(failed):
            print(
                f"error: pip finds no CPU build of torch; name the index that has it in {TORCH_INDEX}", file=sys.stderr
            )
        return 4
    body: dict[str, Any] = {"engine": engine.name, "images": images, "checks": []}
    with TemporaryDirectory() as folder:
        for check in starts(engine) if options.quick else checks(engine, Path(folder) / "work"):
            print(f"{'ok' if check.kept else 'NOT KEPT'}: {check.name}: {check.found} ({check.seconds} s)", flush=True)
            body["checks"].append({**asdict(check), "kept": check.kept})
    print(markdown(body))
    publish(NAME, time.perf_counter() - begun, body, quick=options.quick)
    return 0 if all(one["kept"] for one in [*body["checks"], *body["images"]]) else 1


def markdown(body: dict[str, Any]) -> str:
    """Two tables: the sizes, and the checks."""
    lines = ["| image | MB | above its base |", "| --- | ---: | ---: |"]
    lines += [f"| {one['image']} | {one['bytes'] / _MB:,.0f} | {one['added'] / _MB:,.0f} |" for one in body["images"]]
    lines += ["", "| tried | found | seconds |", "| --- | --- | ---: |"]
    lines += [f"| {one['name']} | {one['found']} | {one['seconds'] or ''} |" for one in body["checks"]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
