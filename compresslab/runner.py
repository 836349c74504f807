"""run(): the only orchestration.

Every stage makes candidates, every candidate is exported and measured, and the measurements decide. What is finished
is in the store, so the same call after a crash goes on where it stopped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from compresslab import __version__
from compresslab.bundle import write_bundle
from compresslab.candidate import Candidate, Step
from compresslab.config import dump_pipeline
from compresslab.decided import Decided
from compresslab.digest import digest_of
from compresslab.errors import BadInput, CompresslabError, StageFailed, StoreError
from compresslab.keys import Keys
from compresslab.launcher import started_alone
from compresslab.lines import Lines, digest_of_model
from compresslab.measure.artifact import Artifact, load_artifact, write_manifest
from compresslab.measure.budget import check, too_loud
from compresslab.measure.frontier import FrontierPoint, frontier, select, ties
from compresslab.measure.machine import SLOW_INT8, fast_int8
from compresslab.measure.measurement import Measurement
from compresslab.measure.measurement_io import to_json
from compresslab.measured import REPORTED, Measurements
from compresslab.nodes import Made, Node, Nodes
from compresslab.pipeline import task_with_transfer, trusted_code
from compresslab.preflight import require_measured
from compresslab.progress import Noting, Progress, Silent
from compresslab.report import Point, Report, write_report
from compresslab.route import PlanLine, going_on, planned, teaching
from compresslab.run_directory import RunDirectory
from compresslab.sessions import Sessions
from compresslab.stage import Assessment, Stage
from compresslab.store import Store
from compresslab.world import main_first, on_main, world

if TYPE_CHECKING:
    from compresslab.measure.budget import Budget
    from compresslab.measure.evaluate import Answers
    from compresslab.pipeline import Pipeline

_ALONE = (
    "`accelerate launch` was asked for several processes and has started this one only; on CPUs several are started by "
    "`torchrun --nproc-per-node N -m compresslab run ...`, or by `accelerate launch --multi_gpu`"
)


def run(
    pipeline: Pipeline,
    out: Path | str | None = None,
    *,
    store: Path | str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Runs a pipeline and writes the run directory: results.json, the reports, one folder a stage, the selected bundle.

    Args:
        pipeline: What to do.
        out: The run directory; default `runs/<pipeline name>`.
        store: The cache; default `.store` beside the run directory. What is there already is not computed again.
        fresh: Computes everything again, teachers' answers too, and replaces what the cache has.
        progress: Told of every step.

    Returns:
        The report; its `budget.status` says whether the selected model is within budget.

    Raises:
        BadInput: The data or a model cannot be used; nothing was trained.
        StageFailed: A stage could not finish. What was finished before is kept, and the same call goes on from there.
        StoreError: The disk is full or may not be written.
    """
    place, cache = _places(pipeline, out, store)
    if world().main:
        return _Run(pipeline, place, cache, fresh, progress or Silent()).report()
    # A process that only helps to train says nothing, and what it writes about the run is thrown away. What the main
    # one has made anew it must not throw away again.
    with TemporaryDirectory() as folder:
        return _Run(pipeline, Path(folder) / pipeline.name, cache, False, Silent()).report()


def plan(pipeline: Pipeline, out: Path | str | None = None, *, store: Path | str | None = None) -> tuple[PlanLine, ...]:
    """What `run` with the same arguments would make and what it would read from the store; trains nothing."""
    return _Run(pipeline, *_places(pipeline, out, store), False, Silent()).plan()


def _places(pipeline: Pipeline, out: Path | str | None, store: Path | str | None) -> tuple[Path, Path]:
    """The run directory and the cache."""
    place = Path(out) if out is not None else Path("runs") / pipeline.name
    return place, Path(store) if store is not None else place.parent / ".store"


