"""What real users will want to write, word for word, from the file to the verdict; only the data are stand-ins."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from compresslab.bundle.verifying import verify
from compresslab.cli.app import invoke
from compresslab.models import ModelSpec
from compresslab.models.image_reading import image_reading
from compresslab.models.text_reading import text_reading
from compresslab.report import load_results
from tests.clips import save_clip
from tests.models.conftest import libraries
from tests.texts import QUEUES, save_distilbert, sentences, write_csv
from tests.towers import COLOURS, SHAPES, picture, things, words

PARTS = """\
# own images, a timm model, a latency budget
task: {image_classification: {folder: data/parts, size: 224, metric: f1_macro}}
model: {timm: resnet50, weights: best.pt, classes: 7}
stages:
  - distill: {student: {timm: mobilenetv3_small_100}, epochs: 30}
  - prune: {latency: 0.6, recover: {epochs: 5}}
  - quantize: {mode: auto}
bench: {points: [{batch: 1, threads: 2}]}
budget: {p90_ms: 5, f1_macro_drop: 0.01}
"""

TICKETS = """\
# a fine-tuned Hugging Face classifier, quantize only:  docker run -v $PWD:/data compresslab run tickets.yaml
task: {text_classification: {csv: tickets.csv, text: body, label: queue}}
model: {hf: ./distilbert-tickets}
stages:
  - quantize: {mode: ptq, backend: {tune: [own, onnxruntime, dynamic]}}
bench: {points: [{batch: 1, threads: 1, inputs: data}]}      # real lengths
budget: {p90_ms: 20, accuracy_drop: 0.01}
"""

SHOP = """\
# two towers for retrieval; freeze one tower to keep an existing index
task: {cross_modal: {pairs: pairs.parquet, benchmarks: {shop: queries.parquet}}}
model: {hf: ./clip-vit-base-patch32}
stages:
  - distill:
      student: {image: {timm: mobilenetv3_large_100}, text: {from_teacher: {layers: [0, 5, 11]}}}
      transfer: [{images: catalogue/}, {text: queries.txt}]
      losses: [{feature_mse: {weight: 2000}}, {similarity_kl: {weight: 1}}]
  - quantize: {mode: qat}
