from __future__ import annotations

import pytest

from compresslab.report import figures
from compresslab.report.schema import Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.0613, "0.0613"), (1.4, "1.40"), (9.996, "10.0"), (34.2, "34.2"), (99.96, "100"), (999.6, "1,000"),
        (2828.0, "2,828"), (0.000123, "0.000123"), (-0.0613, "-0.0613"),
    ],
)  # fmt: skip
def test_three_significant_digits(value: float, text: str) -> None:
    assert figures.significant(value) == text


def test_sizes_are_kilobytes_of_a_thousand() -> None:
    assert figures.kilobytes(82_700) == "82.7"
    assert figures.kilobytes(2_828_400) == "2,828"
    assert figures.kilobytes(999_900) == "1,000"


def test_counts() -> None:
    assert figures.count(696_042) == "696,042"
    assert [figures.short_count(value) for value in (12, 1_400, 1_400_000, 2_500_000_000)] == [
        "12", "1.40 k", "1.40 M", "2.50 G",
    ]  # fmt: skip


def test_intervals() -> None:
    assert figures.percent_interval({"value": 0.9276, "low": 0.92241, "high": 0.93249}) == "92.76 [92.24, 93.25]"
    assert figures.ratio_interval({"value": 10.43, "low": 10.12, "high": 10.66}) == "10.4x [10.1, 10.7]"
    assert figures.points({"value": -0.0091, "low": -0.012, "high": 0.0062}) == "-0.91 [-1.20, +0.62]"


def test_nothing_is_never_minus_nothing() -> None:
    tiny: Interval = {"value": -0.00001, "low": -0.00004, "high": 0.0}
    assert figures.points(tiny) == "+0.00 [+0.00, +0.00]"


def test_what_was_not_measured_is_a_dash() -> None:
    texts = [
        figures.milliseconds(None), figures.percent(None), figures.percent_interval(None), figures.points(None),
        figures.ratio(None), figures.ratio_interval(None),
    ]  # fmt: skip
    assert set(texts) == {"-"}


def test_a_change_is_told_in_the_direction_it_has() -> None:
    assert figures.change(1.34, "faster", "slower") == "1.34x faster"
    assert figures.change(0.5, "faster", "slower") == "2.00x slower"


def test_durations() -> None:
    assert [figures.duration(seconds) for seconds in (4.21, 81.2, 720.0)] == ["4.2 s", "81 s", "12 min"]


def test_long_names_are_cut() -> None:
    assert figures.shortened("short", 8) == "short"
    assert figures.shortened("a long name", 8) == "a lon..."
