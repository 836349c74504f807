"""Two towers from one end to the other: one is trained against the other, both made small, and both one bundle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compresslab import load_artifact, load_pipeline, run
from compresslab.bundle.predicting import predictions
from compresslab.bundle.verifying import verify
from compresslab.cli.app import invoke
from compresslab.measure.evaluate import predict
from compresslab.report import load_results
from tests.models.encoders import save_sentence_transformers
from tests.torchvision_operators import define
from tests.towers import __file__ as SOURCE
from tests.towers import picture

PIPELINE = """\
task:
  cross_modal: {{python: "{source}:as_texts", name: things, temperature: 0.1}}
model:
  image: {{residual: {{widths: [16, 32]}}}}
  text: {{sentence_transformers: words}}
stages:
  - image: {{train: {{epochs: 5, batch: 64, learning_rate: 0.05}}}}
  - distill:
      student: {{image: {{residual: {{widths: [8, 16]}}}}, text: {{from_teacher: {{layers: [0]}}}}}}
      transfer: [{{text: more.txt}}]
      losses: [{{feature_mse: {{weight: 200}}}}, {{similarity_kl: {{weight: 1}}}}, {{task: {{weight: 0.1}}}}]
      epochs: 2
      batch: 64
      learning_rate: 0.01
      optimizer: adamw
  - image: {{quantize: {{mode: qat, samples: 64, qat: {{epochs: 1, batch: 64, learning_rate: 0.01, precision: fp32}}}}}}
    text: {{quantize: {{backend: dynamic}}}}
bench:
  points: [{{graph: image}}, {{graph: text, inputs: data}}]
  processes: 1
  min_seconds: 0.02
  min_count: 120
  warmup_seconds: 0.02
budget: {{size_ratio: 1.5, text: {{p90_ms: 1000}}, retention: {{things/recall@10: 0.01, other/recall@10: 0.01}}}}
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    define()
    folder = tmp_path_factory.mktemp("towers")
    (folder / "words").mkdir()
    save_sentence_transformers(folder / "words")
    (folder / "more.txt").write_text("a red thing\nthe bright blue sign\nno mark at all\n")
    path = folder / "towers.yaml"
    path.write_text(PIPELINE.format(source=SOURCE))
    report = run(load_pipeline(path), folder / "out")
    return path, folder / "out", report