bench: {points: [{graph: text, batch: 1}, {graph: image, batch: 32}]}
budget: {text: {p90_ms: 8}, retention: {shop/recall@10: 0.95}}
"""

BRIEFLY = ("bench.processes=1", "bench.min_seconds=0.02", "bench.min_count=120", "bench.warmup_seconds=0.02")
EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}

__all__ = ["libraries"]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("libraries")]


def ran(folder, text, *changes):
    """Its results, once what the command ends with is what they say."""
    path = folder / "pipeline.yaml"
    path.write_text(text, encoding="utf-8")
    settings = [part for change in (*BRIEFLY, *changes) for part in ("--set", change)]
    code = invoke(["run", str(path), "--out", str(folder / "run"), *settings])
    found = load_results(folder / "run")
    assert code == EXIT[found["budget"]["status"]]
    assert set(found["frontier"]) <= {point["id"] for point in found["points"]}
    assert found["frontier"]
    if found["selected"] is not None:
        assert verify(folder / "run").checks
    for line in found["budget"]["violations"]:
        assert "but measured" in line, "nothing that is limited was left unmeasured"
    return found


def test_own_images_a_timm_model_and_a_latency_budget(tmp_path):
    import timm
    import torch

    rng = np.random.default_rng(0)
    for shape in (*SHAPES, "empty"):
        folder = tmp_path / "data" / "parts" / shape
        folder.mkdir(parents=True)
        for number in range(24):
            pixels = np.full((16, 16, 3), number, np.uint8)
            if shape != "empty":
                pixels = picture(list(COLOURS)[number % 6], shape, 40, rng)
            Image.fromarray(pixels).resize((40, 30)).save(folder / f"{number}.png")
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet50", num_classes=7).state_dict(), tmp_path / "best.pt")
    found = ran(
        tmp_path, PARTS, "task.image_classification.size=32", "stages.distill.epochs=1", "stages.distill.batch=32",
        "stages.prune.recover.epochs=1", "stages.prune.recover.batch=32", "stages.quantize.qat.epochs=1",
        "stages.quantize.qat.batch=32", "stages.quantize.sensitivity_samples=8",
        "stages.prune.latency=0.85", "stages.prune.round_to=32",  # as images are so small
    )  # fmt: skip
    kinds = [point["stage"] for point in found["points"]]
    assert kinds[:3] == ["baseline", "distill", "prune"]
    assert set(kinds[3:]) == {"quantize"}
    last = found["points"][-1]
    assert set(last["quality"]["test"]) == {"parts/f1_macro"}
    assert last["latency_ms"][0]["threads"] == 2
    assert last["integer_operators"]["integer"] > 0
    assert last["artifact"]["bytes"] < found["points"][0]["artifact"]["bytes"] / 20


def test_a_fine_tuned_classifier_is_quantized(tmp_path):
    texts, labels = sentences(200)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    save_distilbert(tmp_path / "distilbert-tickets", tuple(sorted(QUEUES)))
    found = ran(tmp_path, TICKETS)
    assert [point["stage"] for point in found["points"]] == ["baseline", "quantize"]
    baseline, quantized = found["points"]
    assert [one["backend"] for one in quantized["decisions"]["tuned"]["tried"]] == ["own", "onnxruntime", "dynamic"]
    assert set(quantized["quality"]["test"]) == {"tickets/accuracy"}
    assert quantized["latency_ms"][0]["inputs"] == "data"
    assert quantized["integer_operators"]["integer"] > 0
    assert quantized["artifact"]["bytes"] < baseline["artifact"]["bytes"]


def test_two_towers_of_one_clip(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rng = np.random.default_rng(0)
    (tmp_path / "catalogue").mkdir()
    save_clip(tmp_path / "clip-vit-base-patch32", [text for one in things() for text in words(*one)], layers=12)

    def rows(name, copies):
        found = []
        for number, one in enumerate(things()):
            for copy in range(copies):
                Image.fromarray(picture(*one, rng)).resize((48, 40)).save(tmp_path / f"{name}{number}_{copy}.png")
                found.append({"image": f"{name}{number}_{copy}.png", "text": words(*one)[copy], "group": str(number)})
        return found

    for name, copies in (("pairs", 2), ("queries", 1)):
        parquet.write_table(pyarrow.Table.from_pylist(rows(name, copies)), tmp_path / f"{name}.parquet")
    for number in range(16):
        noise = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "catalogue" / f"{number}.png")
    (tmp_path / "queries.txt").write_text("a red thing\nthe bright blue sign\nno mark at all\n")
    found = ran(
        tmp_path, SHOP, "stages.distill.epochs=1", "stages.distill.batch=32", "stages.quantize.qat.epochs=1",
        "stages.quantize.qat.batch=32",
    )  # fmt: skip
    assert [point["stage"] for point in found["points"]] == ["baseline", "distill", "quantize"]
    for point in found["points"]:
        assert set(point["artifact"]["graphs"]) == {"image", "text"}
        assert [(one["graph"], one["batch"]) for one in point["latency_ms"]][1:] == [("text", 1), ("image", 32)]
        assert {"pairs/recall@10", "shop/recall@10", "shop/text_to_image/recall@10"} <= set(point["quality"]["test"])
        assert "shop/recall@10" in point["retention"]
    baseline, student, quantized = found["points"]
    assert student["params"] != baseline["params"]
    assert quantized["integer_operators"]["integer"] > 0
    # A later run starts from a tower's own folder, without the CLIP, and reads as this one did.
    stage = tmp_path / "run" / "stages" / student["id"]
    builder = json.loads((stage / "text" / "architecture.json").read_text())["builder"]
    assert builder["removed"] == [f"text_model.encoder.layers.{one}" for one in range(12) if one not in (0, 5, 11)]
    manifest = json.loads((stage / "manifest.json").read_text())
    how = manifest["towers"]["image"]["preprocessing"]
    assert (how["height"], how["fit"], how["resize"], how["mean"][0]) == (32, "cover", "bicubic", 0.48145466)
    assert image_reading(ModelSpec(checkpoint=str(stage / "image"))).std == tuple(how["std"])
    assert text_reading(ModelSpec(checkpoint=str(stage / "text"))).tokenizer == stage / "tokenizer.json"
