"""What a task asks of a network: which inputs it reads, and how many numbers it answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reads = Literal["images", "features", "texts"]


@dataclass(frozen=True)
class Signature:
    """The two ends of a network.

    Args:
        reads: `images`: float32 [b, inputs, h, w]; `features`: float32 [b, inputs]; `texts`: ids of tokens, int64
            [b, seq].
        inputs: Channels of the images, features of a sample, or how many ids there are.
        outputs: Answers [b, outputs]: a logit for each label, or the one number that is asked for.
        center: What an answer of nothing is, in the units of the targets.
        scale: By how much targets typically differ from `center`. A network of ours computes in these units inside
            and answers in those of the targets, so that it learns targets of any size equally well.
        any_width: Whether `outputs` is only what a new network gets, and one that is there may have another number:
            embeddings.
    """

    reads: Reads
    inputs: int
    outputs: int
    center: float = 0.0
    scale: float = 1.0
    any_width: bool = False
