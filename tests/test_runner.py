"""run() and plan(): one call, from a pipeline to a run directory that says what happened and why."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compresslab import (
    BadInput,
    BenchPoint,
    Budget,
    ConfigError,
    ModelSpec,
    ParityError,
    Pipeline,
    Prune,
    Quantize,
    Residual,
    StoreError,
    TeacherSpec,
    Train,
    load_artifact,
    load_pipeline,
    plan,
    run,
)
from compresslab.cli.app import invoke
from compresslab.digest import code_digest
from compresslab.distillation import Recipe
from compresslab.measure.bench import BenchSettings
from compresslab.measure.evaluate import predict
from compresslab.models import Signature, architecture
from compresslab.progress import Silent
from compresslab.report import load_results
from compresslab.report.results import results
from compresslab.testing import CLASSES

CHAIN = ("baseline", "train", "distill", "prune", "quantize")


def events(out: Path, what: str) -> list[dict]:
    lines = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    return [line for line in lines if line["event"] == what]


def cached(report) -> dict[str, bool]:
    return {f"{point.stage}{' (reference)' if point.reference else ''}": point.cached for point in report.points}


def with_stage(pipeline: Pipeline, index: int, stage) -> Pipeline:
    return replace(pipeline, stages=[*pipeline.stages[:index], stage, *pipeline.stages[index + 1 :]])


def changed(pipeline: Pipeline, index: int) -> Pipeline:
    """The pipeline with another setting in one stage."""
    settings = [{"clip": 1.5}, {"temperature": 3.0}, {"ratio": 0.4}, {"samples": 20}][index]
    return with_stage(pipeline, index, pipeline.stages[index].model_copy(update=settings))


def alone(pipeline: Pipeline, *stages, **changes) -> Pipeline:
    """A pipeline of these stages and no reference, for what the tiny one does not have."""
    return replace(pipeline, stages=stages, references=(), **changes)


# -- what a run leaves -----------------------------------------------------------------------------------------------


def test_the_run_directory_is_complete(finished_run):
    out = finished_run.out
    found = {path.relative_to(out).as_posix() for path in out.iterdir()}
    assert found == {"lock.yaml", "results.json", "report.html", "report.md", "events.jsonl", "stages", "selected"}
    assert {folder.name for folder in (out / "stages").iterdir()} == {p.id for p in finished_run.report.points}
    for point in finished_run.report.points:
        files = {file.name for file in (out / "stages" / point.id).iterdir()}
        expected = {"model.onnx", "manifest.json", "measurement.json"}
        if point.stage != "quantize":
            expected |= {"weights.safetensors", "architecture.json"}
        assert files == expected, point.lineage
    bundle = {file.name for file in (out / "selected").iterdir()}
    assert bundle == {"model.onnx", "manifest.json", "README.md", "labels.txt"}


def test_results_are_those_of_the_report_and_paths_in_them_lead_to_the_files(finished_run):
    loaded = load_results(finished_run.out)
    assert loaded == json.loads(json.dumps(results(finished_run.report)))
    for point in loaded["points"]:
        for graph, path in point["artifact"]["graphs"].items():
            artifact = load_artifact(finished_run.out / path)
            assert artifact.sha256[graph] == point["artifact"]["sha256"][graph]
            assert artifact.bytes == point["artifact"]["bytes"]


def test_lineage_and_references(finished_run):
    points = finished_run.report.points
    lineages = [point.lineage for point in points]
    assert lineages == [("baseline",), ("baseline", "quantize"), *(CHAIN[: end + 1] for end in range(1, len(CHAIN)))]
    assert [point.reference for point in points] == [False, True, False, False, False, False]
    assert [point.id for point in points] == list(dict.fromkeys(point.id for point in points))
    assert points[3].settings["views"] == 2
    assert len(points[3].decisions["loss"]) == 3


def test_every_point_is_measured_against_its_parent_the_baseline_and_the_teacher(finished_run):
    baseline, *others = finished_run.report.points
    assert baseline.measurement.versus_parent is None
    assert baseline.measurement.retention["stripes/accuracy"].value == 1.0
    sizes = {point.lineage: point.artifact.bytes for point in finished_run.report.points}
    for point in others:
        measured = point.measurement
        assert measured.versus_parent.size_ratio == sizes[point.lineage[:-1]] / point.artifact.bytes
        assert measured.versus_baseline.size_ratio == baseline.artifact.bytes / point.artifact.bytes
        assert set(measured.quality) == {"validation", "test"}
        assert "stripes/accuracy" in measured.retention
        assert measured.agreement_with_teacher is not None
        assert measured.peak_rss_mb > 0


def test_frontier_and_selection_follow_from_the_measurements(finished_run):
    loaded = load_results(finished_run.out)
    costs = {
        point["id"]: (
            point["latency_ms"][0]["p50"],
            point["artifact"]["bytes"],
            -point["quality"]["validation"]["stripes/accuracy"]["value"],
        )
        for point in loaded["points"]
    }
    better_or_equal = {
        point: {other for other, its in costs.items() if all(a <= b for a, b in zip(its, mine, strict=True))}
        for point, mine in costs.items()
    }
    on_it = set(loaded["frontier"])
    assert {point for point, others in better_or_equal.items() if others == {point}} <= on_it
    assert all(better_or_equal[point] & on_it for point in costs), "each is on it, or beaten by one that is"
    assert loaded["frontier"] == sorted(on_it, key=lambda point: costs[point])
    allowed = [point for point in loaded["points"] if point["budget"] == "pass"]
    assert loaded["selected"] == min(allowed, key=lambda point: point["artifact"]["bytes"])["id"]
    assert loaded["budget"]["status"] == "pass"


def test_the_selected_bundle_predicts_as_it_was_measured(finished_run):
    validation = finished_run.pipeline.task.load(finished_run.store / "data").splits["validation"]
    bundle = load_artifact(finished_run.out)
    assert bundle.folder == finished_run.out / "selected"
    right = (predict(bundle, validation.inputs).argmax(1) == validation.targets).mean()
    selected = finished_run.report.point(finished_run.report.selected)
    assert right == pytest.approx(selected.measurement.quality["validation"]["stripes/accuracy"].value)
    assert bundle.sha256 == selected.artifact.sha256


def test_a_stage_folder_is_a_checkpoint_that_a_pipeline_starts_from(finished_run):
    """What train, distill and prune made is of use beyond the run; a pruned network too can be built again."""
    task = finished_run.pipeline.task.load(finished_run.store / "data")
    rows = np.arange(20)
    for point in finished_run.report.points:
        if point.stage == "quantize":
            continue
        spec = ModelSpec(checkpoint=str(finished_run.out / "stages" / point.id))
        with torch.no_grad():
            logits = (
                spec.build(Signature("images", 1, CLASSES))
                .module(torch.from_numpy(task.batch("validation", rows, None)))
                .numpy()
            )
        given = predict(point.artifact, task.splits["validation"].inputs[rows])
        np.testing.assert_allclose(logits, given, rtol=1e-3, atol=1e-3, err_msg=point.stage)


def test_events_tell_what_ran_and_for_how_long(finished_run):
    made = events(finished_run.out, "stage")
    assert [event["stage"] for event in made] == ["baseline", "quantize", *CHAIN[1:]]
    assert all(event["cached"] is False and event["seconds"] > 0 for event in made)
    measured = events(finished_run.out, "measured")
    assert [event["id"] for event in measured] == [point.id for point in finished_run.report.points]
    assert all(event["cached"] is False and event["seconds"] > 0 for event in measured)
    (done,) = events(finished_run.out, "done")
    assert done["selected"] == finished_run.report.selected


# -- what is finished is not done again ------------------------------------------------------------------------------


def test_the_second_run_makes_nothing(copied_run, nothing_may_be_made):
    again = run(copied_run.pipeline, copied_run.out)
    assert all(point.cached for point in again.points)
    first, second = (results(report) for report in (copied_run.report, again))
    for report in (first, second):
        for point in report["points"]:
            del point["cached"]
    assert second == first
    assert {event["cached"] for event in events(copied_run.out, "stage")[-6:]} == {True}


@pytest.mark.parametrize("index", range(4))
def test_plan_after_a_change_names_that_stage_and_what_follows(finished_run, nothing_may_be_made, index):
    other = changed(finished_run.pipeline, index)
    lines = plan(other, finished_run.out)
    assert [line.stage for line in lines] == ["baseline", "quantize", *CHAIN[1:]]
    assert [line.cached for line in lines] == [True, True, *(stage < index for stage in range(4))]


def test_run_does_what_plan_says(copied_run):
    other = changed(copied_run.pipeline, 2)
    planned = plan(other, copied_run.out)
    report = run(other, copied_run.out)
    assert [event["cached"] for event in events(copied_run.out, "stage")[-6:]] == [line.cached for line in planned]
    assert [line.cached for line in planned] == [True, True, True, True, False, False]
    assert [point.cached for point in report.points] == [line.cached for line in planned]
    assert {folder.name for folder in (copied_run.out / "stages").iterdir()} == {point.id for point in report.points}
    after = plan(other, copied_run.out)
    assert [line.cached for line in after] == [True] * 6
    assert [line.seconds for line in after] == [round(point.seconds, 3) for point in report.points]


def test_plan_before_the_first_run(tiny_pipeline, tmp_path, nothing_may_be_made):
    lines = plan(tiny_pipeline, tmp_path / "runs" / "tiny")
    assert [line.cached for line in lines] == [False] * 6
    assert [line.seconds for line in lines] == [None] * 6
    assert not (tmp_path / "runs" / "tiny").exists()


def test_another_teacher_makes_what_learns_from_it_again(finished_run, tmp_path, nothing_may_be_made):
    """Also the reference: a quantizer that trains would learn from it."""
    architecture.save(
        ModelSpec(residual=Residual(widths=(8,))).build(Signature("images", 1, CLASSES)), tmp_path / "other"
    )
    other = replace(finished_run.pipeline, teacher=TeacherSpec(checkpoint=str(tmp_path / "other")))
    assert [line.cached for line in plan(other, finished_run.out)] == [True] + [False] * 5


def test_changed_code_of_a_stage_makes_it_again(finished_run, monkeypatch, nothing_may_be_made):
    def edited(*modules: str) -> str:
        return "edited" if modules == ("compresslab.stages.distill",) else code_digest(*modules)

    monkeypatch.setattr("compresslab.keys.code_digest", edited)
    lines = plan(finished_run.pipeline, finished_run.out)
    assert [line.cached for line in lines] == [True, True, True, False, False, False]


def test_other_data_make_everything_again(finished_run, nothing_may_be_made):
    spec = finished_run.pipeline.task
    data = spec.image_classification.model_copy(update={"split_seed": 1})
    other = replace(finished_run.pipeline, task=spec.model_copy(update={"image_classification": data}))
    assert [line.cached for line in plan(other, finished_run.out)] == [False] * 6


def test_another_bench_measures_again_and_makes_nothing(copied_run, monkeypatch):
    monkeypatch.setattr("compresslab.exports.export", lambda *_, **__: pytest.fail("an artifact is in the store"))
    bench = copied_run.pipeline.bench.model_copy(update={"points": (BenchPoint(batch=2),)})
    report = run(alone(copied_run.pipeline, copied_run.pipeline.stages[0], bench=bench), copied_run.out)
    assert [event["cached"] for event in events(copied_run.out, "stage")[-2:]] == [True, True]
    assert [event["cached"] for event in events(copied_run.out, "measured")[-2:]] == [False, False]
    assert [point.cached for point in report.points] == [False, False]
    assert {point.measurement.latency[0].batch for point in report.points} == {2}


def test_fresh_makes_all_again_to_the_same_bytes(copied_run):
    pipeline = alone(copied_run.pipeline, copied_run.pipeline.stages[0])
    first = run(pipeline, copied_run.out)
    assert [point.cached for point in first.points] == [True, True]
    again = run(pipeline, copied_run.out, fresh=True)
    assert [point.cached for point in again.points] == [False, False]
    for what in ("stage", "measured"):
        assert [event["cached"] for event in events(copied_run.out, what)[-2:]] == [False, False]
    assert [point.artifact.sha256 for point in again.points] == [point.artifact.sha256 for point in first.points]
    assert all(point.cached for point in run(pipeline, copied_run.out).points)


def test_auto_tries_again_under_another_budget(copied_run, tmp_path):
    """Its verdict was on the old budget: PTQ that was good enough must not be served where it no longer is."""
    auto = Quantize(mode="auto", samples=24, qat=Recipe(epochs=1, batch=64, learning_rate=0.01, precision="fp32"))
    easy = alone(copied_run.pipeline, auto, budget=Budget(accuracy=0.01))
    assert [point.decisions.get("mode") for point in run(easy, copied_run.out).points] == [None, "ptq"]
    hard = replace(easy, budget=Budget(accuracy_drop=-0.9))
    assert [line.cached for line in plan(hard, copied_run.out)] == [True, False]
    report = run(hard, copied_run.out)
    modes = [point.decisions.get("mode") for point in report.points]
    assert (modes[:2], modes[-1], set(modes[2:-1])) == ([None, "ptq"], "qat", {"mixed"})
    assert any("quantize: auto: after calibration the budget is missed" in note for note in report.notes)
    assert [line.cached for line in plan(easy, copied_run.out)] == [True, True]


@pytest.mark.slow
def test_the_lock_file_replays_to_the_same_bytes(finished_run, tmp_path):
    locked = load_pipeline(finished_run.out / "lock.yaml")
    assert locked == finished_run.pipeline
    again = run(locked, tmp_path / "elsewhere" / "again", store=tmp_path / "cache")
    assert not any(point.cached for point in again.points)
    first = {point.id: dict(point.artifact.sha256) for point in finished_run.report.points}
    assert {point.id: dict(point.artifact.sha256) for point in again.points} == first


@pytest.mark.slow
def test_a_cut_to_a_measured_time_is_replayed_to_the_same_bytes(tiny_pipeline, tmp_path):
    """The clock decides once: on a busier machine, or in an empty store, the lock file's widths are followed."""
    pipeline = alone(
        tiny_pipeline, Train(epochs=1, batch=64), Prune(latency=0.7, round_to=8, recover=None),
        model=ModelSpec(residual=Residual(widths=(48, 64))), budget=None,
    )  # fmt: skip
    first = run(pipeline, tmp_path / "out")
    record = first.points[-1].decisions["latency"]
    assert record["measured"]["value"] < 1
    assert record["precision"] == "fp32"
    locked = load_pipeline(tmp_path / "out" / "lock.yaml")
    again = run(locked, tmp_path / "elsewhere" / "again", store=tmp_path / "cache")
    assert not any(point.cached for point in again.points)
    assert again.points[-1].decisions == first.points[-1].decisions
    assert [dict(one.artifact.sha256) for one in again.points] == [dict(one.artifact.sha256) for one in first.points]


