"""A gate's result in the formats that continuous integration reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NotRequired, TypedDict
from xml.etree import ElementTree

if TYPE_CHECKING:
    from compresslab.measure.checked import Check, GateResult

_MARKS = {"pass": "✅ pass", "fail": "❌ fail", "inconclusive": "⚠️ inconclusive"}
_VERDICTS = {
    "pass": "within budget",
    "fail": "over budget",
    "inconclusive": "inconclusive: what was measured does not settle it",
}
# Bencher's built-in measures have these slugs; anything else becomes a measure of its own name.
_BMF_MEASURES = {"ms": "latency", "bytes": "file-size"}
_NANOSECONDS = 1e6


class BmfFigure(TypedDict):
    """One figure of Bencher Metric Format."""

    value: float
    lower_value: NotRequired[float]
    upper_value: NotRequired[float]


class BenchmarkEntry(TypedDict):
    """One entry of github-action-benchmark's `customSmallerIsBetter` and `customBiggerIsBetter`."""

    name: str
    unit: str
    value: float
    range: NotRequired[str]
    extra: NotRequired[str]


def junit(result: GateResult) -> str:
    """JUnit XML, one test case a limit. What is inconclusive is skipped: neither green nor red."""
    statuses = [check.status for check in result.checks]
    counts = {
        "tests": str(len(statuses)),
        "failures": str(statuses.count("fail")),
        "errors": "0",
        "skipped": str(statuses.count("inconclusive")),
        "time": f"{result.seconds:.3f}",
    }
    suites = ElementTree.Element("testsuites", {"name": "compresslab gate", **counts})
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"{result.model} ({result.where})", **counts})
    for check in result.checks:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "compresslab.gate", "name": f"{check.key} {check.asked}", "time": "0"}
        )
        if check.status == "fail":
            failure = ElementTree.SubElement(case, "failure", {"type": "over budget", "message": str(check)})
            failure.text = str(check)
        elif check.status == "inconclusive":
            ElementTree.SubElement(case, "skipped", {"message": str(check)})
        ElementTree.SubElement(case, "system-out").text = str(check)
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def step_summary(result: GateResult) -> str:
    """Markdown for GitHub's step summary, and for a comment."""
    against = f" against {_code(result.baseline)}" if result.baseline else ""
    lines = [
        f"### {_MARKS[result.status]}: {_code(result.model)}{against}",
        "",
        f"{_VERDICTS[result.status].capitalize()}. {result.where}; {result.processes} fresh processes in "
        f"{result.seconds:.1f} s on {_cell(str(result.machine.get('cpu', 'an unknown processor')))}.",
        "",
        "| limit | asked | found | status |",
        "| --- | --- | --- | --- |",
        *(
            f"| {_code(check.key)} | {check.asked} | {check.answer} | {_MARKS[check.status]} |"
            for check in result.checks
        ),
    ]
    said = [f"- {_code(check.key)}: {_cell(check.why)}" for check in result.checks if check.why]
    said += [f"- {_cell(note)}" for note in result.notes]
    return "\n".join([*lines, *(["", *said] if said else []), ""])


def workflow_commands(result: GateResult) -> list[str]:
    """GitHub workflow commands: an error for what is broken, a warning for what could not be told."""
    levels = {"fail": "error", "inconclusive": "warning"}
    return [
        f"::{levels[check.status]} title={_property(f'compresslab gate: {check.key}')}::{_data(str(check))}"
        for check in result.checks
        if check.status in levels
    ]


def bencher(result: GateResult) -> dict[str, dict[str, BmfFigure]]:
    """Bencher Metric Format: benchmark -> measure -> figure. Latencies are in nanoseconds, as Bencher has them."""
    figures: dict[str, dict[str, BmfFigure]] = {}
    for check in result.checks:
        if check.found is None:
            continue
        measure, factor = _BMF_MEASURES.get(check.unit, check.key), _NANOSECONDS if check.unit == "ms" else 1.0
        figure: BmfFigure = {"value": factor * check.found.value}
        if check.found.low < check.found.high:
            figure["lower_value"] = factor * check.found.low
            figure["upper_value"] = factor * check.found.high
        figures.setdefault(f"{result.model} {check.key}", {})[measure] = figure
    return figures


def github_benchmark(result: GateResult) -> dict[str, list[BenchmarkEntry]]:
    """github-action-benchmark reads one direction a file: `smaller_is_better` and `bigger_is_better`."""
    directions: dict[str, list[BenchmarkEntry]] = {"smaller_is_better": [], "bigger_is_better": []}
    for check in result.checks:
        if check.found is not None:
            direction = "smaller_is_better" if check.sense == "at most" else "bigger_is_better"
            directions[direction].append(_entry(result, check))
    return directions


def _entry(result: GateResult, check: Check) -> BenchmarkEntry:
    assert check.found is not None
    units = {"ms": "ms", "share": "share", "points": "share", "times": "x", "bytes": "bytes", "mb": "MB"}
    entry: BenchmarkEntry = {
        "name": f"{result.model} {check.key}",
        "unit": units[check.unit],
        "value": check.found.value,
    }
    if check.found.low < check.found.high:
        entry["range"] = f"{check.found.low:.6g} - {check.found.high:.6g}"
    entry["extra"] = f"{check.asked}: {check.status}\n{result.where}"
    return entry


def _code(text: str) -> str:
    return f"`{_cell(text).replace('`', '')}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _data(text: str) -> str:
    """Escaped as the runner's own toolkit does it."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
