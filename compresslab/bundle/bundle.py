"""Writes a bundle: a folder that is all one needs to run the model, and to know what it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from compresslab.bundle.card import model_card
from compresslab.bundle.folder import new_folder
from compresslab.bundle.sealing import seal
from compresslab.measure.artifact import copy_tokenizer
from compresslab.report.lineage import path_to, point_by_id
from compresslab.report.results import results

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from compresslab.report import Point, Report

_NOTHING: Mapping[str, Any] = {}


def write_bundle(point: Point, report: Report, folder: Path, origin: Mapping[str, Any] = _NOTHING) -> Path:
    """Writes a point's graphs, labels, model card and manifest with provenance into `folder`, and returns that.

    The folder appears whole: an earlier bundle makes way only when the new one is complete and was checked against
    its hashes.

    Args:
        point: One of the report's.
        report: The run that made it.
        folder: Made, or replaced if it holds a bundle; nothing else is ever replaced.
        origin: What else is known of where it comes from, such as the pipeline's digest; plain data.

    Raises:
        ArtifactError: The point's files are not what its manifest says.
        BadInput: The folder is there and is no bundle.
        StoreError: The disk is full, or the folder may not be written.
    """
    manifest = point.artifact.manifest
    provenance = {**manifest.provenance, "run": {**origin, **_origin(point, report)}}
    with new_folder(folder) as draft:
        for name, source in point.artifact.graphs.items():
            shutil.copyfile(source, draft / manifest.graphs[name].file)
        copy_tokenizer(point.artifact, draft)
        told = {"provenance": provenance, "latency": point.measurement.latency}
        seal(draft, manifest.model_copy(update=told), model_card(point, report))
    return folder


def _origin(point: Point, report: Report) -> dict[str, Any]:
    """Which run made the model, by which steps, and on which machine it was measured; plain data."""
    found = results(report)
    path = path_to(found, point_by_id(found, point.id))
    return {
        "pipeline": report.pipeline,
        "point": point.id,
        "selected": point.id == report.selected,
        "select": report.select,
        "budget": point.budget.status,
        "lineage": [
            {"stage": step["stage"], "settings": step["settings"], "decisions": step["decisions"]} for step in path
        ],
        "machine": dict(report.machine),
    }