# -- the budget ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "code", "status"),
    [
        (Budget(bytes=10), 1, "fail"),
        # 48 validation images cannot tell 0.999 from what was measured.
        (Budget(accuracy=0.999), 3, "inconclusive"),
        (None, 0, "pass"),
    ],
)
def test_the_exit_code_is_the_budgets_verdict(copied_run, nothing_may_be_made, as_yaml, tmp_path, budget, code, status):
    pipeline = as_yaml(replace(copied_run.pipeline, budget=budget), tmp_path / "tiny.yaml")
    assert invoke(["run", str(pipeline), "--out", str(copied_run.out)]) == code
    loaded = load_results(copied_run.out)
    assert loaded["budget"]["status"] == status
    assert bool(loaded["budget"]["violations"]) == (status != "pass")
    assert (loaded["selected"] is None) == (status == "fail")
    assert (copied_run.out / "selected").exists() == (status != "fail")


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(retention={"stripes/acuracy": 0.9}), r"budget.retention.stripes/acuracy: .*did you mean `stripes/acc"),
        (Budget(point=1), r"budget.point: `point < 1` must hold, as bench has 1 points, but got 1"),
        (Budget(f1_macro=0.5), r"budget.f1_macro: `f1_macro` is not measured, but `accuracy`"),
    ],
)
def test_a_budget_on_what_is_not_measured_is_refused_first(
    tiny_pipeline, tmp_path, nothing_may_be_made, as_yaml, capsys, budget, message
):
    pipeline = replace(tiny_pipeline, budget=budget)
    for call in (run, plan):
        with pytest.raises(ConfigError, match=message):
            call(pipeline, tmp_path / "out")
    assert invoke(["run", str(as_yaml(pipeline, tmp_path / "tiny.yaml")), "--out", str(tmp_path / "out")]) == 2
    assert "budget." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_bench_of_a_graph_that_is_not_there_ends_before_the_training(copied_run, monkeypatch):
    monkeypatch.setattr("compresslab.distillation.learning.fit", lambda *_, **__: pytest.fail("trained first"))
    bench = BenchSettings(points=(BenchPoint(graph="text"),))
    with pytest.raises(ConfigError, match="there is no graph `text`; allowed is `model`"):
        run(replace(copied_run.pipeline, bench=bench, seed=5), copied_run.out)


