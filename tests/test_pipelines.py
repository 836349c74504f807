"""The pipelines that people start from, and the teacher that the repository carries."""

import json
from pathlib import Path

import pytest
import torch

from compresslab.config import load_pipeline
from compresslab.models import Signature
from compresslab.runner import run

ROOT = Path(__file__).parent.parent
PIPELINES = sorted((ROOT / "pipelines").glob("*.yaml"))
TEACHER = ROOT / "pipelines" / "teachers" / "fashion_mnist"


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_is_valid(path):
    assert load_pipeline(path).name == path.stem


def test_teacher_is_the_network_its_pipeline_builds_and_small_enough_to_carry():
    pipeline = load_pipeline(ROOT / "pipelines" / "fashion_mnist_teacher.yaml")
    built = pipeline.model.build(Signature("images", 1, 10)).module
    carried = load_pipeline(ROOT / "pipelines" / "fashion_mnist.yaml").model.build(Signature("images", 1, 10)).module
    assert sum(parameter.numel() for parameter in carried.parameters()) == 696_042
    assert {n: t.shape for n, t in carried.state_dict().items()} == {n: t.shape for n, t in built.state_dict().items()}
    assert (TEACHER / "weights.safetensors").stat().st_size <= 3_000_000


@pytest.mark.slow
def test_teacher_is_as_good_as_promised(tmp_path):
    """>= 93.7 % of the 10,000 test images: a teacher that was swapped or damaged would not be."""
    pipeline = load_pipeline(ROOT / "pipelines" / "fashion_mnist.yaml")
    task = pipeline.task.load(tmp_path)
    network = pipeline.model.build(Signature("images", 1, 10)).module
    split = task.splits["test"]
    right = 0
    with torch.inference_mode():
        for start in range(0, len(split.inputs), 500):
            rows = range(start, start + 500)
            outputs = network(torch.from_numpy(task.batch("test", list(rows), None)))
            right += int((outputs.argmax(1).numpy() == split.targets[start : start + 500]).sum())
    assert len(split.inputs) == 10_000
    assert right / 10_000 >= 0.937


@pytest.mark.slow
def test_quickstart_runs_as_it_is_and_then_from_the_cache(tmp_path):
    pipeline = load_pipeline(ROOT / "pipelines" / "quickstart.yaml")
    report = run(pipeline, tmp_path / "run")
    assert report.budget.status == "pass"
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    quality = {point["stage"]: point["quality"]["test"]["digits/accuracy"]["value"] for point in results["points"]}
    assert quality["baseline"] < 0.5 < 0.95 < quality["quantize"]
    again = run(pipeline, tmp_path / "run")
    assert all(point.cached for point in again.points)
