"""Pipelines on texts, end to end, on generated sentences and networks of two layers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from compresslab.cli.app import app
from compresslab.config import load_pipeline
from compresslab.errors import BadInput
from compresslab.measure.artifact import load_artifact
from compresslab.measure.evaluate import predict
from compresslab.measure.text_preprocessing import as_texts
from compresslab.runner import run
from tests.texts import QUEUES, save_distilbert, sentences, write_csv

BENCH = {
    "points": [{"batch": 1, "inputs": "data"}], "processes": 1, "min_seconds": 0.02, "min_count": 8,
    "warmup_seconds": 0.01,
}  # fmt: skip
TASK = {"csv": "tickets.csv", "text": "body", "label": "queue"}


def teach(folder, texts, labels):
    """Trains a saved network until it knows its texts, without any code of ours."""
    import transformers
    from tokenizers import Tokenizer

    torch.manual_seed(0)
    names = transformers.AutoConfig.from_pretrained(folder).label2id
    net = transformers.DistilBertForSequenceClassification.from_pretrained(folder).train()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.enable_padding(pad_id=0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    order = np.random.default_rng(0)
    recent = [1.0] * 10
    # Trained tokenizers differ from run to run, and with them how long it takes.
    while np.mean(recent[-10:]) > 0.05:
        assert len(recent) < 1000, "the texts can be told apart"
        rows = order.integers(0, len(texts), 32)
        ids = torch.tensor([one.ids for one in tokenizer.encode_batch([texts[row] for row in rows])])
        loss = net(ids, (ids != 0).long(), labels=torch.tensor([names[labels[row]] for row in rows])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append(loss.item())
    net.save_pretrained(folder)


def write(folder, **pipeline):
    path = folder / "tickets.yaml"
    path.write_text(yaml.safe_dump({"bench": BENCH, **pipeline}))
    return path


def predicted(bundle, *texts):
    result = CliRunner().invoke(app, ["predict", str(bundle), *texts, "--json"])
    assert result.exit_code == 0, result.output
    return [json.loads(line)["labels"][0]["label"] for line in result.stdout.splitlines()]


@pytest.mark.slow
def test_a_classifier_is_distilled_into_one_with_another_tokenizer_quantized_and_asked(tmp_path):
    """The teacher's rows and the student's must be of the same texts though their ids are not: it learns from them."""
    texts, labels = sentences(600)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    (tmp_path / "more.txt").write_text("\n".join(sentences(300, seed=7)[0]))
    teach(save_distilbert(tmp_path / "teacher", QUEUES[::-1]), texts[:300], labels[:300])
    save_distilbert(tmp_path / "student", QUEUES[::-1], seed=1, vocabulary=100)
    path = write(
        tmp_path,
        task={"text_classification": {**TASK, "transfer": ["more.txt"]}},
        model={"hf": "./teacher"},
        stages=[
            {"distill": {"student": {"hf": "./student"}, "epochs": 24, "batch": 32, "learning_rate": 1e-3,
                         "optimizer": "adamw", "precision": "fp32"}},
            {"quantize": {"backend": "dynamic"}},
        ],
    )  # fmt: skip
    report = run(load_pipeline(path), tmp_path / "run")
    _, student, quantized = report.points
    accuracy = [point.measurement.quality["test"]["tickets/accuracy"].value for point in report.points]
    assert min(accuracy) > 0.8
    own = [point.artifact.manifest.preprocessing.sha256 for point in report.points]
    assert own[0] != own[1] == own[2]
    assert student.measurement.agreement_with_teacher > 0.8
    assert quantized.artifact.bytes < student.artifact.bytes
    bundle = load_artifact(tmp_path / "run")
    assert set(bundle.manifest.files) == {"README.md", "labels.txt", "tokenizer.json"}
    assert bundle.manifest.labels == QUEUES[::-1]
    (tmp_path / "ask.txt").write_text("password reset please\nmy parcel and the courier\n")
    asked = predicted(tmp_path / "run", "a refund of the invoice", str(tmp_path / "ask.txt"))
    given = as_texts(["a refund of the invoice", "password reset please", "my parcel and the courier"])
    # The client answers as it was evaluated: whether that is right, the accuracy says.
    assert asked == [QUEUES[::-1][best] for best in predict(bundle, given).argmax(1)]
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "run")]).exit_code == 0
    again = run(load_pipeline(path), tmp_path / "run")
    assert all(point.cached for point in again.points)


@pytest.mark.slow
def test_a_classifier_is_quantized_by_whichever_quantizer_does_it(tmp_path):
    """The second pipeline that the design asks for."""
    texts, labels = sentences(300)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    save_distilbert(tmp_path / "distilbert-tickets", QUEUES[::-1])
    path = write(
        tmp_path,
        task={"text_classification": TASK},
        model={"hf": "./distilbert-tickets"},
        stages=[{"quantize": {"mode": "ptq", "backend": {"tune": ["own", "onnxruntime", "dynamic"]}}}],
        budget={"p90_ms": 20, "accuracy_drop": 0.01},
    )
    report = run(load_pipeline(path), tmp_path / "run")
    tried = report.points[-1].decisions["tuned"]["tried"]
    assert [one["backend"] for one in tried] == ["own", "onnxruntime", "dynamic"]
    assert all(one["integer_operators"][0] > 0 for one in tried)


@pytest.mark.slow
def test_a_text_is_given_a_number(tmp_path):
    texts, labels = sentences(300)
    write_csv(tmp_path / "tickets.csv", texts, [QUEUES.index(label) - 0.5 for label in labels], ("body", "urgency"))
    save_distilbert(tmp_path / "net", None)
    path = write(
        tmp_path,
        task={"text_regression": {"csv": "tickets.csv", "text": "body", "target": "urgency"}},
        model={"hf": "./net"},
        stages=[{"train": {"epochs": 10, "batch": 16, "learning_rate": 5e-3, "optimizer": "adamw"}}],
    )
    report = run(load_pipeline(path), tmp_path / "run")
    assert report.points[-1].measurement.quality["test"]["tickets/spearman"].value > 0.5
    assert report.points[-1].artifact.manifest.target == "urgency"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"labels": ("login", "delivery", "sales")},
            "model: `id2label` of its configuration: this network was trained",
        ),
        ({"vocabulary": 60}, "knows 60 tokens, but the tokenizer .* has ids up to"),
        ({"inputs": "shop/queries"}, r"bench\.points\[0\]\.inputs.*`shop/queries` is nothing that this task"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(tmp_path, change, message):
    texts, labels = sentences(90)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    folder = save_distilbert(tmp_path / "net", change.get("labels", QUEUES))
    if "vocabulary" in change:
        save_distilbert(folder, QUEUES, table=change["vocabulary"])
    path = write(
        tmp_path,
        task={"text_classification": TASK},
        model={"hf": "./net"},
        stages=[{"quantize": {"backend": "dynamic"}}],
        bench={**BENCH, "points": [{"inputs": change.get("inputs", "data")}]},
    )
    with pytest.raises(BadInput, match=message):
        run(load_pipeline(path), tmp_path / "run")
