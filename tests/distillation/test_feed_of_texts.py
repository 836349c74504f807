"""Texts of a length are trained on and answered together, each with the label and the answer of its own."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from compresslab.config import load_pipeline
from compresslab.distillation.feed import Feed
from compresslab.distillation.sampling import Sampling
from compresslab.distillation.scoring import predicted
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.tasks import Task
from compresslab.teacher import OUTPUT, NetworkTeacher, Question
from compresslab.testing import context
from tests.texts import save_distilbert, sentences, write_csv


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> tuple[Task, NetworkTeacher]:
    folder: Path = tmp_path_factory.mktemp("texts")
    write_csv(folder / "tickets.csv", *sentences(600))
    (folder / "transfer.txt").write_text("\n".join(sentences(150, seed=5)[0]), encoding="utf-8")
    save_distilbert(folder / "model")
    (folder / "p.yaml").write_text(
        "task: {text_classification: {csv: tickets.csv, text: body, label: queue, transfer: transfer.txt}}\n"
        "model: {hf: ./model}\nstages: [{quantize: {backend: dynamic}}]\n",
        encoding="utf-8",
    )
    pipeline = load_pipeline(folder / "p.yaml")
    task = pipeline.task.load(folder / "store", pipeline.model)
    model = pipeline.model.build(task.signature)
    own = task.read_by(model.preprocessing)
    return own, NetworkTeacher(model.module, "it", own, Store(folder / "answers"), precision="fp32")


def test_every_text_comes_once_an_epoch_with_its_label_and_its_answer_beside_others_of_its_length(taught, tmp_path):
    task, teacher = taught
    given = replace(context(tmp_path, task, seed=3), teacher=teacher)
    feed = Feed(given, Sampling(epochs=2, batch=16), (OUTPUT,), unlabelled=True)
    seen, padding, filled = Counter(), 0, 0
    for batch in feed.batches(0):
        width = (batch.inputs != 0).sum(1)
        padding, filled = padding + int((batch.inputs == 0).sum()), filled + batch.inputs.numel()
        with torch.inference_mode():
            torch.testing.assert_close(batch.teacher[OUTPUT], teacher.module(batch.inputs), atol=1e-4, rtol=0)
        for ids, count in zip(batch.inputs, width, strict=True):
            seen[ids[:count].numpy().tobytes()] += 1
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == 16 * feed.steps
    assert padding / filled < 0.15  # a third, in batches as they are drawn


def test_answers_and_scores_are_in_the_order_of_the_split(taught):
    task, teacher = taught
    rows = np.random.default_rng(0).permutation(len(task.splits["train"].inputs))[:40]
    one_by_one = np.concatenate([predicted(teacher.module, task, "train", rows[[at]]) for at in range(len(rows))])
    np.testing.assert_allclose(predicted(teacher.module, task, "train", rows), one_by_one, atol=1e-4)
    stored = teacher.answers(Question("train", None, 0.0, (OUTPUT,), Sampling(epochs=1).cache), Silent())
    np.testing.assert_allclose(stored.of(rows)[OUTPUT], one_by_one, atol=2e-3)
