from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from compresslab.bundle import write_bundle
from compresslab.bundle.sealing import labels_text
from compresslab.errors import ArtifactError, BadInput, StoreError
from compresslab.measure.artifact import load_artifact

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.report import Report

    MakeReport = Callable[..., Report]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run" / "selected"


def test_it_is_an_artifact_with_the_same_graphs(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    point = report.point("b2")
    assert write_bundle(point, report, folder) == folder
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "labels.txt", "manifest.json", "README.md"}
    bundle = load_artifact(folder, verify=True)
    # What was measured is what ships: the digest covers graphs, preprocessing and session options.
    assert bundle.digest == point.artifact.digest
    assert load_artifact(folder.parent).folder == folder


def test_the_manifest_says_where_the_model_comes_from(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    write_bundle(report.point("b2"), report, folder, {"pipeline_digest": "5eed"})
    provenance = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["provenance"]
    assert provenance["seed"] == 7
    assert provenance["run"] == {
        "pipeline": "boots",
        "pipeline_digest": "5eed",
        "point": "b2",
        "selected": True,
        "select": "smallest",
        "budget": "pass",
        "lineage": [
            {"stage": "baseline", "settings": {}, "decisions": {}},
            {"stage": "distill", "settings": {"epochs": 16, "temperature": 4.0}, "decisions": {"kept": "last"}},
        ],
        "machine": {"cpu": "AMD EPYC", "cores": 2, "onnxruntime": "1.32.0"},
    }


def test_every_file_has_its_hash_in_the_manifest(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    write_bundle(report.point("b2"), report, folder)
    plain = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    hashes = {info["file"]: info["sha256"] for info in plain["graphs"].values()} | plain["files"]
    others = [file for file in folder.iterdir() if file.name != "manifest.json"]
    assert hashes == {file.name: sha256(file.read_bytes()).hexdigest() for file in others}


def test_the_latencies_of_the_run_are_in_the_manifest(make_report: MakeReport, folder: Path) -> None:
    """What servers are set up from, where the run is not at hand."""
    report = make_report()
    write_bundle(report.point("b2"), report, folder)
    assert load_artifact(folder).manifest.latency == report.point("b2").measurement.latency


def test_labels_are_a_line_each(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    write_bundle(report.point("b2"), report, folder)
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "ankle boot\nbag | tote\ncoat\n"
    # A label with a line break must not shift the ones after it.
    assert labels_text(("a\nb", "c")) == "a b\nc\n"


@pytest.mark.parametrize("name", ["labels.txt", "README.md"])
def test_a_file_that_is_missing_or_changed_is_refused(make_report: MakeReport, folder: Path, name: str) -> None:
    report = make_report()
    write_bundle(report.point("b2"), report, folder)
    (folder / name).write_text("coat\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=rf"{name}: this is not the file that was exported"):
        load_artifact(folder)
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"{name}: the manifest names this file, but it is missing"):
        load_artifact(folder, verify=False)


def test_the_source_is_left_as_it_was(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    source = report.point("b2").artifact.folder
    before = {file.name: file.read_bytes() for file in source.iterdir()}
    write_bundle(report.point("b2"), report, folder)
    assert {file.name: file.read_bytes() for file in source.iterdir()} == before


def test_an_earlier_bundle_is_replaced_whole(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    write_bundle(report.point("a1"), report, folder)
    (folder / "left_over.onnx").write_bytes(b"of a model with two graphs")
    write_bundle(report.point("b2"), report, folder)
    assert {file.name for file in folder.iterdir()} == {"model.onnx", "labels.txt", "manifest.json", "README.md"}
    assert load_artifact(folder).sha256 == report.point("b2").artifact.sha256
    assert {file.name for file in folder.parent.iterdir()} == {"stages", "selected"}


def test_what_a_crash_left_is_cleared(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    for name in (".selected.new", ".selected.old"):
        (folder.parent / name).mkdir()
        (folder.parent / name / "half").write_bytes(b"")
    write_bundle(report.point("b2"), report, folder)
    assert {file.name for file in folder.parent.iterdir()} == {"stages", "selected"}


def test_a_folder_of_the_users_is_never_replaced(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(BadInput, match="not an earlier bundle, so it is not replaced"):
        write_bundle(report.point("b2"), report, folder)
    assert (folder / "thesis.tex").is_file()
    file = folder.with_name("file")
    file.write_text("", encoding="utf-8")
    with pytest.raises(BadInput, match="choose another folder"):
        write_bundle(report.point("b2"), report, file)


def test_an_empty_folder_is_fine(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    folder.mkdir()
    write_bundle(report.point("b2"), report, folder)
    assert load_artifact(folder)


def test_a_changed_graph_is_not_shipped(make_report: MakeReport, folder: Path) -> None:
    report = make_report()
    write_bundle(report.point("a1"), report, folder)
    point = report.point("b2")
    graph = point.artifact.graphs["model"]
    graph.write_bytes(graph.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match="SHA-256 differs"):
        write_bundle(point, report, folder)
    # The earlier bundle stays, and no half of the new one.
    assert load_artifact(folder).sha256 == report.point("a1").artifact.sha256
    assert {file.name for file in folder.parent.iterdir()} == {"stages", "selected"}


def test_a_full_disk_leaves_the_earlier_bundle(
    make_report: MakeReport, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = make_report()
    write_bundle(report.point("a1"), report, folder)

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(StoreError, match="disk is full"):
        write_bundle(report.point("b2"), report, folder)
    assert load_artifact(folder).sha256 == report.point("a1").artifact.sha256


def test_a_point_that_was_not_selected_can_be_bundled(make_report: MakeReport, folder: Path) -> None:
    report = replace(make_report(), selected=None)
    write_bundle(report.point("b2"), report, folder)
    assert load_artifact(folder).manifest.provenance["run"]["selected"] is False
