"""results.json is a contract: CI jobs and dashboards are written against its keys."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from compresslab.errors import BadInput, StoreError
from compresslab.measure.measurement import Estimate
from compresslab.report import load_results, write_report
from compresslab.report.html import html
from compresslab.report.markdown import markdown
from compresslab.report.report import Report
from compresslab.report.results import results, write_results
from compresslab.report.schema import Results

CONTRACT = json.loads(Path(__file__).with_name("results_v1.json").read_text(encoding="utf-8"))
ADDED = {
    "": {"notes"},
    "points[]": {
        "settings", "decisions", "reference", "budget", "versus_control", "retention_by_class", "fidelity",
        "against_teacher_index", "index",
    },
    "points[].versus_parent": {"benchmark_deltas"},
    "points[].versus_baseline": {"benchmark_deltas"},
    "points[].integer_operators": {"in_float", "time"},
}  # fmt: skip
"""Keys that are ours beyond the contract, by where they are."""
INTERVAL = ["value", "low", "high"]
BY_CLASS = "points[].retention_by_class.*"
OURS = {
    "points[].versus_control": INTERVAL,
    # Of this run, which has no embeddings and no benchmarks.
    "points[].against_teacher_index": [],
    "points[].index": [],
    "points[].versus_baseline.benchmark_deltas": [],
    "points[].versus_parent.benchmark_deltas": [],
    "points[].fidelity": ["metric", "torch", "onnx", "agreement", "allowed", "n"],
    "points[].integer_operators.in_float[]": ["name", "kind", "reason", "share"],
    BY_CLASS: ["split", "n", "measured", "lost", "gained", "classes", "flips"],
    f"{BY_CLASS}.classes[]": [
        "label", "n", "teacher", "student", "delta", "p_value", "change", "right_to_wrong", "wrong_to_right",
        "wrong_to_other_wrong",
    ],
    f"{BY_CLASS}.classes[].delta": INTERVAL,
    f"{BY_CLASS}.flips": ["right_to_wrong", "wrong_to_right", "wrong_to_other_wrong", "frequent"],
    f"{BY_CLASS}.flips.frequent[]": ["teacher", "student", "count", "right_to_wrong", "wrong_to_right"],
}  # fmt: skip
"""The mappings that are ours alone, and their keys in order."""
USER_KEYS = ("graphs", "sha256", "validation", "test", "retention", "retention_by_class", "machine", "time")
"""Mappings whose keys are names from outside: of graphs, metrics, or what the machine has to tell."""


def key_paths(value: object, where: str = "") -> dict[str, list[str]]:
    """Every mapping's keys, in order, by its place."""
    found: dict[str, list[str]] = {}
    if isinstance(value, list):
        for item in value:
            found.update(key_paths(item, f"{where}[]"))
    elif isinstance(value, dict):
        named_by_users = where.rsplit(".", 1)[-1] in USER_KEYS
        if not named_by_users:
            found[where] = list(value)
        for key, item in value.items():
            found.update(key_paths(item, f"{where}.{'*' if named_by_users else key}".lstrip(".")))
    return found


def test_keys_are_those_of_the_contract_in_its_order(controlled: Results) -> None:
    ours, contract = key_paths(dict(controlled)), key_paths(CONTRACT)
    for where, keys in contract.items():
        added = ADDED.get(where, set())
        assert [key for key in ours[where] if key not in added] == keys, where
        assert set(ours[where]) - set(keys) == added, where
    beyond = {where for where in set(ours) - set(contract) if "settings" not in where and "decisions" not in where}
    assert {where: ours[where] for where in beyond} == OURS


def test_every_point_has_every_key(found: Results) -> None:
    # `key_paths` keeps one of the points only; an absent key in another would break whoever reads them all.
    assert len({tuple(point) for point in found["points"]}) == 1


def test_the_baseline_is_compared_with_nothing(found: Results) -> None:
    assert found["points"][0]["versus_parent"] is None
    assert found["points"][0]["versus_baseline"] is None


def test_values_come_from_the_measurement(report: Report, found: Results) -> None:
    measured, point = report.points[1].measurement, found["points"][1]
    versus = measured.versus_parent
    assert versus is not None
    assert point["latency_ms"][1]["batch"] == 8
    assert point["latency_ms"][1]["p50"] == measured.latency[1].p50
    assert point["versus_parent"] is not None
    assert point["versus_parent"]["quality_delta"]["low"] == versus.quality_delta.low
    assert point["quality"]["test"]["fashion_mnist/accuracy"]["n"] == 10000
    assert point["artifact"]["bytes"] == report.points[1].artifact.bytes


