"""What a quantize step says of the samples that set its ranges."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from compresslab import Quantize
from compresslab.progress import Noting, Silent
from compresslab.stage import Context
from compresslab.tasks import ImageClassification, Task, TaskSpec
from compresslab.testing import context, stripes, tiny_candidate, tiny_task


def told(stage: Quantize, folder: Path, task: Task | None = None) -> tuple[dict, list[str]]:
    """The decisions of the step, and the notes."""
    progress = Noting(Silent())
    folder.mkdir(exist_ok=True)
    here: Context = replace(context(folder, task or tiny_task(folder)), progress=progress)
    (made,) = stage.apply(tiny_candidate(), here)
    return dict(made.lineage[-1].decisions), list(progress.notes)


def test_samples_and_classes(tmp_path: Path) -> None:
    decisions, notes = told(Quantize(samples=12), tmp_path)
    calibration = decisions["calibration"]
    assert decisions["samples"] == 12
    assert (calibration["classes"], calibration["of_classes"], calibration["missing"]) == (3, 3, [])
    assert calibration["of"] > 12
    assert "over_subsets" not in calibration
    assert notes == []


def test_a_class_without_a_sample_is_told(tmp_path: Path) -> None:
    decisions, notes = told(Quantize(samples=1), tmp_path)
    assert len(decisions["calibration"]["missing"]) == 2
    assert notes[0].startswith("calibration has no sample of 2 of 3 classes: `")


def test_the_spread_over_random_subsets(tmp_path: Path) -> None:
    decisions, notes = told(Quantize(samples=8, calibration_seeds=3), tmp_path)
    found = decisions["calibration"]["over_subsets"]
    assert (found["subsets"], found["size"], len(found["quality"])) == (3, 8, 3)
    assert notes == [
        f"over 3 random calibration subsets of 8, accuracy on validation is {found['mean']:.4f} with a deviation of "
        f"{found['std']:.4f}"
    ]
    assert told(Quantize(samples=8, calibration_seeds=3), tmp_path / "again")[0] == decisions


def test_samples_without_labels_are_welcome(tmp_path: Path) -> None:
    np.savez(tmp_path / "stripes.npz", **stripes())
    np.savez(tmp_path / "field.npz", images=stripes(40, seed=7)["images"])
    data = ImageClassification(npz=str(tmp_path / "stripes.npz"), calibration_data=str(tmp_path / "field.npz"))
    decisions, notes = told(Quantize(), tmp_path, TaskSpec(image_classification=data).load(tmp_path))
    assert decisions["samples"] == 40
    assert decisions["calibration"] == {
        "of": 40, "disjoint": "no sample is in another split, by content hash", "labelled": False,
    }  # fmt: skip
    assert notes == []
