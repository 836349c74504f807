"""Metrics of the user's own: called as promised, bounded in cost, part of the key, run only if the user says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from compresslab import BadInput, Budget, ConfigError, ImageClassification, Quantize, TaskSpec, run
from compresslab.measure.evaluate import EvalSplit
from compresslab.measure.gate_budget import GateBudget
from compresslab.measure.gate_quality import measured_quality, recorded_quality
from compresslab.measure.metrics import METRICS, metric_of
from compresslab.measure.own_metric import RESAMPLES
from compresslab.measure.quality import quality, quality_delta
from compresslab.strict_yaml import read
from compresslab.tasks.task import metric_digest
from compresslab.validation import validate

CODE = """\
import numpy as np

CALLS = []

def utility(outputs, targets):
    CALLS.append((outputs.dtype, targets.dtype, len(targets)))
    return float((outputs.argmax(axis=1) == targets).mean())

def broken(outputs, targets):
    return np.nan

def text(outputs, targets):
    return "good"

def other(logits, labels):
    return 1.0
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file whose name no other test has: modules stay loaded."""
    name = f"own_{tmp_path.name.replace('-', '_')}"
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.py").write_text(CODE, encoding="utf-8")
    return name


def sample(n: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    targets = random.integers(0, 4, n)
    ours, theirs = (random.random((n, 4)).astype(np.float32) for _ in range(2))
    ours[np.arange(n), targets] += 0.6
    return ours, theirs, targets


def test_value_interval_and_paired_difference_are_those_of_the_built_in_one(module: str) -> None:
    """The function counts right answers, so it must agree with `accuracy`; classes stay int64 on resamples."""
    import importlib

    ours, theirs, targets = sample()
    own, known = metric_of(f"python:{module}:utility"), METRICS["accuracy"]
    found, expected = quality(own, ours, targets), quality(known, ours, targets)
    assert found.value == expected.value
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.02)
    calls = importlib.import_module(module).CALLS
    assert len(calls) == 1 + RESAMPLES
    assert set(calls) == {(np.dtype(np.float32), np.dtype(np.int64), 300)}
    found, expected = quality_delta(own, ours, theirs, targets), quality_delta(known, ours, theirs, targets)
    assert found.value == pytest.approx(expected.value)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("broken", "returned nan for 300 examples"),
        ("text", "returned a str; a metric returns one number"),
        ("other", "cannot be called with `outputs`, `targets`"),
        ("utilty", "has no function `utilty`; did you mean `utility`"),
    ],
)
def test_what_is_no_metric_is_told(function: str, message: str, module: str) -> None:
    ours, _, targets = sample()
    with pytest.raises(BadInput, match=message):
        quality(metric_of(f"python:{module}:{function}"), ours, targets)


def test_yaml_names_it_and_a_built_in_name_is_refused(module: str, tmp_path: Path) -> None:
    def checked(metric: str) -> ImageClassification:
        (tmp_path / "x.yaml").write_text(f"npz: a.npz\nmetric: {metric}\n", encoding="utf-8")
        return validate(read(tmp_path / "x.yaml"), ImageClassification, base=tmp_path)

    assert checked(f"python:{module}:utility").metric == f"python:{tmp_path / module}.py:utility"
    with pytest.raises(ConfigError, match=r"x.yaml:2: metric: .*`accuracy` is built in; rename the function"):
        checked("python:mine:accuracy")
    with pytest.raises(ConfigError, match=r"x.yaml:2: metric: .*`module:function` or .* must be given"):
        checked("python:mine")
    with pytest.raises(ConfigError, match=r"x.yaml:2: `metric` must be .* `python:module:function`, but got 'accurcy'"):
        checked("accurcy")


def test_another_source_is_another_key(module: str, tmp_path: Path) -> None:
    """Measurements of the function as it was would be taken for those of the new one."""
    before = metric_digest(f"python:{module}:utility")
    (tmp_path / f"{module}.py").write_text(CODE + "\nMORE = 1\n", encoding="utf-8")
    assert metric_digest(f"python:{module}:utility") != before
    assert metric_digest("accuracy") == "accuracy"


def test_a_run_reports_it_keeps_its_budget_and_the_gate_reads_it(
    module: str, tiny_pipeline, stripes_file: Path, tmp_path: Path
) -> None:
    reference = f"python:{tmp_path / module}.py:utility"
    data = ImageClassification(npz=str(stripes_file), name="stripes", metric=reference)
    pipeline = replace(
        tiny_pipeline, task=TaskSpec(image_classification=data), references=(),
        stages=[Quantize(samples=24, backend="onnxruntime")],
        budget=Budget(at_least={"utility": 0.5}, drop={"utility": 0.2}),
    )  # fmt: skip
    report = run(pipeline, tmp_path / "run")
    last = report.points[-1]
    assert list(last.measurement.quality["validation"]) == ["stripes/utility"]
    assert last.budget.status == "pass"
    assert report.frontier
    tight = GateBudget(drop={"utility": -0.9}, at_least={"utility": 0.5})
    assert {check.key: check.status for check in recorded_quality(tight, last.measurement)} == {
        "at_least.utility": "pass", "drop.utility": "fail",
    }  # fmt: skip
    wrong = replace(pipeline, budget=Budget(drop={"utilty": 0.2}))
    with pytest.raises(ConfigError, match=r"budget.drop.utilty: `utilty` is not measured, but `utility`; did you mean"):
        run(wrong, tmp_path / "run")


def test_the_gate_runs_no_code_that_only_a_file_names(module: str, finished_run) -> None:
    artifact = finished_run.report.points[0].artifact
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 12, 1), np.uint8)
    split = EvalSplit("data", images, np.arange(40) % 3)
    budget = GateBudget(at_least={"utility": 0.01})
    with pytest.raises(ConfigError, match="no file's code is run unless you name it; give --metric python:module:util"):
        measured_quality(budget, artifact, None, split, 1)
    (check,) = measured_quality(budget, artifact, None, split, 1, f"python:{module}:utility")
    assert (check.key, check.sense) == ("at_least.utility", "at least")
