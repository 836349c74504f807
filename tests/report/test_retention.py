from __future__ import annotations

import pytest

from compresslab.report.retention import by_class, distillation, lost_table, retention_table
from compresslab.report.schema import Interval, Results


@pytest.mark.parametrize(
    ("interval", "told"),
    [
        ((0.0042, -0.001, 0.009), "+0.42 points [-0.10, +0.90] against its control (test accuracy): no difference for"),
        ((0.0042, 0.001, 0.009), "+0.42 points [+0.10, +0.90] against its control (test accuracy): it helped"),
        ((-0.02, -0.03, -0.01), "-2.00 points [-3.00, -1.00] against its control (test accuracy): it hurt"),
    ],
)
def test_whether_the_teacher_was_worth_it(controlled: Results, interval: tuple[float, ...], told: str) -> None:
    value, low, high = interval
    controlled["points"][1]["versus_control"] = Interval(value=value, low=low, high=high)
    (line,) = distillation(controlled)
    assert line.startswith(f"distill: distillation: {told}")


def test_without_a_control_nothing_is_claimed(found: Results) -> None:
    assert distillation(found) == []


def test_every_benchmark_has_a_row(found: Results) -> None:
    """The first benchmark alone would hide what the student has forgotten of the others."""
    point = found["points"][4]
    point["retention"]["news/accuracy"] = {"value": 0.9, "low": 0.88, "high": 0.92}
    point["retention"]["fashion_mnist/f1_macro"] = {"value": 0.99, "low": 0.98, "high": 1.0}
    point["retention_by_class"]["never_right"] = point["retention_by_class"]["fashion_mnist"]
    table = retention_table(found)
    assert table is not None
    rows = [row.cells for row in table.rows if row.id == "e444"]
    totals = ("1 of 10", "0", "265", "164", "88")
    assert rows == [
        ("quantize mode=qat", "fashion_mnist/accuracy", "99.19 [98.79, 99.59]", *totals),
        ("quantize mode=qat", "news/accuracy", "90.00 [88.00, 92.00]", "-", "-", "-", "-", "-"),
        ("quantize mode=qat", "fashion_mnist/f1_macro", "99.00 [98.00, 100.00]", *totals),
        ("quantize mode=qat", "never_right", "-", *totals),
    ]
    assert [one.id for one in by_class(found)].count("e444") == 2


def test_without_classes_there_are_no_columns_of_them(found: Results) -> None:
    for point in found["points"]:
        point["retention_by_class"] = {}
    table = retention_table(found)
    assert table is not None
    assert [column.heading for column in table.columns] == ["stage", "benchmark", "retention %"]
    assert (lost_table(found), by_class(found)) == (None, [])


def test_classes_and_flips_of_a_model(found: Results) -> None:
    one = by_class(found)[3]
    assert one.title == "quantize mode=qat on fashion_mnist: 1 of 10 classes lost, 517 of 10,000 answers changed"
    assert one.classes.rows[0].cells == (
        "shirt", "1,000", "82.00", "78.00", "-4.00 [-6.00, -2.00]", "lost", "<0.001", "61", "21", "34",
    )  # fmt: skip
    assert one.classes.rows[1].cells[5:7] == ("", "1.000")
    assert [row.cells for row in one.flips.rows] == [
        ("shirt", "T-shirt", "40", "31", "7"), ("T-shirt", "shirt", "33", "12", "18"),
    ]  # fmt: skip


def test_a_cut_list_of_classes_says_so(found: Results) -> None:
    # The made-up points show two classes of ten.
    assert "recall of the 2 worst of 10 classes, those lost first." in by_class(found)[0].classes.caption
    lost = lost_table(found)
    assert lost is not None
    assert "the twenty worst are listed" in lost.caption
    for point in found["points"]:
        for kept in point["retention_by_class"].values():
            kept["measured"] = 2
    lost = lost_table(found)
    assert lost is not None
    assert lost.caption == "Classes lost for certain."
    assert by_class(found)[0].classes.caption.endswith("examples of test: recall of every class.")
