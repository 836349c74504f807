from __future__ import annotations

import json

import pytest

from compresslab.report.schema import Interval, Results
from compresslab.report.table import (
    checks_table,
    float_table,
    latency_table,
    legend,
    machine_table,
    points_table,
    stages_table,
)


def cell(results: Results, stage: str, heading: str) -> str:
    table = points_table(results)
    index = [column.heading for column in table.columns].index(heading)
    (row,) = [row for row in table.rows if row.cells[table.heads_row] == stage]
    return row.cells[index]


@pytest.mark.parametrize(
    ("heading", "text"),
    [
        ("kB", "82.9"), ("params", "48,870"), ("MACs", "3.42 M"), ("validation accuracy %", "93.01"),
        ("test accuracy %", "92.91 [92.41, 93.41]"), ("p50 ms", "0.0615"), ("p90 ms", "0.0664"),
        ("speed-up", "10.4x [10.2, 10.6]"), ("size ratio", "34.1x"), ("agreement %", "94.10"),
        ("against its parent", "faster 1.14x"), ("", "★◆"),
    ],
)  # fmt: skip
def test_cells_of_the_selected_point(found: Results, heading: str, text: str) -> None:
    assert cell(found, "quantize mode=qat", heading) == text


def test_a_stage_that_made_the_model_slower_is_told_loudly(found: Results) -> None:
    assert cell(found, "quantize mode=ptq", "against its parent") == "SLOWER 0.945x"


def test_the_baseline_is_compared_with_nothing(found: Results) -> None:
    row = points_table(found).rows[0]
    assert row.cells[9:] == ("-", "-", "-", "-")


def test_marks(found: Results) -> None:
    rows = {row.id: row for row in points_table(found).rows}
    assert [row.id for row in rows.values() if row.selected] == ["e444"]
    assert [row.id for row in rows.values() if row.frontier] == ["a000", "b111", "c222", "e444"]
    assert (rows["f555"].cells[0], rows["f555"].reference) == ("○", True)


def test_a_control_has_a_mark_that_is_explained_where_there_is_one(found: Results, controlled: Results) -> None:
    rows = {row.id: row for row in points_table(controlled).rows}
    assert (rows["9c0c"].cells[:2], rows["9c0c"].control) == (("△", "distill (control)"), True)
    assert not any(row.control for row in rows.values() if row.id != "9c0c")
    assert [row.id for row in points_table(controlled).essential().rows if row.control] == ["9c0c"]
    assert list(legend(controlled)) == ["★", "◆", "○", "△"]
    assert list(legend(found)) == ["★", "◆", "○"]
    # Only what the stage itself has decided counts: not a setting of the same name.
    controlled["points"][2]["decisions"], controlled["points"][2]["settings"] = {}, {"control": True}
    assert not any(row.control for row in points_table(controlled).rows)


def test_retention_on_every_benchmark_is_told(found: Results) -> None:
    retention: dict[str, Interval] = {"other/f1_macro": {"value": 0.5, "low": 0.4, "high": 0.6}}
    found["points"][4]["retention"] = {**found["points"][4]["retention"], **retention}
    table = checks_table(found)
    assert [column.heading for column in table.columns][4:6] == [
        "retention %, fashion_mnist/accuracy", "retention %, other/f1_macro",
    ]  # fmt: skip
    assert [row.cells[4:6] for row in table.rows[3:5]] == [
        ("98.88 [98.48, 99.28]", "-"), ("99.19 [98.79, 99.59]", "50.00 [40.00, 60.00]"),
    ]  # fmt: skip
    for point in found["points"]:
        point["retention"] = {}
    assert {row.cells[4] for row in checks_table(found).rows} == {"-"}


def test_the_essential_columns_keep_their_cells(found: Results) -> None:
    table = points_table(found).essential()
    headings = [column.heading for column in table.columns]
    assert headings == [
        "", "stage", "kB", "test accuracy %", "p50 ms", "speed-up", "size ratio", "against its parent",
    ]  # fmt: skip
    assert table.rows[1].cells == (
        "◆", "distill", "339", "93.11 [92.61, 93.61]", "0.0941", "6.80x [6.67, 6.94]", "8.33x", "faster 6.80x",
    )  # fmt: skip
    assert table.rows[1].cells[table.heads_row] == "distill"


def test_the_waterfall_tells_cost_gain_and_reason(found: Results) -> None:
    rows = {row.id: row.cells for row in stages_table(found).rows}
    assert rows["c222"] == (
        "prune", "distill", "339 -> 210", "1.61x", "1.34x [1.31, 1.37]", "-0.09 [-0.39, +0.21]", "faster", "", "81 s",
    )  # fmt: skip
    assert rows["d333"][6:8] == (
        "SLOWER", "8 of 12 convolutions have fewer than 16 channels; 4 of 18 operators run in float",
    )  # fmt: skip
    assert rows["a000"][-1] == "cached"


def test_every_latency_has_a_row(found: Results) -> None:
    rows = latency_table(found).rows
    assert len(rows) == 12
    assert rows[1].cells[:7] == ("baseline", "model", "8", "1", "3.84 [3.78, 3.90]", "4.15", "-")


def test_checks(found: Results) -> None:
    rows = {row.id: row.cells for row in checks_table(found).rows}
    assert rows["e444"] == (
        "quantize mode=qat", "3.0e-06 (n=512)", "99.80", "18 of 18", "99.19 [98.79, 99.59]", "41.0",
        "93.20 / 92.90 (n=512)", "pass",
    )  # fmt: skip


def test_operators_in_float_are_named_with_the_reason_and_their_share_of_the_time(found: Results) -> None:
    table = float_table(found)
    assert table is not None
    assert [row.cells for row in table.rows] == [
        ("quantize mode=ptq", "add_1", "Add", "12.05", "its input comes from Sigmoid in float"),
        ("quantize mode=ptq", "stem.conv", "Conv", "3.12", "its weights are float"),
    ]
    for point in found["points"]:
        point["integer_operators"] = {"eligible": 2, "integer": 2}  # as an older run has it
    assert float_table(found) is None


def test_the_machine_is_told_in_words() -> None:
    rows = machine_table({"isa": ["avx2", "amx_int8"], "cpu_limit": None, "threads": {"intra": 1}}).rows
    assert [row.cells for row in rows] == [("isa", "avx2, amx_int8"), ("cpu_limit", "-"), ("threads", "intra 1")]


def test_quality_on_validation_stands_in_where_test_was_not_measured(found: Results) -> None:
    for point in found["points"]:
        point["quality"]["test"] = {}
    assert cell(found, "distill", "test accuracy %") == "-"
    assert "paired on validation" in stages_table(found).caption


def test_a_run_without_latencies_still_has_its_table(found: Results) -> None:
    for point in found["points"]:
        point["latency_ms"] = []
    assert cell(found, "distill", "p50 ms") == "-"
    assert latency_table(found).rows == ()


def test_what_agreement_is_depends_on_the_answers(found: Results) -> None:
    assert points_table(found).caption.endswith("Agreement is the share of equal answers.")
    scores = json.loads(json.dumps(found).replace("fashion_mnist/accuracy", "lines/spearman"))
    for table in (points_table(scores), checks_table(scores)):
        assert table.caption.endswith("Agreement is the correlation of two models' answers.")
    assert [column.heading for column in points_table(scores).columns].count("test spearman %") == 1
