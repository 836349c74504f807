from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from compresslab.errors import ArtifactError
from compresslab.measure.samples import LatencySamples
from compresslab.measure.samples_file import read_samples, write_samples


def test_samples_come_back_as_they_were(tmp_path) -> None:
    """Twelve processes: sorted as text, 10 would come before 2."""
    rng = np.random.default_rng(0)
    recorded = [
        [LatencySamples(tuple(rng.integers(1, 10**9, (3 + k, 4)) for k in range(12))) for _ in range(2)]
        for _ in range(2)
    ]
    found = read_samples(write_samples(tmp_path / "deep" / "samples.npz", recorded))
    assert [len(point) for point in found] == [2, 2]
    for point, model in product(range(2), range(2)):
        for one, other in zip(recorded[point][model].processes, found[point][model].processes, strict=True):
            np.testing.assert_array_equal(one, other)


def test_anything_else_is_refused(tmp_path) -> None:
    path = tmp_path / "samples.npz"
    with pytest.raises(ArtifactError, match=r"not the raw samples of a benchmark .*; measure again"):
        read_samples(path)
    np.savez(path, images=np.zeros(3))
    with pytest.raises(ArtifactError, match="`images` is no recording"):
        read_samples(path)
    write_samples(path, [[LatencySamples((np.ones((4, 4), np.int64),))]])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="not the raw samples"):
        read_samples(path)
