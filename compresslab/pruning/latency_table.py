"""The time of single layers on this machine's ONNX Runtime, measured once for all networks and runs."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import onnx

from compresslab.digest import code_digest, digest_file, digest_of
from compresslab.measure.machine import fingerprint
from compresslab.measure.operators import OperatorTimes, time_operators
from compresslab.measure.session import SessionOptions
from compresslab.pruning.costs import Beside
from compresslab.pruning.geometry import Geometry, Sized
from compresslab.pruning.one_layer import nothing, one_layer, ruler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    from compresslab.pruning.one_layer import Precision
    from compresslab.store import Store

_KIND = "layer-times"
_FILE = "times.json"
# Graphs on disk at once; beyond that they are measured in turns.
_MOST_BYTES = 512 * 1024**2
_DEFAULT_SESSION = SessionOptions()


class LatencyTable:
    """Milliseconds of layers, looked up in the store or measured there and then.

    An entry of the store is a geometry with all the widths that were ever asked for, on one machine with one version
    of ONNX Runtime.

    Args:
        store: Where they are kept.
        precision: What will ship.
        batch: Examples a call.
        threads: ONNX Runtime's threads inside an operator.
        session: How graphs are run.
        on_measuring: Told, in a sentence, what is about to be measured.
    """

    def __init__(
        self,
        store: Store,
        precision: Precision,
        *,
        batch: int = 1,
        threads: int = 1,
        session: SessionOptions = _DEFAULT_SESSION,
        on_measuring: Callable[[str], None] | None = None,
    ) -> None:
        self._store = store
        self._precision: Precision = precision
        self._batch = batch
        self._threads = threads
        self._session = session
        self._on_measuring = on_measuring
        self._used: dict[Sized, float] = {}
        self._circumstances = {
            "precision": precision,
            "batch": batch,
            "threads": threads,
            "session": session.model_dump(mode="json"),
            "machine": fingerprint(),
            "code": code_digest("compresslab.measure.operator_worker", "compresslab.pruning.one_layer"),
        }

    def ms(self, layers: Iterable[Sized]) -> Mapping[Sized, float]:
        """The time of each of these; those that nobody ever asked for are measured, all together.

        Raises:
            BenchmarkFailed: A measuring process died.
            StoreError: The store cannot be read or written.
        """
        asked = list(dict.fromkeys(layers))
        wanted = defaultdict[Geometry, list[Sized]](list)
        for sized in asked:
            if sized not in self._used:
                wanted[sized.geometry].append(sized)
        missing: list[Sized] = []
        for geometry, sizes in wanted.items():
            found = self._stored(geometry)
            self._used.update((sized, found[sized]) for sized in sizes if sized in found)
            missing += [sized for sized in sizes if sized not in found]
        if missing:
            self._measure(missing)
        return {sized: self._used[sized] for sized in asked}

    def beside(self, graph: Path, given: npt.NDArray[np.generic] | None = None) -> Beside:
        """What a whole network takes beside its convolutions and matrix products; measured once for each file.

        Args:
            graph: An exported model with one input, of the precision of the table.
            given: What it is fed, where that is not floats of a fixed shape.

        Raises:
            BenchmarkFailed: The measuring process died; ONNX Runtime cannot run the graph, for one.
        """
        key = digest_of([self._circumstances, digest_file(graph), None if given is None else list(given.shape)])
        entry = self._store.find(_KIND, key)
        if entry is not None:
            return Beside(**_read(entry))
        with TemporaryDirectory(prefix="compresslab-layers-") as folder:
            found = self._operators([graph], Path(folder), given)
        beside = Beside(found.call_ms, found.kernel_ms * found.kernels[0], found.others_ms[0])
        self._write(key, asdict(beside))
        return beside

    @property
    def digest(self) -> str:
        """Identifies all the times that were looked up so far, and under what circumstances they hold."""
        times = sorted((digest_of(asdict(sized)), ms) for sized, ms in self._used.items())
        return digest_of([self._circumstances, times])

    def _measure(self, missing: Sequence[Sized]) -> None:
        """Measures these, and keeps what was found as soon as it is found."""
        for number, part in enumerate(_portions(missing)):
            if self._on_measuring is not None and number == 0:
                self._on_measuring(f"timing {len(missing)} layers of other widths on this machine")
            times = self._timed(part)
            self._used.update(times)
            for geometry in {sized.geometry: None for sized in part}:
                self._keep(geometry, {sized: ms for sized, ms in times.items() if sized.geometry == geometry})

    def _timed(self, sizes: Sequence[Sized]) -> dict[Sized, float]:
        with TemporaryDirectory(prefix="compresslab-layers-") as name:
            folder = Path(name)
            paths = [folder / f"{number}.onnx" for number in range(len(sizes))]
            for path, sized in zip(paths, sizes, strict=True):
                onnx.save(one_layer(sized, self._precision, self._batch), str(path))
            found = self._operators(paths, folder)
        return dict(zip(sizes, found.ms, strict=True))

    def _operators(
        self, graphs: Sequence[Path], folder: Path, given: npt.NDArray[np.generic] | None = None
    ) -> OperatorTimes:
        onnx.save(ruler(), str(folder / "ruler.onnx"))
        onnx.save(nothing(), str(folder / "empty.onnx"))
        return time_operators(
            graphs, folder / "ruler.onnx", folder / "empty.onnx",
            session=self._session, batch=self._batch, threads=self._threads, given=given,
        )  # fmt: skip

    def _stored(self, geometry: Geometry) -> dict[Sized, float]:
        found = self._store.find(_KIND, self._key(geometry))
        times = [] if found is None else _read(found)["times"]
        return {Sized(geometry, inputs, outputs): float(ms) for inputs, outputs, ms in times}

    def _keep(self, geometry: Geometry, times: Mapping[Sized, float]) -> None:
        # Another process may have added widths meanwhile; what both measured stays as it was first.
        known = {**times, **self._stored(geometry)}
        self._write(
            self._key(geometry),
            {"geometry": asdict(geometry), "times": sorted([s.inputs, s.outputs, ms] for s, ms in known.items())},
        )

    def _write(self, key: str, plain: Mapping[str, object]) -> None:
        self._store.discard(_KIND, key)
        with self._store.writing(_KIND, key) as folder:
            (folder / _FILE).write_text(json.dumps(plain), encoding="utf-8")

    def _key(self, geometry: Geometry) -> str:
        return digest_of([self._circumstances, asdict(geometry)])


def _read(entry: Path) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads((entry / _FILE).read_text(encoding="utf-8"))
    return plain


def _portions(sizes: Sequence[Sized]) -> Iterator[Sequence[Sized]]:
    """Parts whose graphs are on disk at once."""
    part: list[Sized] = []
    size = 0
    for sized in sizes:
        weights = 4 * sized.inputs * sized.outputs * math.prod(sized.geometry.kernel)
        if part and size + weights > _MOST_BYTES:
            yield part
            part, size = [], 0
        part.append(sized)
        size += weights
    yield part
