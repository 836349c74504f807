from __future__ import annotations

from dataclasses import replace

import pytest

from compresslab.report.lineage import baseline, main_path, metric_label, names, ordered, path_to, point_by_id
from compresslab.report.report import Report
from compresslab.report.results import results
from compresslab.report.schema import Results


def test_names_are_short_unique_and_say_what_differs(found: Results) -> None:
    assert list(names(found).values()) == [
        "baseline", "distill", "prune", "quantize mode=ptq", "quantize mode=qat", "quantize (reference)",
    ]  # fmt: skip


def test_namesakes_that_do_not_differ_are_told_by_id(found: Results) -> None:
    found["points"][4]["decisions"] = dict(found["points"][3]["decisions"])
    named = names(found)
    assert (named["d333"], named["e444"]) == ("quantize d333", "quantize e444")


def test_a_setting_inside_another_counts(found: Results) -> None:
    found["points"][4]["decisions"] = dict(found["points"][3]["decisions"])
    found["points"][4]["settings"] = {"mode": "auto", "recover": {"epochs": 5}}
    named = names(found)
    assert (named["d333"], named["e444"]) == ("quantize epochs=2", "quantize epochs=5")


def test_points_follow_what_they_come_from_and_references_come_last(report: Report) -> None:
    base, distilled, pruned, ptq, qat, reference = report.points
    second = replace(distilled, id="b999", lineage=("baseline", "train"), stage="train")
    shuffled = replace(report, points=(base, reference, distilled, second, pruned, ptq, qat))
    assert [point["id"] for point in ordered(results(shuffled))] == [
        "a000", "b111", "c222", "d333", "e444", "b999", "f555",
    ]  # fmt: skip


def test_the_path_leads_from_the_baseline(found: Results) -> None:
    assert [point["id"] for point in main_path(found)] == ["a000", "b111", "c222", "e444"]
    assert [point["id"] for point in path_to(found, point_by_id(found, "f555"))] == ["a000", "f555"]


def test_without_a_selected_model_the_path_leads_to_the_last_that_is_no_reference(report: Report) -> None:
    base, distilled, *_, reference = report.points
    short = replace(report, points=(base, distilled, reference), selected=None)
    assert [point["id"] for point in main_path(results(short))] == ["a000", "b111"]


def test_a_control_is_named_and_nothing_comes_from_it(controlled: Results) -> None:
    """It has the lineage of the distilled point, and was made after it."""
    assert names(controlled)["9c0c"] == "distill (control)"
    assert names(controlled)["b111"] == "distill"
    assert [point["id"] for point in path_to(controlled, point_by_id(controlled, "c222"))] == ["a000", "b111", "c222"]
    assert [point["id"] for point in ordered(controlled)][:4] == ["a000", "b111", "9c0c", "c222"]
    controlled["points"], controlled["selected"] = controlled["points"][:3], None
    assert [point["id"] for point in main_path(controlled)] == ["a000", "b111"]


def test_the_baseline_is_found_wherever_it_is(report: Report) -> None:
    turned = replace(report, points=tuple(reversed(report.points)))
    assert baseline(results(turned))["id"] == "a000"


def test_an_unknown_id_is_an_error(found: Results) -> None:
    with pytest.raises(KeyError, match="nobody"):
        point_by_id(found, "nobody")


def test_the_metric_is_told_without_its_benchmark(found: Results) -> None:
    assert metric_label(found) == "accuracy"
    for point in found["points"]:
        point["quality"] = {"validation": {}, "test": {}}
    assert metric_label(found) == "quality"
