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
from compresslab.teacher.answers import OUTPUT, Answers, Cache

if TYPE_CHECKING:
    from compresslab.progress import Progress
    from compresslab.tasks import Task

Floats = npt.NDArray[np.float32]


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
        for split in task.splits.values():
            if split.part in parts:
                continue
            if split.part not in found:
                there = ", ".join(f"`{name}`" for name in found) or "nothing"
                raise DataError(
                    f"{path}: has no predictions `{split.part}`, which the split `{split.name}` needs; found {there}. "
                    "There must be one array for each part of the data, in the order of its samples"
                )
            parts[split.part] = _checked(f"{path}: `{split.part}`", found[split.part], task)
        for split in task.splits.values():
            most = int(split.rows.max()) + 1
            if len(parts[split.part]) < most:
                raise DataError(
                    f"{path}: `{split.part}` has {len(parts[split.part])} rows, but the data has at least {most} "
                    "samples there; predict for all samples of the source, in its order"
                )
        return ArrayTeacher(parts, digest_file(path), task)

    def answers(
        self,
        split: str,
        seed: int | None,
        progress: Progress,  # noqa: ARG002  as every teacher
        *,
        mixup: float = 0.0,
        outputs: Sequence[str] = (OUTPUT,),
        cache: Cache = Cache(),  # noqa: ARG002, B008  nothing is computed, so nothing is kept
    ) -> Answers:
        """As `Teacher.answers`, for samples as they are."""
        self.require(mixup if seed is not None else 0.0, outputs)
        part = self.task.splits[split]
        return _Rows(self.parts[part.part], part.rows)

    def require(self, mixup: float, outputs: Sequence[str]) -> None:
        """As `Teacher.require`.

        Raises:
            DataError: The samples are augmented or mixed: the predictions would be of other samples.
            ModelError: Features of layers are asked for.
        """
        if mixup or not self.task.augmentation.changes_nothing:
            raise DataError(
                "a teacher given as predictions cannot answer for augmented or mixed samples; remove `augment` from "
                "the task and `mixup` from the stage, or give the teacher as a network"
            )
        layers = [name for name in outputs if name != OUTPUT]
        if layers:
            raise ModelError(
                f"a teacher given as predictions has no layer `{layers[0]}`; leave out the losses on features, or give "
                "the teacher as a network"
            )


@dataclass(frozen=True)
class _Rows:
    predictions: Floats
    rows: npt.NDArray[np.int64]

    def of(self, rows: npt.NDArray[np.int64]) -> Mapping[str, Floats]:
        return {OUTPUT: self.predictions[self.rows[rows]]}


def _checked(where: str, array: npt.NDArray[np.generic], task: Task) -> Floats:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{where}: predictions must be numbers, but are {array.dtype}")
    values = np.asarray(array, np.float32)
    if values.ndim == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != task.outputs:
        raise DataError(
            f"{where}: predictions must have shape [n, {task.outputs}], one column for each output of the task, but "
            f"have {list(array.shape)}"
        )
    broken = int((~np.isfinite(values)).any(axis=1).sum())
    if broken:
        raise DataError(f"{where}: {broken} rows hold NaN or infinity; give logits (the logarithm of 0 is infinite)")
    return values
