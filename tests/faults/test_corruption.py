"""Damaged files are noticed, told, and made again to the same bytes; nothing else is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compresslab import Store, run
from compresslab.progress import Silent


def flip(path: Path, position: int = -7) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 0x10
    path.write_bytes(bytes(content))


def entry(out: Path, store: Path, stage: str) -> Path:
    """The store's folder of a finished stage."""
    lines = map(json.loads, (out / "events.jsonl").read_text().splitlines())
    (key,) = {line["key"] for line in lines if line["event"] == "stage" and line["stage"] == stage}
    return store / "entries" / "stage" / key


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3000])


DAMAGES = {
    "baseline": ("0/artifact/model.onnx", flip),
    "train": ("0/weights.safetensors", flip),
    "distill": ("0/artifact/manifest.json", Path.unlink),
}


def test_damaged_entries_are_told_and_made_again_to_the_same_bytes(copied_run, model_hashes):
    before = model_hashes(copied_run.out)
    for stage, (file, damage) in DAMAGES.items():
        damage(entry(copied_run.out, copied_run.store, stage) / file)
    report = run(copied_run.pipeline, copied_run.out)
    told = [note for note in report.notes if "was damaged" in note]
    assert len(told) == len(DAMAGES)
    for note, (file, _) in zip(told, DAMAGES.values(), strict=True):
        assert note.startswith("the cache entry stage/")
        assert f"({file} " in note
    assert [point.stage for point in report.points if not point.cached] == list(DAMAGES)
    assert model_hashes(copied_run.out) == before
    again = run(copied_run.pipeline, copied_run.out)
    assert all(point.cached for point in again.points)
    assert not [note for note in again.notes if "damaged" in note], "only the run that found the damage tells of it"


def test_a_damaged_measurement_is_taken_again(copied_run):
    (first, *_) = sorted(copied_run.store.glob("entries/measurement/*/measurement.json"))
    flip(first)
    report = run(copied_run.pipeline, copied_run.out)
    assert any(f"the cache entry measurement/{first.parent.name[:12]} was damaged" in note for note in report.notes)
    assert [point.cached for point in report.points].count(False) == 1


def test_a_run_directory_that_was_tampered_with_is_written_again(copied_run, model_hashes, nothing_may_be_made):
    before = model_hashes(copied_run.out)
    for pattern in ("stages/*/model.onnx", "stages/*/weights.safetensors", "selected/model.onnx"):
        for path in copied_run.out.glob(pattern):
            flip(path)
    assert model_hashes(copied_run.out) != before
    run(copied_run.pipeline, copied_run.out)
    assert model_hashes(copied_run.out) == before


class Stopping(Silent):
    """Stops the run in the third epoch of a training, as Ctrl-C does."""

    def advance(self, steps: int = 1, **values: float) -> None:
        if values.get("epoch") == 3:
            raise KeyboardInterrupt("in the third epoch")


@pytest.mark.parametrize("damage", [cut, lambda path: flip(path, -20_000)])
def test_a_damaged_checkpoint_is_told_and_the_training_starts_again(copied_run, model_hashes, damage):
    """A byte changed among the weights goes unnoticed by torch; the weights that come out must not depend on it."""
    before = model_hashes(copied_run.out)
    store = Store(copied_run.store)
    store.discard("stage", entry(copied_run.out, copied_run.store, "train").name)
    with pytest.raises(KeyboardInterrupt, match="third epoch"):
        run(copied_run.pipeline, copied_run.out, progress=Stopping())
    (checkpoint,) = copied_run.store.glob("scratch/stage/*/train.checkpoint")
    damage(checkpoint)
    report = run(copied_run.pipeline, copied_run.out)
    assert "train: the checkpoint train.checkpoint is damaged; this training starts again" in report.notes
    assert [point.stage for point in report.points if not point.cached] == ["train"]
    assert model_hashes(copied_run.out) == before
    assert store.leftovers() == ()
