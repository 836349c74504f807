"""mixup: every sample blended with another one, both drawn from (sample id, seed)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compresslab.data.randomness import integers, uniform

# Far from the streams of the augmentations, which are numbered from 0.
_WHETHER, _PARTNER, _SHARE = range(1000, 1003)


def mixing(
    ids: npt.NDArray[np.uint64], samples: int, seed: int, probability: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """With whom each sample is mixed, and its own share in the blend.

    The share is uniform in [0, 1), as function matching has it (Beyer et al., "Knowledge distillation: A good teacher
    is patient and consistent", CVPR 2022, arXiv 2106.05237); the method is Zhang et al., "mixup", ICLR 2018. The
    partner is drawn from all samples of the split, never from the batch, so that any batch gives the same blend.

    Args:
        ids: Sample ids [n].
        samples: How many samples the split has.
        seed: Of the view.
        probability: Share of the samples that are mixed at all.

    Returns:
        Rows of the partners [n], and shares [n] in [0, 1]; the share is 1 where a sample stays as it is.
    """
    partners = integers(ids, seed, _PARTNER, 0, samples - 1)
    shares = uniform(ids, seed, _SHARE).astype(np.float32)
    shares[uniform(ids, seed, _WHETHER) >= probability] = 1.0
    return partners, shares
