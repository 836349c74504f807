"""Writes a bundle: a folder that is all one needs to run the model, and to know what it is."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from compresslab.bundle.card import model_card
from compresslab.errors import BadInput
from compresslab.measure.artifact import MANIFEST, load_artifact, write_manifest
from compresslab.report.lineage import path_to, point_by_id
from compresslab.report.results import results
from compresslab.store import storage_errors

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.report import Point, Report

CARD_FILE = "README.md"


def write_bundle(point: Point, report: Report, folder: Path) -> Path:
    """Writes a point's graphs, its manifest with provenance, and its model card into `folder`, and returns that.

    The folder appears whole: an earlier bundle makes way only when the new one is complete and was checked against
    its hashes.

    Args:
        point: One of the report's.
        report: The run that made it.
        folder: Made, or replaced if it holds a bundle; nothing else is ever replaced.

    Raises:
        ArtifactError: The point's files are not what its manifest says.
        BadInput: The folder is there and is no bundle.
        StoreError: The disk is full, or the folder may not be written.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(
            f"{folder}: this is not an earlier bundle, so it is not replaced; choose another folder, or move it"
        )
    draft, former = (folder.with_name(f".{folder.name}.{state}") for state in ("new", "old"))
    with storage_errors(folder.parent):
        # What a crash left behind.
        for leftover in (draft, former):
            shutil.rmtree(leftover, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            _fill(draft, point, report)
            if folder.exists():
                folder.replace(former)
            draft.replace(folder)
        finally:
            for leftover in (draft, former):
                shutil.rmtree(leftover, ignore_errors=True)
    return folder


def _fill(folder: Path, point: Point, report: Report) -> None:
    manifest = point.artifact.manifest
    for name, source in point.artifact.graphs.items():
        shutil.copyfile(source, folder / manifest.graphs[name].file)
    provenance = {**manifest.provenance, "run": _origin(point, report)}
    write_manifest(folder, manifest.model_copy(update={"provenance": provenance}))
    load_artifact(folder, verify=True)
    (folder / CARD_FILE).write_text(model_card(point, report), encoding="utf-8")


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
