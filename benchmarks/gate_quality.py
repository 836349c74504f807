"""How often the latency gate is wrong, against a fixed threshold and pytest-benchmark, on the same recordings.

python -m benchmarks.gate_quality            records (about 15 minutes), 60 live gates, 2,000 replays of each case
python -m benchmarks.gate_quality --quick    a few processes of each: proves that it runs, not how good the gate is
python -m benchmarks.gate_quality --table    the tables of the last full run, as the documentation shows them

An interrupted run goes on where it stopped; `--fresh` records everything again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.document import load, options, publish
from benchmarks.gate_recordings import BASE, BUDGET, NOMINAL, VARIANTS, Condition, Recordings, conditions
from benchmarks.gate_replay import bootstrap_coverage, exact, observations, others, replay, truth
from compresslab.measure.gate import Gated, gate
from compresslab.measure.onnx_file import onnx_subject

NAME = "gate_quality"
WITHIN, OVER = ("same", "3 % slower"), ("10 % slower", "20 % slower", "slow tail")
# The load on all cores is beyond what the gate promises; it shows what happens then.
PROMISED = ("quiet", "load on one core")


def main(arguments: Sequence[str] | None = None) -> None:
    """Records, gates, replays, prints the tables, publishes the document."""
    asked = options(__doc__, arguments, "--fresh")
    if asked.table:
        print(markdown(load(NAME)))
        return
    begun = time.perf_counter()

    def say(line: str) -> None:
        print(f"[{time.perf_counter() - begun:5.0f} s] {line}", flush=True)

    folder = Path("runs") / f"{NAME}{'-quick' if asked.quick else ''}"
    if asked.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    recordings = Recordings(folder, say)
    extra = recordings.make_models()
    size = {"processes": 6, "live": 1, "gates": 100, "bootstraps": 4} if asked.quick else {
        "processes": 60, "live": 6, "gates": 2000, "bootstraps": 100
    }  # fmt: skip
    cases: list[dict[str, Any]] = []
    for condition in conditions():
        for variant in VARIANTS:
            cases.append(_case(recordings, variant, condition, size, len(cases)))
            say(f"replayed {variant}, {condition.name}")
    live = _live(recordings, size["live"], say)
    body = {"extra_convolutions": extra, "nominal": NOMINAL, "sizes": size, "cases": cases, "live": live}
    body["summary"] = _summary(cases, live)
    print(markdown(body))
    publish(NAME, time.perf_counter() - begun, body, quick=asked.quick)


def _case(
    recordings: Recordings, variant: str, condition: Condition, size: dict[str, int], seed: int
) -> dict[str, Any]:
    recorded = recordings.record(variant, condition, size["processes"])
    seen = observations(recorded)
    coverage = {}
    if condition.name in PROMISED:
        coverage = {
            str(processes): bootstrap_coverage(recorded, size["bootstraps"], processes, seed) for processes in (5, 10)
        }
    return {
        "variant": variant,
        "condition": condition.name,
        "true_slow_down": dict(zip(("p50", "p90"), truth(seen), strict=True)),
        "recorded_processes": len(recorded),
        "gate": replay(seen, size["gates"], seed),
        "others": others(recorded, size["gates"], seed),
        "bootstrap_intervals_hold": coverage,
        "bootstrap_intervals": size["bootstraps"],
    }


def _live(recordings: Recordings, each: int, say: Any) -> list[dict[str, Any]]:
    """Real gates, from the first process to the verdict, in the conditions that are promised; kept one by one."""
    kept = recordings.folder / "live.jsonl"
    done = [json.loads(line) for line in kept.read_text().splitlines()] if kept.is_file() else []
    base = recordings.model(BASE)
    for condition in conditions():
        if condition.name not in PROMISED:
            continue
        for variant in VARIANTS:
            had = sum(one["variant"] == variant and one["condition"] == condition.name for one in done)
            if had >= each:
                continue
            with condition.load():
                for _ in range(had, each):
                    path = recordings.model(variant)
                    begun = time.perf_counter()
                    result = gate(
                        BUDGET,
                        Gated(onnx_subject(path, [1], {}), path.stat().st_size),
                        Gated(onnx_subject(base, [1], {}), base.stat().st_size),
                    )
                    one = {
                        "variant": variant,
                        "condition": condition.name,
                        "status": result.status,
                        "seconds": round(time.perf_counter() - begun, 2),
                        "processes": result.processes,
                    }
                    done.append(one)
                    with kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(one) + "\n")
            say(f"live gates: {variant}, {condition.name}")
    return done


def _summary(cases: Sequence[dict[str, Any]], live: Sequence[dict[str, Any]]) -> dict[str, Any]:
    promised = [case for case in cases if case["condition"] in PROMISED]

    def rate(variants: Sequence[str], verdict: str) -> list[float]:
        chosen = [case["gate"] for case in promised if case["variant"] in variants]
        return exact(sum(one[verdict] for one in chosen), sum(one["gates"] for one in chosen))

    def live_rate(variants: Sequence[str], verdict: str) -> list[int]:
        chosen = [one for one in live if one["variant"] in variants]
        return [sum(one["status"] == verdict for one in chosen), len(chosen)]

    seconds = sorted(one["seconds"] for one in live)
    gates = sum(case["gate"]["gates"] for case in promised)
    bootstraps = sum(case["bootstrap_intervals"] for case in promised)
    keys = promised[0]["gate"]["intervals_hold"]
    return {
        "false_alarms": rate(WITHIN, "fail"),
        "ten_per_cent_missed": rate(("10 % slower",), "pass"),
        "missed": rate(OVER, "pass"),
        "undecided": rate(VARIANTS, "inconclusive"),
        "median_seconds": max(case["gate"]["median_seconds"] for case in promised),
        "live_false_alarms": live_rate(WITHIN, "fail"),
        "live_missed": live_rate(OVER, "pass"),
        "live_undecided": live_rate(VARIANTS, "inconclusive"),
        "live_median_seconds": seconds[len(seconds) // 2] if seconds else None,
        "gate_intervals_hold": {
            key: exact(sum(case["gate"]["intervals_hold"][key] for case in promised), gates) for key in keys
        },
        "bootstrap_intervals_hold": {
            processes: {
                key: exact(sum(case["bootstrap_intervals_hold"][processes][key] for case in promised), bootstraps)
                for key in keys
            }
            for processes in ("5", "10")
        },
    }


def markdown(body: dict[str, Any]) -> str:
    """The verdicts of each case, then the summary."""
    lines = [
        "| model | true p50, p90 | beside it | passed | failed | undecided | median s | fixed 10 % failed | "
        "pytest-benchmark mean:10% failed |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in body["cases"]:
        found, gates = case["gate"], case["gate"]["gates"]
        true = ", ".join(f"{100 * case['true_slow_down'][key]:+.1f} %" for key in ("p50", "p90"))
        shares = [f"{100 * found[key] / gates:.1f} %" for key in ("pass", "fail", "inconclusive")]
        other = [f"{100 * case['others'][key] / gates:.1f} %" for key in ("fixed", "pytest_benchmark")]
        cells = [case["variant"], true, case["condition"], *shares, f"{found['median_seconds']:.1f}", *other]
        lines.append(f"| {' | '.join(cells)} |")
    summary = body["summary"]

    def told(rate: Sequence[float]) -> str:
        return f"{100 * rate[0]:.2f} % [{100 * rate[1]:.2f}, {100 * rate[2]:.2f}]"

    def row(name: str, rates: dict[str, Any]) -> str:
        return f"| {name} | {' | '.join(told(one) for one in rates.values())} |"

    held = summary["gate_intervals_hold"]
    lines += [
        "",
        f"Margin 5 % at p50 and at p90; {body['sizes']['gates']:,} replayed gates a line; exact 95 % intervals. "
        f"Quiet and with a load on one core: false alarms {told(summary['false_alarms'])}, 10 % slower passed "
        f"{told(summary['ten_per_cent_missed'])}, undecided {told(summary['undecided'])}, slowest median "
        f"{summary['median_seconds']:.1f} s. Live: {summary['live_false_alarms'][0]} of "
        f"{summary['live_false_alarms'][1]} false alarms, {summary['live_missed'][0]} of {summary['live_missed'][1]} "
        f"missed, {summary['live_undecided'][0]} of {summary['live_undecided'][1]} undecided, median "
        f"{summary['live_median_seconds']:.1f} s.",
        "",
        f"| 95 % intervals that hold the truth | {' | '.join(held)} |",
        "| --- | ---: | ---: |",
        "| the gate's, when it stops | "
        + " | ".join(told(one) for one in summary["gate_intervals_hold"].values())
        + " |",
    ]
    for processes, found in summary["bootstrap_intervals_hold"].items():
        lines.append(
            f"| of bench and compare, {processes} processes | {' | '.join(told(one) for one in found.values())} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
