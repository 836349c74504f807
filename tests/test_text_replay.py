"""`compresslab run lock.yaml`: a run on texts is replayed, from an empty store, to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from compresslab.cli.app import invoke
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.report import load_results
from tests.models.encoders import save_sentence_transformers
from tests.test_text_run import BENCH
from tests.texts import save_distilbert, sentences, write_csv
from tests.torchvision_operators import define

pytestmark = pytest.mark.slow
FIT = {"epochs": 1, "batch": 32, "learning_rate": 0.001, "optimizer": "adamw"}


def classification(folder: Path) -> dict[str, Any]:
    texts, labels = sentences(200)
    write_csv(folder / "tickets.csv", texts, labels)
    save_distilbert(folder / "teacher")
    return {
        "task": {"text_classification": {"csv": "tickets.csv", "text": "body", "label": "queue"}},
        "model": {"hf": "./teacher"},
        "stages": [
            {"train": FIT},
            {"distill": {"student": {"from_teacher": {"layers": [0], "vocabulary": "trim"}}, **FIT}},
            {"prune": {"ratio": 0.3, "recover": FIT}},
            {"quantize": {"backend": {"tune": ["own", "dynamic"]}}},
        ],
    }


def embedding(folder: Path) -> dict[str, Any]:
    texts, labels = sentences(150)
    rows = [
        f"{' '.join(text.split()[:9])},{number} about {label}"
        for number, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]
    (folder / "pairs.csv").write_text("\n".join(["query,document", *rows]) + "\n", encoding="utf-8")
    define()
    (folder / "encoder").mkdir()
    save_sentence_transformers(folder / "encoder")
    return {
        "task": {"text_embedding": {"pairs": {"csv": "pairs.csv"}}},
        "model": {"sentence_transformers": "./encoder"},
        "stages": [
            {"distill": {"student": {"from_teacher": {"layers": [0], "embedding_rank": 8}}, **FIT}},
            {"quantize": {"mode": "qat", "samples": 32, "qat": {**FIT, "precision": "fp32"}}},
        ],
    }


@pytest.mark.parametrize("task", [classification, embedding])
def test_a_run_on_texts_is_replayed_to_the_same_bytes(
    task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokenizers, vocabularies that were trimmed and what was tuned included; the relative paths are the file's."""
    path = tmp_path / "texts.yaml"
    path.write_text(yaml.safe_dump({"bench": BENCH, **task(tmp_path)}), encoding="utf-8")
    first, again = tmp_path / "first", tmp_path / "again"
    assert invoke(["run", str(path), "--out", str(first), "--store", str(tmp_path / "one")]) in (0, 3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    lock = str(first / "lock.yaml")
    assert invoke(["run", lock, "--out", str(again), "--store", str(tmp_path / "other")]) in (0, 3)
    points = [load_results(run)["points"] for run in (first, again)]
    assert not any(point["cached"] for point in points[1])
    for one, other in zip(*points, strict=True):
        assert one["artifact"]["sha256"] == other["artifact"]["sha256"], one["stage"]
        assert one["decisions"].get("tuned", {}).get("picked") == other["decisions"].get("tuned", {}).get("picked")
        for file in ("weights.safetensors", "tokenizer.json"):
            places = [run / "stages" / point["id"] / file for run, point in ((first, one), (again, other))]
            assert [place.is_file() for place in places] in ([True, True], [False, False])
            if places[0].is_file():
                assert places[0].read_bytes() == places[1].read_bytes(), (one["stage"], file)
    assert files(load_artifact(first)) == files(load_artifact(again))


def files(bundle: Artifact) -> dict[str, str]:
    """The hashes of what decides the answers; the card tells latencies as well."""
    return {**bundle.sha256, "tokenizer.json": bundle.manifest.files["tokenizer.json"]}
