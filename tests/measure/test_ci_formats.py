"""What other programs read, character by character: a change here breaks somebody's job."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from compresslab.measure.checked import Check, GateResult, overall
from compresslab.measure.ci_formats import bencher, github_benchmark, junit, step_summary, workflow_commands
from compresslab.measure.measurement import Estimate

WHY = "more: a | b, 100 %"


@pytest.fixture
def result() -> GateResult:
    return GateResult(
        model="models/new",
        baseline="models/old",
        where="batch 1, 1 thread",
        checks=(
            Check("p50_slower", "at most", 0.05, "share", "pass", Estimate(0.012, 0.01, 0.014)),
            Check("p90_ms", "at most", 0.5, "ms", "fail", Estimate(0.6, 0.55, 0.65)),
            Check("accuracy", "at least", 0.9, "share", "inconclusive", Estimate(0.91, 0.89, 0.93), WHY),
            Check("p99_ms", "at most", 1.0, "ms", "inconclusive", None, "too few calls"),
            Check("bytes", "at most", 100_000, "bytes", "pass", Estimate(95_000, 95_000, 95_000)),
        ),
        processes=6,
        seconds=4.25,
        machine={"cpu": "a CPU"},
        notes=("a <note>",),
    )  # fmt: skip


def test_junit(result: GateResult) -> None:
    root = ElementTree.fromstring(junit(result))
    (suite,) = root
    counts = {"tests": "5", "failures": "1", "errors": "0", "skipped": "2", "time": "4.250"}
    assert (root.tag, root.attrib) == ("testsuites", {"name": "compresslab gate", **counts})
    assert (suite.tag, suite.attrib) == ("testsuite", {"name": "models/new (batch 1, 1 thread)", **counts})
    assert [(case.tag, case.attrib) for case in suite] == [
        ("testcase", {"classname": "compresslab.gate", "name": name, "time": "0"})
        for name in (
            "p50_slower at most 5.00 %", "p90_ms at most 0.5 ms", "accuracy at least 90.00 %", "p99_ms at most 1 ms",
            "bytes at most 100,000 bytes",
        )
    ]  # fmt: skip
    assert [[child.tag for child in case] for case in suite] == [
        ["system-out"], ["failure", "system-out"], ["skipped", "system-out"], ["skipped", "system-out"], ["system-out"],
    ]  # fmt: skip
    failure = suite[1][0]
    said = "p90_ms: at most 0.5 ms; found 0.6 ms [0.55 ms, 0.65 ms]: fail"
    assert (failure.attrib, failure.text) == ({"type": "over budget", "message": said}, said)
    assert suite[3][0].attrib == {"message": "p99_ms: at most 1 ms; found not known: inconclusive (too few calls)"}


def test_step_summary(result: GateResult) -> None:
    assert step_summary(result) == (
        "### ❌ fail: `models/new` against `models/old`\n"
        "\n"
        "Over budget. batch 1, 1 thread; 6 fresh processes in 4.2 s on a CPU.\n"
        "\n"
        "| limit | asked | found | status |\n"
        "| --- | --- | --- | --- |\n"
        "| `p50_slower` | at most 5.00 % | 1.20 % [1.00 %, 1.40 %] | ✅ pass |\n"
        "| `p90_ms` | at most 0.5 ms | 0.6 ms [0.55 ms, 0.65 ms] | ❌ fail |\n"
        "| `accuracy` | at least 90.00 % | 91.00 % [89.00 %, 93.00 %] | ⚠️ inconclusive |\n"
        "| `p99_ms` | at most 1 ms | not known | ⚠️ inconclusive |\n"
        "| `bytes` | at most 100,000 bytes | 95,000 bytes | ✅ pass |\n"
        "\n"
        "- `accuracy`: more: a \\| b, 100 %\n"
        "- `p99_ms`: too few calls\n"
        "- a <note>\n"
    )


def test_workflow_commands_are_escaped_as_the_runner_does(result: GateResult) -> None:
    assert workflow_commands(result) == [
        "::error title=compresslab gate%3A p90_ms::p90_ms: at most 0.5 ms; found 0.6 ms [0.55 ms, 0.65 ms]: fail",
        "::warning title=compresslab gate%3A accuracy::accuracy: at least 90.00 %25; found 91.00 %25 "
        "[89.00 %25, 93.00 %25]: inconclusive (more: a | b, 100 %25)",
        "::warning title=compresslab gate%3A p99_ms::p99_ms: at most 1 ms; found not known: inconclusive "
        "(too few calls)",
    ]


def test_bencher_metric_format(result: GateResult) -> None:
    """Latencies in nanoseconds; an interval only where there is one."""
    assert bencher(result) == {
        "models/new p50_slower": {"p50_slower": {"value": 0.012, "lower_value": 0.01, "upper_value": 0.014}},
        "models/new p90_ms": {
            "latency": {
                "value": pytest.approx(600_000),
                "lower_value": pytest.approx(550_000),
                "upper_value": pytest.approx(650_000),
            }
        },
        "models/new accuracy": {"accuracy": {"value": 0.91, "lower_value": 0.89, "upper_value": 0.93}},
        "models/new bytes": {"file-size": {"value": 95_000}},
    }


def test_github_action_benchmark_has_one_file_a_direction(result: GateResult) -> None:
    found = github_benchmark(result)
    assert found["bigger_is_better"] == [
        {
            "name": "models/new accuracy", "unit": "share", "value": 0.91, "range": "0.89 - 0.93",
            "extra": "at least 90.00 %: inconclusive\nbatch 1, 1 thread",
        }
    ]  # fmt: skip
    assert found["smaller_is_better"][1:] == [
        {
            "name": "models/new p90_ms", "unit": "ms", "value": 0.6, "range": "0.55 - 0.65",
            "extra": "at most 0.5 ms: fail\nbatch 1, 1 thread",
        },
        {
            "name": "models/new bytes", "unit": "bytes", "value": 95_000,
            "extra": "at most 100,000 bytes: pass\nbatch 1, 1 thread",
        },
    ]  # fmt: skip
    assert set(found) == {"smaller_is_better", "bigger_is_better"}


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [([], "pass"), (["pass"], "pass"), (["pass", "inconclusive"], "inconclusive"), (["inconclusive", "fail"], "fail")],
)
def test_the_verdict_over_all(statuses: list, expected: str) -> None:
    assert overall(statuses) == expected
