"""Predictions in a file as teacher: so anything can teach, also what is no torch module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.data.npz import read_arrays
from compresslab.digest import digest_file
from compresslab.errors import DataError, ModelError
from compresslab.teacher.answers import OUTPUT, Answers, Question

if TYPE_CHECKING:
    from compresslab.progress import Progress
    from compresslab.tasks import Split, Task

Floats = npt.NDArray[np.float32]

# Rounded to three digits, the probabilities of a thousand classes may be off by this much together; logits are not so
# near by chance.
_SUMS_TO_ONE = 0.01


@dataclass(frozen=True)
class ArrayTeacher:
    """Predictions for each part of the task's source, in the source's own order.

    Args:
        parts: By the name of the part (`train`, and `validation`, `test`, `transfer` where the source has them):
            logits, or log-probabilities, float32 [n, outputs].
        digest: Identifies the predictions.
        task: Whose samples they are for.
    """

    parts: Mapping[str, Floats]
    digest: str
    task: Task

    @staticmethod
    def read(path: Path, task: Task) -> ArrayTeacher:
        """The predictions in an .npz file.

        Raises:
            DataError: A part is missing, has another number of rows or outputs than the task, or is not finite.
        """
        found = read_arrays(path)
        parts: dict[str, Floats] = {}
        # Of samples that only set quantization ranges nobody asks what the teacher says.
        asked = [split for split in task.splits.values() if split.part != "calibration"]
        for split in asked:
            if split.part in parts:
                continue
            if split.part not in found:
                there = ", ".join(f"`{name}`" for name in found) or "nothing"
                raise DataError(
                    f"{path}: has no predictions `{split.part}`, which the split `{split.name}` needs; found {there}. "
                    "There must be one array for each part of the data, in the order of its samples"
                )
            parts[split.part] = _checked(f"{path}: `{split.part}`", found[split.part], task)
        for split in asked:
            _require_rows(path, split, len(parts[split.part]))
        return ArrayTeacher(parts, digest_file(path), task)

    def answers(self, question: Question, progress: Progress) -> Answers:  # noqa: ARG002  nothing is computed
        """As `Teacher.answers`, for samples as they are."""
        _require_output(question.outputs)
        if question.seed is not None:
            self._require_as_they_are(question.mixup)
        split = self.task.splits[question.split]
        return _Rows(self.parts[split.part], split.rows)

    def exact(self) -> ArrayTeacher:
        """As `Teacher.exact`."""
        return self

    def require(self, mixup: float, outputs: Sequence[str]) -> None:
        """As `Teacher.require`.

        Raises:
            DataError: The samples are augmented or mixed: the predictions would be of other samples.
            ModelError: Features of layers are asked for.
        """
        _require_output(outputs)
        self._require_as_they_are(mixup)

    def _require_as_they_are(self, mixup: float) -> None:
        if mixup or not self.task.augmentation.changes_nothing:
            raise DataError(
                "a teacher given as predictions cannot answer for augmented or mixed samples; remove `augment` from "
                "the task and `mixup` from the stage, or give the teacher as a network"
            )


@dataclass(frozen=True)
class _Rows:
    predictions: Floats
    rows: npt.NDArray[np.int64]

    def of(self, rows: npt.NDArray[np.int64]) -> Mapping[str, Floats]:
        return {OUTPUT: self.predictions[self.rows[rows]]}


def _require_output(outputs: Sequence[str]) -> None:
    layers = [name for name in outputs if name != OUTPUT]
    if layers:
        raise ModelError(
            f"a teacher given as predictions has no layer `{layers[0]}`; leave out the losses on features, or give "
            "the teacher as a network"
        )


def _require_rows(path: Path, split: Split, rows: int) -> None:
    """Predictions of other data than the task's are no use, and nothing but their number tells them apart."""
    there = split.part_size
    if rows != there:
        raise DataError(
            f"{path}: `{split.part}` has {rows} rows, but the data has {there} samples there; predict for all samples "
            "of the source, in its order, also for those that are split off or left out"
        )


def _checked(where: str, array: npt.NDArray[np.generic], task: Task) -> Floats:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{where}: predictions must be numbers, but are {array.dtype}")
    with np.errstate(over="ignore"):
        values = np.asarray(array, np.float32)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or task.columns not in (None, values.shape[1]):
        wanted = f"[n, {task.columns}], one column for each output of the task"
        if task.columns is None:
            wanted = "[n, width], an embedding for each sample"
        raise DataError(f"{where}: predictions must have shape {wanted}, but have {list(array.shape)}")
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise DataError(
            f"{where}: {broken} of {len(values)} rows hold NaN or infinity, or are too large for float32; give logits "
            "(the logarithm of 0 is infinite)"
        )
    if task.labels and values.min() >= 0 and np.abs(values.sum(axis=1, dtype=np.float64) - 1).max() < _SUMS_TO_ONE:
        raise DataError(
            f"{where}: these are probabilities (no value is negative, and every row sums to 1); give logits, or "
            "`numpy.log(numpy.maximum(probabilities, 1e-7))`"
        )
    return values
