"""The run directory: what a run leaves for people and programs, see DESIGN's contract in CONTRIBUTING.md."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from compresslab.errors import BadInput
from compresslab.measure.artifact import MANIFEST
from compresslab.report import load_results
from compresslab.report.writing import write_whole
from compresslab.store import storage_errors

_DRAFT = ".draft-"


class RunDirectory:
    """Writes into one run directory. Each file appears whole; folders of earlier runs that no longer count go."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def last_seconds(self) -> dict[tuple[bool | str, ...], float]:
        """Seconds by (is it a reference, *lineage) in the last results written here; empty if there are none."""
        try:
            results = load_results(self.path)
        except BadInput:
            return {}
        return {(point["reference"], *point["lineage"]): point["seconds"] for point in results["points"]}

    def event(self, what: str, **figures: Any) -> None:
        """Appends one line to events.jsonl: what happened, when, and its figures."""
        line = json.dumps({"time": round(time.time(), 3), "event": what, **figures})
        with storage_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def stage(self, point_id: str, node: Path, measurement: Mapping[str, Any]) -> Path:
        """Copies a candidate's model and artifact to stages/<id>/, with its measurement, and returns that folder."""
        place = self.path / "stages" / point_id
        with storage_errors(self.path):
            draft = self.path / "stages" / f"{_DRAFT}{uuid4().hex}"
            draft.mkdir(parents=True)
            try:
                for source in (node, node / "artifact"):
                    for file in source.iterdir():
                        if file.is_file():
                            shutil.copy2(file, draft / file.name)
                        elif file.name != "artifact":  # the network of a tower
                            shutil.copytree(file, draft / file.name)
                text = json.dumps(measurement, indent=1)
                (draft / "measurement.json").write_text(text, encoding="utf-8")
                shutil.rmtree(place, ignore_errors=True)
                draft.replace(place)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
        return place

    def keep_only(self, point_ids: set[str]) -> None:
        """Removes the stage folders of other runs and what a crash left, and nothing that is not ours."""
        for folder in (self.path / "stages").glob("*"):
            ours = folder.name.startswith(_DRAFT) or (folder / MANIFEST).is_file()
            if ours and folder.name not in point_ids:
                shutil.rmtree(folder, ignore_errors=True)

    def clear_selected(self) -> None:
        """Removes the bundle of an earlier run; a folder that is no bundle stays."""
        if (self.path / "selected" / MANIFEST).is_file():
            shutil.rmtree(self.path / "selected", ignore_errors=True)

    def lock(self, plain: Mapping[str, Any]) -> None:
        """Writes lock.yaml."""
        write_whole(self.path / "lock.yaml", yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True))