def test_what_was_kept_of_the_teacher_is_written_exactly(report: Report, found: Results) -> None:
    assert found["points"][0]["retention_by_class"] == {}
    (told,) = found["points"][3]["retention_by_class"].values()
    (measured,) = report.points[3].measurement.retention_by_class.values()
    plain = asdict(measured)
    for one in plain["classes"]:
        del one["delta"]["n"]  # it stands beside
    assert json.loads(json.dumps(told)) == json.loads(json.dumps(plain))


def test_a_control_is_null_where_there_is_none(controlled: Results) -> None:
    shown = {point["id"]: point["versus_control"] for point in controlled["points"]}
    assert shown.pop("b111") == {"value": 0.0042, "low": -0.001, "high": 0.009}
    assert set(shown.values()) == {None}


def test_a_run_from_before_there_were_classes_is_read(found: Results, tmp_path: Path) -> None:
    for point in found["points"]:
        del point["versus_control"], point["retention_by_class"]
    (tmp_path / "results.json").write_text(json.dumps(found), encoding="utf-8")
    older = load_results(tmp_path)
    assert "classes lost" not in markdown(older)
    assert "fashion_mnist/accuracy" in html(older)


def test_graph_paths_are_relative_to_the_run_directory(found: Results) -> None:
    assert found["points"][1]["artifact"]["graphs"] == {"model": "stages/b111/model.onnx"}


def test_what_was_not_measured_on_test_is_an_empty_mapping(report: Report) -> None:
    point = report.points[0]
    quality = {"validation": point.measurement.quality["validation"]}
    untested = replace(point, measurement=replace(point.measurement, quality=quality))
    assert results(replace(report, points=(untested,)))["points"][0]["quality"]["test"] == {}


def test_written_and_read_again_it_is_the_same(report: Report, found: Results, tmp_path: Path) -> None:
    path = write_results(report, tmp_path / "new" / "run")
    assert load_results(tmp_path / "new" / "run") == found
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]


def test_a_figure_that_is_no_number_is_not_written(report: Report, tmp_path: Path) -> None:
    # JSON has no NaN; Python would write one that other languages refuse to read.
    broken = replace(report.points[0].measurement, peak_rss_mb=float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_results(replace(report, points=(replace(report.points[0], measurement=broken),)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_old_file_survives_a_write_that_fails(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_results(report, tmp_path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match="disk is full"):
        write_results(replace(report, pipeline="another"), tmp_path)
    assert path.read_bytes() == before


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no results\.json; give the folder"):
        load_results(tmp_path)
    with pytest.raises(BadInput, match="not the directory of a finished run"):
        load_results(tmp_path / "missing")


@pytest.mark.parametrize("version", [2, 0, None, "1"])
def test_another_version_is_told(found: Results, tmp_path: Path, version: object) -> None:
    text = json.dumps({**found, "schema_version": version})
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match="reads schema_version 1, but got"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[1]", "reads schema_version 1, but got None"),
        ('{"schema_version": NaN}', "NaN is no number"),
        ('{"schema_version": 1}', r"pipeline: Field required \(8 problems\)"),
    ],
)
def test_a_broken_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "results.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=message):
        load_results(tmp_path)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        load_results(tmp_path)


def test_a_wrong_type_is_told_with_its_place(found: Results, tmp_path: Path) -> None:
    found["points"][2]["params"] = "many"  # type: ignore[typeddict-item]
    (tmp_path / "results.json").write_text(json.dumps(found), encoding="utf-8")
    with pytest.raises(BadInput, match=r"points\.2\.params: Input should be a valid integer"):
        load_results(tmp_path)


def test_keys_of_a_later_version_are_kept(found: Results, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({**found, "carbon_g": 3}), encoding="utf-8")
    assert load_results(tmp_path)["carbon_g"] == 3  # type: ignore[typeddict-item]


def test_write_report_writes_all_three(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"results.json", "report.md", "report.html"}


def test_numbers_of_numpy_are_written_as_numbers(report: Report, tmp_path: Path) -> None:
    import numpy as np

    measured = replace(
        report.points[0].measurement, retention={"a/b": Estimate(np.float64(0.5), np.float64(0.4), np.float64(0.6))}
    )
    write_results(replace(report, points=(replace(report.points[0], measurement=measured),)), tmp_path)
    assert load_results(tmp_path)["points"][0]["retention"]["a/b"]["low"] == 0.4


def test_reporting_needs_neither_torch_nor_onnx_nor_the_chart_library() -> None:
    heavy = "{'torch', 'onnx', 'altair', 'vl_convert', 'onnxruntime'}"
    code = f"import sys, compresslab.report, compresslab.bundle; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