# -- teachers --------------------------------------------------------------------------------------------------------


def test_a_trained_network_is_its_own_teacher(tiny_pipeline, tmp_path):
    """The first `train` of a new network is what the others are compared with, and retains all of itself."""
    new = ModelSpec(residual=Residual(widths=(8,)))
    name = "stripes/accuracy"
    pipeline = alone(
        tiny_pipeline, Train(epochs=1, batch=64), Prune(ratio=0.5, round_to=4, recover=None),
        model=new, budget=Budget(retention={name: 0.99}),
    )  # fmt: skip
    report = run(pipeline, tmp_path / "out")
    baseline, trained, pruned = report.points
    assert dict(baseline.measurement.retention) == {}
    assert trained.measurement.retention[name].value == 1.0
    assert trained.budget.status == "pass"
    assert set(pruned.measurement.retention) == {name}
    assert [line.cached for line in plan(pipeline, tmp_path / "out")] == [True, True, True]


# -- failures --------------------------------------------------------------------------------------------------------


def test_a_graph_that_disagrees_with_its_network_fails_with_the_name_of_the_stage(copied_run, monkeypatch):
    def disagree(*_, **__):
        raise ParityError("torch and ONNX Runtime differ by 3.1")

    monkeypatch.setattr("compresslab.exports.export", disagree)
    pipeline = changed(copied_run.pipeline, 3)
    with pytest.raises(ParityError, match=r"quantize: torch and ONNX Runtime differ by 3\.1"):
        run(pipeline, copied_run.out)
    (stopped,) = events(copied_run.out, "stopped")
    assert stopped["error"] == "ParityError"
    assert [line.cached for line in plan(pipeline, copied_run.out)] == [True] * 5 + [False]


