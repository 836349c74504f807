"""How figures are written, the same in the terminal, Markdown, HTML and pictures. What was not measured is `-`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compresslab.report.schema import Interval

NOT_MEASURED = "-"


def significant(value: float) -> str:
    """Three significant digits without an exponent: `0.0613`, `1.40`, `34.2`, `2,828`."""
    if value == 0:
        return "0"
    # Rounded first: 9.996 is written 10.0, not 10.00.
    rounded = float(f"{value:.3g}")
    digits = f"{abs(rounded):e}"
    decimals = max(0, 2 - int(digits[digits.index("e") + 1 :]))
    return f"{value:,.{decimals}f}"


def count(value: int) -> str:
    """A whole number with thousands separators."""
    return f"{value:,}"


def short_count(value: int) -> str:
    """A large number with a decimal prefix: `1.40 M`."""
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{significant(value / factor)} {prefix}"
    return str(value)


def kilobytes(value: int) -> str:
    """Bytes as kB of 1000 bytes, without the unit: `2,828`, `82.7`."""
    return significant(value / 1000) if value < 1_000_000 else f"{value / 1000:,.0f}"


def milliseconds(value: float | None) -> str:
    """A latency, without the unit."""
    return NOT_MEASURED if value is None else significant(value)


def percent(value: float | None) -> str:
    """A share, without the sign: `92.76`."""
    return NOT_MEASURED if value is None else f"{100 * value:.2f}"


def percent_interval(estimate: Interval | None) -> str:
    """`92.76 [92.24, 93.25]`."""
    if estimate is None:
        return NOT_MEASURED
    return f"{percent(estimate['value'])} [{percent(estimate['low'])}, {percent(estimate['high'])}]"


def points(estimate: Interval | None) -> str:
    """A difference of shares in percentage points: `-0.91 [-1.20, -0.62]`."""
    if estimate is None:
        return NOT_MEASURED
    return f"{_signed(estimate['value'])} [{_signed(estimate['low'])}, {_signed(estimate['high'])}]"


def points_told(estimate: Interval) -> str:
    """The same inside a sentence: `-0.91 points [-1.20, -0.62]`."""
    return points(estimate).replace(" [", " points [")


def ratio(value: float | None) -> str:
    """`10.4x`."""
    return NOT_MEASURED if value is None else f"{significant(value)}x"


def change(factor: float, more: str, less: str) -> str:
    """`1.34x faster` or, for a factor below one, `1.26x slower`."""
    return f"{ratio(factor)} {more}" if factor >= 1 else f"{ratio(1 / factor)} {less}"


def ratio_interval(estimate: Interval | None) -> str:
    """`10.4x [10.1, 10.7]`."""
    if estimate is None:
        return NOT_MEASURED
    return f"{ratio(estimate['value'])} [{significant(estimate['low'])}, {significant(estimate['high'])}]"


def shortened(name: str, length: int) -> str:
    """The name, cut to so many characters."""
    return name if len(name) <= length else f"{name[: length - 3]}..."


def duration(seconds: float) -> str:
    """`4.2 s`, `81 s`, `12 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def _signed(share: float) -> str:
    # Adding 0.0 turns the -0.0 of a rounded -0.00001 into 0.0.
    return f"{round(100 * share, 2) + 0.0:+.2f}"
