from __future__ import annotations

from compresslab.report.headline import warnings
from compresslab.report.notes import other_notes, stage_notes
from compresslab.report.schema import Results


def test_notes_are_grouped_by_the_stage_that_they_begin_with(found: Results) -> None:
    found["notes"] = [
        "quantize: ptq missed the budget", "distill: not tuned: temperature", "stripes: 3 images were skipped",
        "a and b are tied", "distill: no control was run",
    ]  # fmt: skip
    assert stage_notes(found) == {
        "distill": ["not tuned: temperature", "no control was run"],
        "quantize": ["ptq missed the budget"],
    }
    assert other_notes(found) == [*warnings(found), "stripes: 3 images were skipped", "a and b are tied"]


def test_a_stage_that_the_run_does_not_have_is_no_heading(found: Results) -> None:
    found["notes"] = ["train: the loss did not fall"]
    assert stage_notes(found) == {}
    assert "train: the loss did not fall" in other_notes(found)