def test_two_towers(finished, tmp_path, nothing_may_be_made, capsys):
    from optimum.onnxruntime import ORTModelForFeatureExtraction  # asks for torchvision, which `finished` has defined
    from transformers import AutoImageProcessor, AutoTokenizer

    path, out, report = finished
    found = load_results(out)
    by_stage = {point["stage"]: point for point in found["points"]}
    assert list(by_stage) == ["baseline", "train", "distill", "quantize"]

    # Every point has both graphs; of a tower that a stage leaves alone the very same file.
    for point in found["points"]:
        assert set(point["artifact"]["graphs"]) == {"image", "text"}
        assert [one["graph"] for one in point["latency_ms"]] == ["image + text", "image", "text"]
        assert point["latency_ms"][2]["inputs"] == "data"
    sha = {stage: point["artifact"]["sha256"] for stage, point in by_stage.items()}
    assert sha["train"]["text"] == sha["baseline"]["text"], "an index of texts stays valid"
    assert sha["train"]["image"] != sha["baseline"]["image"]
    assert len({one["text"] for one in sha.values()}) == 3

    # Training brings the image tower near; both directions and the benchmark are told.
    ways = ("", "/text_to_image", "/image_to_text")
    keys = {f"{name}{way}/recall@10" for name in ("things", "other") for way in ways}
    quality = {stage: point["quality"]["test"] for stage, point in by_stage.items()}
    assert set(quality["train"]) == keys
    assert quality["train"]["things/recall@10"]["value"] > quality["baseline"]["things/recall@10"]["value"] + 0.02
    assert set(by_stage["distill"]["retention"]) == keys
    assert by_stage["quantize"]["integer_operators"]["integer"] > 0
    assert by_stage["quantize"]["versus_baseline"]["size_ratio"] > 1.5
    assert set(by_stage["distill"]["decisions"]) == {"image", "text"}
    assert report.budget.status == "pass"

    # A tower's folder is a checkpoint, its tokenizer beside it.
    stage = out / "stages" / by_stage["distill"]["id"]
    assert {file.name for file in (stage / "text").iterdir()} >= {"weights.safetensors", "architecture.json"}
    assert (stage / "tokenizer.json").is_file()

    # The bundle is one, is whole, and answers for pictures and for texts as it was measured.
    bundle = load_artifact(out)
    assert bundle.folder == out / "selected"
    assert "tokenizer.json" in bundle.manifest.files
    assert verify(out).checks
    assert "`text`:" in (out / "selected" / "README.md").read_text()
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    pixels = picture("red", "cross", 0, np.random.default_rng(5))
    for name in ("one", "two"):
        Image.fromarray(pixels).save(pictures / f"{name}.png")
    answers = list(predictions(bundle, "image", [pictures]))
    assert [Path(answer.source).name for answer in answers] == ["one.png", "two.png"]
    expected = predict(bundle.only("image"), pixels[None])[0]
    np.testing.assert_allclose(answers[0].outputs["embedding"], expected, rtol=1e-4)
    capsys.readouterr()
    assert invoke(["predict", str(out), "red cross dark", "--graph", "text", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    embedding = next(iter(told["outputs"].values()))
    assert len(embedding) == 32

    # Optimum answers each tower as the bundle does.
    assert invoke(["export", str(out), "--format", "optimum", "--out", str(tmp_path / "optimum")]) == 0
    text = tmp_path / "optimum" / "towers-text"
    assert f"ORTModelForFeatureExtraction.from_pretrained({str(text)!r})" in capsys.readouterr().out
    ids = AutoTokenizer.from_pretrained(text)(["red cross dark"], return_tensors="np")
    states = ORTModelForFeatureExtraction.from_pretrained(text)(**ids).last_hidden_state
    np.testing.assert_allclose(states[0, 0], embedding, rtol=1e-4, atol=1e-5)
    image = tmp_path / "optimum" / "towers-image"
    seen = AutoImageProcessor.from_pretrained(image, use_fast=False)(Image.fromarray(pixels), return_tensors="np")
    states = ORTModelForFeatureExtraction.from_pretrained(image)(**seen).last_hidden_state
    np.testing.assert_allclose(states[0, 0], expected, rtol=1e-3, atol=1e-3)

    # Nothing is made twice.
    again = run(load_pipeline(path), tmp_path / "again", store=out.parent / ".store")
    assert all(point.cached for point in again.points)
    assert [point.artifact.sha256 for point in again.points] == [point.artifact.sha256 for point in report.points]
    shutil.rmtree(tmp_path / "again")


def test_the_lock_file_replays_both_towers_to_the_same_bytes(finished, tmp_path):
    """From an empty store: what a stage does to one tower must not hang on what was done to the other before."""
    path, out, report = finished
    locked = load_pipeline(out / "lock.yaml")
    assert locked == load_pipeline(path)
    again = run(locked, tmp_path / "again", store=tmp_path / "store")
    assert not any(point.cached for point in again.points)
    first = {point.id: dict(point.artifact.sha256) for point in report.points}
    assert {point.id: dict(point.artifact.sha256) for point in again.points} == first
    tokenizers = [load_artifact(run).manifest.files["tokenizer.json"] for run in (out, tmp_path / "again")]
    assert tokenizers[0] == tokenizers[1]


def test_the_run_is_gated_by_graph_and_by_what_it_measured(finished, tmp_path, capsys):
    """Without data and without torch's help: its own figures on validation, and its baseline measured beside it."""
    _, out, _ = finished
    budget = tmp_path / "budget.yaml"
    budget.write_text(
        "text: {p50_ms: 1000}\nimage: {p50_slower: 900}\nsize_ratio: 1.5\nat_least: {recall@10: 0.01}\n"
        "retention: {things/recall@10: 0.01, other/recall@10: 0.01}\n"
    )
    assert invoke(["gate", str(out), "--budget", str(budget)]) == 0
    told = capsys.readouterr().out
    for key in ("text.p50_ms", "image.p50_slower", "size_ratio", "at_least.recall@10", "retention.other/recall@10"):
        assert f"\n{key} " in told
    assert f"pass: {out} against {out} (baseline), " in told
