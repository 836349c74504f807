"""Which versions of which samples a training sees."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from compresslab.errors import BadInput
from compresslab.teacher import Cache
from compresslab.training import FitSettings

if TYPE_CHECKING:
    from compresslab.tasks import Task


class Sampling(FitSettings):
    """How a network is trained, and which versions of which samples it sees."""

    views: int | None = Field(None, ge=1)
    """Augmented views of the training split that the epochs cycle through; null for a new one each epoch. The
    teacher answers each view once, so fewer views cost less teacher time and give less variety."""
    mixup: float = Field(0.0, ge=0, le=1)
    """Share of the samples that are blended with another one; teacher and student see the same blend, and labels are
    blended alike. With long training and no weight on the labels this is function matching."""
    transfer_ratio: float | None = Field(None, gt=0)
    """Samples of the task's `transfer` split in an epoch for each training sample; null takes all of them once. They
    have no labels, so a teacher (or peer) alone speaks about them."""
    cache: Cache = Cache()
    """How the teacher's answers are kept."""

    def require_transfer(self, task: Task) -> None:
        """Checks that there is what `transfer_ratio` is about.

        Raises:
            BadInput: The task has no unlabelled samples.
        """
        if self.transfer_ratio is not None and "transfer" not in task.splits:
            raise BadInput(
                f"`transfer_ratio: {self.transfer_ratio:g}` is given, but {task.name} has no unlabelled samples; give "
                "`transfer` in the task, or leave it out"
            )
