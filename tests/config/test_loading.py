"""Pipeline files: what they become, that they come back the same, and what editors are told of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from compresslab.config import PipelineDocument, StageEntry, dump_pipeline, load_pipeline, pipeline_schema
from compresslab.errors import ConfigError
from compresslab.measure.bench import BenchPoint
from compresslab.models import ModelSpec, Residual
from compresslab.pipeline import Pipeline
from compresslab.stages import STAGES, Distill, Prune, Quantize, Train
from compresslab.students import StudentSpec
from compresslab.tasks import TaskSpec

PIPELINES = Path(__file__).parents[2] / "pipelines"
TEXT = """\
task:
  image_classification: {npz: data/images.npz, size: 28}
model:
  residual: {widths: [32, 64], blocks: [2, 1]}
  weights: teacher.safetensors
stages:
  - distill:
      student: {residual: {widths: [16, 32]}}
      epochs: 2
      learning_rate: 1e-1
  - prune: {ratio: 0.4, recover: null}
  - quantize:
references:
  - quantize: {backend: onnxruntime}
bench: {points: [{batch: 1}, {batch: 4, threads: 2}]}
budget: {p90_ms: 1, accuracy_drop: 0.013}
select: fastest
seed: 7
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "two words.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_a_file_becomes_a_pipeline(file: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(file)
    assert pipeline.name == "two-words", "the file's name, as a folder may be called"
    assert [type(stage) for stage in pipeline.stages] == [Distill, Prune, Quantize]
    distill, prune, quantize = pipeline.stages
    assert isinstance(distill, Distill)
    assert distill.student == StudentSpec(residual=Residual(widths=(16, 32)))
    assert (distill.epochs, distill.learning_rate) == (2, 0.1)
    assert isinstance(prune, Prune)
    assert prune.recover is None, "an explicit null is not the default"
    assert quantize == Quantize(), "a stage with nothing after it has its defaults"
    assert pipeline.references == (Quantize(backend="onnxruntime"),)
    assert pipeline.bench.points == (BenchPoint(batch=1), BenchPoint(batch=4, threads=2))
    assert pipeline.budget is not None
    assert pipeline.budget.p90_ms == 1.0
    assert (pipeline.select, pipeline.seed, pipeline.device, pipeline.teacher) == ("fastest", 7, "auto", None)
    assert pipeline.model.weights == str(tmp_path / "teacher.safetensors"), "relative to the file"


def test_relative_paths_start_from_the_file_wherever_one_stands(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_pipeline(Path(file.name)) == load_pipeline(file)


def test_a_dumped_pipeline_reads_back_the_same(file: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(file)
    plain = dump_pipeline(pipeline)
    dumped = tmp_path / "elsewhere" / "dumped.yaml"
    dumped.parent.mkdir()
    dumped.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    assert load_pipeline(dumped) == pipeline
    assert json.loads(json.dumps(plain)) == plain, "plain data only"
    assert plain["stages"][1]["prune"]["round_to"] == Prune(ratio=0.4).round_to, "defaults are written out"


@pytest.mark.parametrize(
    "teacher",
    [
        "{predictions: ensemble.npz}",
        "{checkpoint: large}",
        "{residual: {widths: [64]}, weights: sub/best.pt}",
        "{average: [{checkpoint: large, weight: 2}, {predictions: ensemble.npz}]}",
        "{best_of: [{checkpoint: large}, {average: [{python: 'net.py:build'}, {checkpoint: small, weight: 0.5}]}]}",
    ],
)
def test_a_teacher_of_every_kind_reads_back_the_same(file: Path, tmp_path: Path, teacher: str) -> None:
    """Its files are beside the first file, wherever the dumped one lies."""
    file.write_text(f"{TEXT}teacher: {teacher}\n", encoding="utf-8")
    pipeline = load_pipeline(file)
    dumped = tmp_path / "elsewhere" / "lock.yaml"
    dumped.parent.mkdir()
    plain = dump_pipeline(pipeline)
    dumped.write_text(yaml.safe_dump({"lock_version": 1, "pipeline": plain}), encoding="utf-8")
    assert pipeline.teacher is not None
    assert load_pipeline(dumped).teacher == pipeline.teacher
    assert "null" not in json.dumps(plain["teacher"]), "sources that were not given are not told"


def test_a_pipeline_made_in_python_dumps_to_a_file_that_makes_the_same(tmp_path: Path) -> None:
    pipeline = Pipeline(
        task=TaskSpec.model_validate({"image_classification": {"python": "mine:images"}}),
        model=ModelSpec(residual=Residual(widths=(8,))),
        stages=[Train(epochs=1, clip=None), Prune(ratio=0.5)],
        name="mine",
    )
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(dump_pipeline(pipeline)), encoding="utf-8")
    assert load_pipeline(path) == pipeline


def test_a_lock_file_replays_the_pipeline_in_it(file: Path, tmp_path: Path) -> None:
    pipeline = load_pipeline(file)
    lock = tmp_path / "lock.yaml"
    lock.write_text(yaml.safe_dump({"lock_version": 1, "data": "ab", "pipeline": dump_pipeline(pipeline)}))
    assert load_pipeline(lock) == pipeline
    lock.write_text("lock_version: 1\npipeline:\n  seed: 1\n  stagse: []\n")
    with pytest.raises(ConfigError, match=r"lock\.yaml:4: unknown key `stagse`; did you mean `stages`\?"):
        load_pipeline(lock)


def test_overrides_are_applied_before_the_checks(file: Path) -> None:
    pipeline = load_pipeline(file, ["stages.prune.ratio=0.25", "seed=3", "bench.processes=5", "name=other"])
    assert pipeline.stages[1] == Prune(ratio=0.25, recover=None)
    assert (pipeline.seed, pipeline.bench.processes, pipeline.name) == (3, 5, "other")


@pytest.mark.parametrize("path", sorted(PIPELINES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_pipelines_people_start_from_are_valid(path: Path) -> None:
    assert load_pipeline(path).stages


def test_an_entry_has_a_field_for_every_stage() -> None:
    assert list(StageEntry.model_fields) == [*STAGES, "image", "text"]
    assert all(stage.kind == kind for kind, stage in STAGES.items())


def test_the_schema_describes_every_key_and_is_plain_json() -> None:
    schema = pipeline_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert schema["required"] == ["task", "model", "stages"]
    assert set(schema["properties"]) == set(PipelineDocument.model_fields)
    assert all("description" in field for field in schema["properties"].values())
    assert set(schema["$defs"]["StageEntry"]["properties"]) == {*STAGES, "image", "text"}
    assert set(schema["$defs"]["TowerEntry"]["properties"]) == set(STAGES)
    assert schema["$defs"]["Prune"]["properties"]["ratio"]["anyOf"][0]["exclusiveMaximum"] == 1
    assert schema["additionalProperties"] is False
