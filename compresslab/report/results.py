"""A Report as results.json, and back as plain data: all that tables, pages and pictures are drawn from."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn

from pydantic import TypeAdapter, ValidationError

from compresslab.errors import BadInput
from compresslab.report.schema import (
    SCHEMA_VERSION,
    ByClassResult,
    FidelityResult,
    IndexResult,
    Interval,
    LatencyResult,
    PointResult,
    Quality,
    Results,
    TeacherIndexResult,
    VersusBaseline,
    VersusParent,
)
from compresslab.report.writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.measurement import (
        Estimate,
        Fidelity,
        IndexEffects,
        Latency,
        Retained,
        TeacherIndex,
        Versus,
    )
    from compresslab.report.report import Point, Report

RESULTS_FILE = "results.json"

_SCHEMA = TypeAdapter(Results)


def results(report: Report) -> Results:
    """The report as the plain data of results.json."""
    return {
        "schema_version": SCHEMA_VERSION,
        "pipeline": report.pipeline,
        "points": [_point(point) for point in report.points],
        "frontier": list(report.frontier),
        "selected": report.selected,
        "select": report.select,
        "budget": {"status": report.budget.status, "violations": list(report.budget.violations)},
        "machine": dict(report.machine),
        "notes": list(report.notes),
    }


def write_results(report: Report, run_dir: Path) -> Path:
    """Writes `results.json` into the run directory, whole or not at all, and returns its path.

    Raises:
        StoreError: The disk is full, or the folder may not be written.
        ValueError: A figure is NaN or infinite: a fault of whoever measured it.
    """
    text = json.dumps(results(report), indent=1, allow_nan=False, ensure_ascii=False)
    return write_whole(run_dir / RESULTS_FILE, text + "\n")


def load_results(run_dir: Path) -> Results:
    """Reads and checks `results.json` of a run directory. Keys that this version does not know are kept.

    Raises:
        BadInput: There is none, it is broken, or another version of compresslab wrote it.
    """
    path = run_dir / RESULTS_FILE
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(
            f"{run_dir}: not the directory of a finished run: there is no {RESULTS_FILE}; give the folder that "
            "`compresslab run` wrote, such as runs/fashion-mnist"
        ) from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: not UTF-8 text ({error}); {_REMEDY}") from error
    try:
        plain = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise BadInput(f"{path}: not valid JSON ({error}); {_REMEDY}") from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != SCHEMA_VERSION:
        raise BadInput(
            f"{path}: this version of compresslab reads schema_version {SCHEMA_VERSION}, but got {version!r}; "
            "use the compresslab that wrote it, or run the pipeline again"
        )
    try:
        _SCHEMA.validate_python(plain, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise BadInput(f"{path}: {where}: {first['msg']} ({error.error_count()} problems); {_REMEDY}") from error
    loaded: Results = plain
    return loaded


_REMEDY = "run the pipeline again: what is cached is not computed again"


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _point(point: Point) -> PointResult:
    artifact, measured = point.artifact, point.measurement
    manifest = artifact.manifest
    parent, baseline, control = measured.versus_parent, measured.versus_baseline, measured.versus_control
    return {
        "id": point.id,
        "stage": point.stage,
        "lineage": list(point.lineage),
        "cached": point.cached,
        "seconds": round(point.seconds, 3),
        "artifact": {
            "graphs": {name: f"stages/{point.id}/{path.name}" for name, path in artifact.graphs.items()},
            "sha256": dict(artifact.sha256),
            "bytes": artifact.bytes,
        },
        "params": manifest.params,
        "macs": manifest.macs,
        "quality": {"validation": _qualities(point, "validation"), "test": _qualities(point, "test")},
        "retention": {metric: _interval(estimate) for metric, estimate in measured.retention.items()},
        "agreement_with_teacher": measured.agreement_with_teacher,
        "latency_ms": [_latency(latency) for latency in measured.latency],
        "peak_rss_mb": measured.peak_rss_mb,
        "parity": None
        if manifest.parity is None
        else {"max_abs_diff": manifest.parity.max_abs_diff, "n": manifest.parity.n},
        "agreement_with_parent": measured.agreement_with_parent,
        "integer_operators": {
            "eligible": measured.integer_operators.eligible,
            "integer": measured.integer_operators.integer,
            "in_float": [
                {"name": one.name, "kind": one.kind, "reason": one.reason, "share": one.share}
                for one in measured.integer_operators.in_float
            ],
            "time": dict(measured.integer_operators.time),
        },
        "versus_parent": None if parent is None else _versus_parent(parent),
        "versus_baseline": None if baseline is None else _versus_baseline(baseline),
        "settings": dict(point.settings),
        "decisions": dict(point.decisions),
        "reference": point.reference,
        "budget": point.budget.status,
        "versus_control": None if control is None else _interval(control),
        "fidelity": None if manifest.fidelity is None else _fidelity(manifest.fidelity),
        "retention_by_class": {name: _by_class(found) for name, found in measured.retention_by_class.items()},
        "against_teacher_index": {
            name: _teacher_index(found) for name, found in measured.against_teacher_index.items()
        },
        "index": {name: _index(found) for name, found in measured.index.items()},
    }


def _teacher_index(found: TeacherIndex) -> TeacherIndexResult:
    return {
        "quality": _quality(found.quality),
        "retention": None if found.retention is None else _interval(found.retention),
    }


def _index(found: IndexEffects) -> IndexResult:
    return {
        "width": found.width,
        "bytes_float32": found.bytes_float32,
        "bytes_int8": found.bytes_int8,
        "int8": _quality(found.int8),
        "int8_delta": _interval(found.int8_delta),
    }


def _fidelity(found: Fidelity) -> FidelityResult:
    return {
        "metric": found.metric,
        "torch": found.torch,
        "onnx": found.onnx,
        "agreement": found.agreement,
        "allowed": found.allowed,
        "n": found.n,
    }


def _qualities(point: Point, split: str) -> dict[str, Quality]:
    return {metric: _quality(found) for metric, found in point.measurement.quality.get(split, {}).items()}


def _quality(estimate: Estimate) -> Quality:
    return {**_interval(estimate), "n": estimate.n}


def _latency(latency: Latency) -> LatencyResult:
    return {
        "graph": latency.graph,
        "batch": latency.batch,
        "threads": latency.threads,
        "inputs": latency.inputs,
        "session": latency.session,
        "provider": latency.provider,
        "p50": latency.p50,
        "p90": latency.p90,
        "p99": latency.p99,
        "p50_low": latency.p50_low,
        "p50_high": latency.p50_high,
        "samples": latency.samples,
    }


def _interval(estimate: Estimate) -> Interval:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _by_class(found: Retained) -> ByClassResult:
    return {
        "split": found.split,
        "n": found.n,
        "measured": found.measured,
        "lost": found.lost,
        "gained": found.gained,
        "classes": [
            {
                "label": one.label,
                "n": one.n,
                "teacher": one.teacher,
                "student": one.student,
                "delta": _interval(one.delta),
                "p_value": one.p_value,
                "change": one.change,
                "right_to_wrong": one.right_to_wrong,
                "wrong_to_right": one.wrong_to_right,
                "wrong_to_other_wrong": one.wrong_to_other_wrong,
            }
            for one in found.classes
        ],
        "flips": {
            "right_to_wrong": found.flips.right_to_wrong,
            "wrong_to_right": found.flips.wrong_to_right,
            "wrong_to_other_wrong": found.flips.wrong_to_other_wrong,
            "frequent": [
                {
                    "teacher": flip.teacher,
                    "student": flip.student,
                    "count": flip.count,
                    "right_to_wrong": flip.right_to_wrong,
                    "wrong_to_right": flip.wrong_to_right,
                }
                for flip in found.flips.frequent
            ],
        },
    }


def _versus_baseline(versus: Versus) -> VersusBaseline:
    return {
        "speedup": _interval(versus.speedup),
        "size_ratio": versus.size_ratio,
        "quality_delta": _interval(versus.quality_delta),
        "benchmark_deltas": {name: _interval(delta) for name, delta in versus.benchmark_deltas.items()},
    }


def _versus_parent(versus: Versus) -> VersusParent:
    return {**_versus_baseline(versus), "verdict": versus.verdict, "why": list(versus.why)}