def test_what_stopped_the_run_is_told_even_where_no_event_can_be_written(copied_run, monkeypatch):
    """Ctrl-C on a full disk is still Ctrl-C, and the command ends as after one."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt("signal 2")

    def full(self, what: str, **figures) -> None:
        if what == "stopped":
            raise StoreError("the disk is full")

    monkeypatch.setattr("compresslab.exports.export", interrupted)
    monkeypatch.setattr("compresslab.runner.RunDirectory.event", full)
    with pytest.raises(KeyboardInterrupt, match="signal 2"):
        run(changed(copied_run.pipeline, 3), copied_run.out)


def test_cuda_that_is_not_there_is_bad_input(tiny_pipeline, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(BadInput, match="use `device: auto` or `cpu`"):
        run(replace(tiny_pipeline, device="cuda"), tmp_path / "out")


def test_progress_is_told_every_phase(copied_run):
    class Recorded(Silent):
        def __init__(self) -> None:
            super().__init__()
            self.phases: list[str] = []

        def start(self, phase: str, total: int) -> None:
            self.phases.append(phase)

    recorded = Recorded()
    run(changed(copied_run.pipeline, 3), copied_run.out, progress=recorded)
    assert recorded.phases[-3:] == ["measure prune", "qat", "measure quantize"]
