"""What the user can mend ends with 2 before anything is trained; a training that fails with 4, and what was is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from compresslab import Diverged, ImageClassification, TaskSpec, plan, run
from compresslab.cli.app import invoke
from compresslab.testing import stripes


def test_a_class_without_samples_is_named_before_anything_is_trained(
    tiny_pipeline, tmp_path, nothing_may_be_made, as_yaml, capsys
):
    arrays = stripes()
    kept = arrays["labels"] != 2
    data = {"images": arrays["images"][kept], "labels": arrays["labels"][kept], "label_names": arrays["label_names"]}
    np.savez(tmp_path / "two.npz", allow_pickle=False, **data)
    task = TaskSpec(image_classification=ImageClassification(npz=str(tmp_path / "two.npz")))
    path = as_yaml(replace(tiny_pipeline, task=task), tmp_path / "tiny.yaml")
    assert invoke(["run", str(path), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == (
        "error: `train` has no sample of class `diagonal`; add samples, or remove the label\n"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("index", "settings", "message"),
    [
        (1, {}, "distill: the loss became (nan|inf) in epoch 1, step [0-9]+, .*; lower `learning_rate` .now 1e.30."),
        (2, {"ratio": 0.4}, "prune: recover: the loss became (nan|inf) in epoch 1, .*; lower `learning_rate`"),
        (3, {"samples": 20}, "quantize: qat: the loss became (nan|inf) in epoch 1, .*; lower `learning_rate`"),
    ],
    ids=["distill", "recover", "qat"],
)
def test_a_loss_that_is_no_number_ends_with_the_stage_the_epoch_and_the_remedy(
    copied_run, as_yaml, tmp_path, capsys, index, settings, message
):
    wild = {"learning_rate": 1e30, "clip": None, "precision": "fp32"}
    stages = list(copied_run.pipeline.stages)
    name = ("", None, "recover", "qat")[index]
    changed = {name: getattr(stages[index], name).model_copy(update=wild)} if name else wild
    stages[index] = stages[index].model_copy(update={**settings, **changed})
    pipeline = replace(copied_run.pipeline, stages=stages)
    with pytest.raises(Diverged, match=message):
        run(pipeline, copied_run.out)
    if index == 1:
        capsys.readouterr()
        path = as_yaml(pipeline, tmp_path / "tiny.yaml")
        assert invoke(["run", str(path), "--out", str(copied_run.out), "--store", str(copied_run.store)]) == 4
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: distill: the loss became")
    last = json.loads((copied_run.out / "events.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["error"]) == ("stopped", "Diverged")
    kept = [line.cached for line in plan(pipeline, copied_run.out)]
    assert kept == [True] * (2 + index) + [False] * (4 - index), "what was finished before is kept"