class _Run:
    """One run of one pipeline: what is loaded once and used by every step."""

    def __init__(self, pipeline: Pipeline, out: Path, store: Path, fresh: bool, progress: Progress) -> None:
        self.pipeline = pipeline
        self.directory = RunDirectory(out)
        self.display = progress
        self.progress = Noting(progress)
        self.store = Store(store, self.progress.note, fresh=fresh)
        self.device = _device(pipeline.device)
        task = task_with_transfer(pipeline)
        self.task = main_first(lambda: task.load(self.store.root / "data", pipeline.model, self.store))
        self.progress.notes.extend(self.task.notes)
        if started_alone():
            self.progress.note(_ALONE)
        require_measured(pipeline, self.task)
        self.trusted = trusted_code(pipeline)
        self.lines = Lines(pipeline, self.task, self.store, self.device, self.progress)
        self.exports = self.lines.exports
        self.nodes = Nodes(self.store, self.exports.candidate)
        self.measurements = Measurements(self.store, self.task, pipeline.bench, self._doubted)
        quantized = any(stage.kind == "quantize" for stage in (*pipeline.stages, *pipeline.references))
        if quantized and not fast_int8(self.measurements.machine):
            self.progress.note(f"this processor is slow with int8: {SLOW_INT8}")
        self.sessions = Sessions(self.store, self.task, pipeline.bench, pipeline.decided)
        self.keys = Keys(pipeline, self.task, self.device, self.measurements.machine)
        self.baseline_step = Step(
            "baseline", pipeline.model.model_dump(mode="json"), {}, digest_of_model(self.lines.model)
        )
        self.lines.rehearse()
        self.baseline: Node | None = None
        self.trained: Node | None = None
        self.decided = Decided(pipeline.decided, self.progress.note)

    # -- the run -----------------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """Makes, measures and judges every point, and writes the run directory."""
        self.directory.event("run", pipeline=self.pipeline.name)
        try:
            points = self._points()
        except (CompresslabError, KeyboardInterrupt) as error:
            with suppress(StoreError):  # on a full disk; what stopped the run is what matters
                self.directory.event("stopped", error=type(error).__name__, message=str(error))
            raise
        judged = [self._judged(point) for point in points]
        selected = select(judged, self.pipeline.select)
        for one, other in ties(judged):
            self.progress.note(f"{one} and {other} are tied on the frontier: only noise sets them apart")
        # Where every point is over the budget none is handed back, and the last one says by how much.
        budget = next(point.budget for point in reversed(points) if selected in (None, point.id))
        report = Report(
            pipeline=self.pipeline.name,
            points=points,
            frontier=frontier(judged),
            selected=selected,
            select=self.pipeline.select,
            budget=budget,
            machine=self.measurements.machine,
            notes=tuple(dict.fromkeys(self.progress.notes)),
        )
        if world().main:
            self._write(report)
        return report

    def _write(self, report: Report) -> None:
        self.directory.keep_only({point.id for point in report.points})
        self.directory.clear_selected()
        if report.selected is not None:
            origin = {"pipeline_digest": digest_of(dump_pipeline(self.pipeline)), "compresslab": __version__}
            write_bundle(report.point(report.selected), report, self.directory.path / "selected", origin)
        self.directory.lock(self._lock(report.points))
        write_report(report, self.directory.path)
        self.directory.event("done", selected=report.selected, budget=report.budget.status)

    def _points(self) -> tuple[Point, ...]:
        points: list[Point] = []

        def add(node: Node, parent: Node | None, reference: bool = False, control: Node | None = None) -> Point:
            taken = {point.id for point in points}
            points.append(self._point(node, parent, reference, None if node.control else control, taken))
            return points[-1]

        self.baseline = self._baseline()
        add(self.baseline, None)
        for stage in self.pipeline.references:
            for node in self._apply(stage, self.baseline):
                add(node, self.baseline, reference=True)
        current: tuple[Node, ...] = (self.baseline,)
        for stage in self.pipeline.stages:
            made = [(parent, self._apply(stage, parent)) for parent in current]
            self.trained = teaching(stage, [node for _, nodes in made for node in nodes]) or self.trained
            for parent, nodes in made:
                control = next((node for node in nodes if node.control), None)
                for node in nodes:
                    add(node, parent, control=control)
            current = tuple(node for _, nodes in made for node in going_on(stage, nodes))
        return tuple(points)

    def plan(self) -> tuple[PlanLine, ...]:
        """The stages, whether the store has them, and what they took when they last ran."""
        last_time = self.directory.last_seconds()
        root = Node((self.baseline_step,), self.store.root, 0.0, cached=False)

        def find(stage: Stage, start: Node, trained: Node | None) -> tuple[Node, ...] | None:
            return self.nodes.find(self.keys.stage(stage, start, self._taught_by(trained)))

        def seconds(reference: bool, lineage: Sequence[str]) -> float | None:
            return last_time.get((reference, *lineage))

        first = PlanLine(
            "baseline", self.nodes.find(self.keys.given(self.baseline_step)) is not None, seconds(False, ["baseline"])
        )
        return (first, *planned(self.pipeline, root, find, seconds))

    # -- making ------------------------------------------------------------------------------------------------------

    def _baseline(self) -> Node:
        def make(_: Path) -> Made:
            return Made((Candidate(self.lines.model, (self.baseline_step,)),))

        key = self.keys.given(self.baseline_step)
        node = self.nodes.obtain(key, make)[0]
        self.directory.event("stage", stage="baseline", key=key, cached=node.cached, seconds=node.seconds)
        return node

    def _apply(self, stage: Stage, parent: Node) -> tuple[Node, ...]:
        key = self.keys.stage(stage, parent, self._taught_by(self.trained))

        def make(scratch: Path) -> Made:
            progress = Noting(self.display)
            start = parent.candidate(self.trusted)
            context = self.lines.context(
                start,
                lambda: None if self.trained is None else self.trained.candidate(self.trusted),
                device=self.device,
                scratch=scratch,
                progress=progress,
                assess=lambda candidate: self._assess(candidate, scratch, parent),
                key=key,
                decided=self.decided.before(stage, key),
            )
            return Made(stage.apply(start, context), tuple(progress.notes))

        try:
            nodes = self.nodes.obtain(key, make)
        except StageFailed as error:
            if str(error).startswith(f"{stage.kind}: "):  # a training phase that is called as its stage
                raise
            raise type(error)(f"{stage.kind}: {error}") from error
        self.progress.notes.extend(f"{stage.kind}: {note}" for note in nodes[0].notes)
        self.directory.event("stage", stage=stage.kind, key=key, cached=nodes[0].cached, seconds=nodes[0].seconds)
        self.decided.keep(stage, key, nodes)
        return nodes

    def _taught_by(self, trained: Node | None) -> str | None:
        return self.lines.taught_by(None if trained is None else trained.digest)

    def _held_against(self) -> Artifact | Answers | None:
        """What retention and agreement are of."""
        assert self.baseline is not None
        if self.pipeline.teacher is not None:
            model = self.lines.given_teacher()
            if model is None:
                return self.lines.answers(REPORTED)
            settings = self.pipeline.teacher.model_dump(mode="json")
            step = Step("teacher", settings, {}, digest_of_model(model))
            return self.nodes.obtain(self.keys.given(step), lambda _: Made((Candidate(model, (step,)),)))[0].artifact()
        if self.pipeline.model.has_weights:
            return self._artifact(self.baseline)
        return None if self.trained is None else self._artifact(self.trained)

    def _artifact(self, node: Node) -> Artifact:
        """As it is deployed: with the session options of the run."""
        return self.sessions.deployed(node.artifact())

    # -- measuring ---------------------------------------------------------------------------------------------------

    def _measure(
        self,
        artifact: Artifact,
        parent: Artifact | None,
        splits: tuple[str, ...] = REPORTED,
        control: Artifact | None = None,
    ) -> tuple[Measurement, bool]:
        """The measurement against the parent, the baseline and the control, and whether the store had it."""
        baseline = self._artifact(self.baseline) if self.baseline is not None and parent is not None else None
        return self.measurements.obtain(artifact, parent, baseline, self._held_against(), splits, control)

    def _assess(self, candidate: Candidate, scratch: Path, parent: Node) -> Assessment:
        folder = scratch / f"assess-{candidate.digest[:16]}"

        def export_here() -> None:
            folder.mkdir(parents=True, exist_ok=True)
            self.exports.candidate(candidate, folder)

        on_main(export_here)
        artifact = self.sessions.deployed(load_artifact(folder))
        started = self._artifact(parent)
        measurement, _ = self._measure(artifact, started, ("validation",))
        return Assessment(measurement, check(self._choosing, measurement, artifact.bytes), artifact, started)

    def _point(self, node: Node, parent: Node | None, reference: bool, control: Node | None, taken: set[str]) -> Point:
        exported = node.artifact()
        self.progress.start(f"measure {node.kind}", 1)
        begun = time.perf_counter()
        artifact = self.sessions.deployed(exported)
        measurement, measured_before = self._measure(
            artifact,
            None if parent is None else self._artifact(parent),
            control=None if control is None else self._artifact(control),
        )
        seconds = round(time.perf_counter() - begun, 3)
        self.progress.advance()
        point_id = next(node.digest[:size] for size in range(8, 65) if node.digest[:size] not in taken)
        place = self.directory.stage(point_id, node.folder, to_json(measurement))
        if artifact.manifest != exported.manifest:
            write_manifest(place, artifact.manifest)
        self.directory.event("measured", id=point_id, stage=node.kind, cached=measured_before, seconds=seconds)
        return Point(
            id=point_id,
            stage=node.kind,
            lineage=tuple(step.kind for step in node.lineage),
            cached=node.cached and measured_before,
            seconds=node.seconds,
            artifact=load_artifact(place),
            measurement=measurement,
            settings=dict(node.lineage[-1].settings),
            decisions={**node.lineage[-1].decisions, **self.sessions.choice(exported)},
            budget=check(self.pipeline.budget, measurement, artifact.bytes),
            reference=reference,
        )

    def _doubted(self, artifact: Artifact, found: Measurement) -> bool:
        doubted = too_loud(self.pipeline.budget, found, artifact.bytes)
        if doubted:
            self.progress.note("the machine was too loud for a limit on time to be settled: that is measured again")
        return doubted

    def _judged(self, point: Point) -> FrontierPoint:
        latency = point.measurement.latency[0]
        quality = point.measurement.quality["validation"][self.task.benchmark_metric]
        return FrontierPoint(
            id=point.id,
            p50_ms=latency.p50,
            bytes=point.artifact.bytes,
            quality=quality.value,
            status=check(self._choosing, point.measurement, point.artifact.bytes).status,
            p50_interval=(latency.p50_low, latency.p50_high),
            quality_interval=(quality.low, quality.high),
        )

    @property
    def _choosing(self) -> Budget | None:
        """The limits that have a say in what is chosen: those on benchmarks judge what was."""
        budget = self.pipeline.budget
        return None if budget is None else budget.choosing(self.task.benchmark_metrics)

    def _lock(self, points: tuple[Point, ...]) -> dict[str, Any]:
        return {
            "lock_version": 1,
            "pipeline": dump_pipeline(self.pipeline),
            "data": self.task.digest,
            "surroundings": self.keys.surroundings(),
            "machine": dict(self.measurements.machine),
            "decided": {**self.decided.now, **self.sessions.decided},
            "points": [
                {
                    "id": point.id,
                    "lineage": list(point.lineage),
                    "decisions": dict(point.decisions),
                    "sha256": dict(point.artifact.sha256),
                }
                for point in points
            ],
        }


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise BadInput("`device: cuda` is asked for, but torch finds no CUDA device; use `device: auto` or `cpu`")
    return wanted
