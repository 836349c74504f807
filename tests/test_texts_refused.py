"""Pipelines on texts and on two towers that cannot be: told on the command line with 2, before anything is made."""

from __future__ import annotations

import re

import numpy as np
import pytest
import yaml
from PIL import Image

from compresslab import load_pipeline
from compresslab.cli.app import invoke
from compresslab.models import ModelSpec
from compresslab.preflight import fitting_model, lost_head
from tests.models.encoders import save_sentence_transformers
from tests.texts import QUEUES, save_distilbert, save_graph, sentences, write_csv

CLASSES = {"text_classification": {"csv": "tickets.csv", "text": "body", "label": "queue"}}
PAIRS = [(f"the cat sat {a} {b}", f"a dog on {a} {b} mat") for a in "abcdefgh" for b in "klmnopqr"]
TOKENS = "transformer.encoder.layer.1"
DISTIL = {"epochs": 1, "batch": 8}
ENCODER = {"sentence_transformers": "./encoder"}
WIDE = {"sentence_transformers": "./wide"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks, and files of texts, pairs and images; none of them is changed by a test."""
    pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("refused")
    write_csv(folder / "tickets.csv", *sentences(120))
    save_distilbert(folder / "model")
    (folder / "encoder").mkdir()
    save_sentence_transformers(folder / "encoder")
    (folder / "wide").mkdir()
    save_sentence_transformers(folder / "wide", dense=100)
    columns = ("query", "document")
    write_csv(folder / "pairs.csv", *map(list, zip(*PAIRS, strict=True)), columns)
    write_csv(folder / "few.csv", *map(list, zip(*[(f"sat {a}", f"on {a}") for a in "abc"], strict=True)), columns)
    rows = []
    for row, (text, _) in enumerate(PAIRS):
        Image.fromarray(np.full((8, 8, 3), row, np.uint8)).save(folder / f"{row}.png")
        rows.append(f"{row}.png,{'the cat' if row >= 48 else text},{'validation' if row >= 48 else 'train'}")
    (folder / "images.csv").write_text("\n".join(["image,text,split", *rows]), encoding="utf-8")
    for names in (("ids",), ("ids", "mask")):
        save_graph(folder / f"{'_'.join(names)}.onnx", names)
    return folder


def embedding(**more):
    return {"text_embedding": {"pairs": {"csv": "pairs.csv"}, **more}}


def feature(kind):
    between = {"student": TOKENS, "teacher": TOKENS}
    if kind == "hidden_states":
        between = {key: [name] for key, name in between.items()}
    return {"distill": {**DISTIL, "losses": [{"embedding": {}}, {kind: between}]}}


def static(width, **more):
    return {"distill": {**DISTIL, "student": {"static": {"width": width, **more}}}}


REFUSED = {
    "features of tokens": (
        {"task": embedding(), "model": ENCODER, "stages": [feature("hint")]},
        r"stages\[0\]\.distill: `hint`: the student's layer `\S+` answers for each token of a text, .*`embedding`,",
    ),
    "relations of tokens": (
        {"task": embedding(), "model": ENCODER, "stages": [feature("rkd")]}, "`rkd`: the student's layer .* for each"
    ),
    "hidden states of tokens": (
        {"task": embedding(), "model": ENCODER, "stages": [feature("hidden_states")]}, "`hidden_states`: the student's"
    ),
    "a graph of towers that are none": (
        {"task": CLASSES, "model": {"hf": "./model"}, "bench": {"points": [{"graph": "text"}]}},
        r"bench\.points\[0\]\.graph: there is no graph `text`; allowed is `model`",
    ),
    "queries of classes": (
        {"task": CLASSES, "model": {"hf": "./model"}, "bench": {"points": [{"inputs": "validation/queries"}]}},
        r"bench\.points\[0\]\.inputs: `validation/queries` is nothing .* allowed are `example`, `data`",
    ),
    "an ONNX file that is to be told the padding": (
        {
            "task": {"text_classification": {**CLASSES["text_classification"], "tokenizer": "model/tokenizer.json"}},
            "model": {"onnx": "ids_mask.onnx"}, "stages": [{"quantize": {"backend": "dynamic"}}],
        },
        r"ids_mask\.onnx: it takes `ids` .* `mask` .*; give the network itself .* with `input_ids` alone",
    ),
    "validation that is all in test": (
        {
            "task": embedding(validation_pairs={"csv": "few.csv"}, test_pairs={"csv": "few.csv"}), "model": ENCODER,
            "stages": [{"distill": DISTIL}],
        },
        "every validation text is also in the test split; give others",
    ),
    "likeness without scores": (
        {"task": embedding(metric="similarity"), "model": ENCODER, "stages": [{"distill": DISTIL}]},
        "`metric: similarity` is measured on pairs with scores; give `validation_pairs` and `test_pairs`",
    ),
    "a table of tokens for classes": (
        {"task": CLASSES, "model": {"hf": "./model"}, "stages": [{"distill": {**DISTIL, "student": {"static": {}}}}]},
        r"stages\[0\]\.distill: student: `static` makes embeddings, and the task asks for none",
    ),
    "a table that is wider than what it is made of": (
        {"task": embedding(), "model": WIDE, "stages": [static(101)]},
        r"stages\[0\]\.distill: student: `width` is 101, but the teacher's embeddings are 100 wide and there are \d+ ",
    ),
    "a table that is wider than its tokens": (
        {"task": embedding(), "model": WIDE, "stages": [static(90)]}, r"100 wide and there are \d\d tokens that tell "
    ),
    "a table that is wider than the tokens that are left": (
        {"task": embedding(), "model": WIDE, "stages": [static(64, vocabulary={"trim": {"min_count": 40}})]},
        r"there are \d\d tokens that tell texts apart; give \d\d or fewer, or lower `min_count`",
    ),
    "a token that must occur never": (
        {
            "task": embedding(), "model": ENCODER,
            "stages": [
                {"distill": {**DISTIL, "student": {"from_teacher": {"vocabulary": {"trim": {"min_count": 0}}}}}}
            ],
        },
        "`trim`: `min_count` is 0: Input should be greater than or equal to 1",
    ),
}  # fmt: skip


def write(folder, name, pipeline):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"stages": [{"quantize": {"backend": "dynamic"}}], **pipeline}), encoding="utf-8")
    return path


@pytest.mark.parametrize("what", REFUSED)
def test_refused_with_the_remedy(folder, tmp_path, capsys, nothing_may_be_made, what):
    pipeline, told = REFUSED[what]
    path = write(folder, "refused", pipeline)
    assert invoke(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert re.search(told, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_search_that_cannot_fail_is_told(folder, tmp_path):
    """Among three documents every answer is among the nearest ten."""
    path = write(folder, "few", {"task": embedding(validation_pairs={"csv": "few.csv"}), "model": ENCODER})
    pipeline = load_pipeline(path)
    task = pipeline.task.load(tmp_path, pipeline.model)
    assert any(
        note.startswith("`validation`: `recall@10` is 1 whatever a model answers, as there are only 3 documents")
        for note in task.notes
    )


def test_a_split_of_one_text_is_no_error(folder, tmp_path, capsys, nothing_may_be_made):
    """Images of one text: networks are tried on two samples where there are two."""
    pipeline = {
        "task": {"cross_modal": {"pairs": "images.csv"}},
        "model": {"image": {"residual": {"widths": [8]}}, "text": ENCODER},
        "stages": [{"image": {"train": DISTIL}}],
    }
    assert invoke(["run", str(write(folder, "one", pipeline)), "--plan", "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().err == ""


def test_an_onnx_file_that_reads_ids_alone_fits_a_task_on_texts(folder, tmp_path):
    """As our own export is: of ids, and nothing beside."""
    texts = {"text_classification": {**CLASSES["text_classification"], "tokenizer": "model/tokenizer.json"}}
    pipeline = load_pipeline(write(folder, "graph", {"task": texts, "model": {"onnx": "ids.onnx"}}))
    task = pipeline.task.load(tmp_path)
    assert fitting_model("model", pipeline.model, task, 0).path.name == "ids.onnx"


def test_a_head_that_was_trained_for_these_labels_is_not_lost_unseen(folder):
    """A new one is trained from nothing."""
    spec = ModelSpec(hf=str(folder / "model"), head="new")
    assert lost_head(spec, QUEUES[::-1]).startswith("`head: new` leaves out the head for these labels that")
    assert lost_head(spec, ("a", "b", "c")) is None
    assert lost_head(ModelSpec(hf=str(folder / "model")), QUEUES) is None
