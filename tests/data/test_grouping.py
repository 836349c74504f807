"""What shares something is of one group."""

import numpy as np

from compresslab.data.grouping import connected, numbered


def test_values_are_numbered_as_they_come() -> None:
    assert numbered(["b", "a", "b", "c"]) == [0, 1, 0, 2]


def test_edges_that_meet_are_of_one_component() -> None:
    """a-x, b-x and b-y hang together by x and b; c-z stands alone."""
    assert connected([0, 1, 1, 2], [0, 0, 1, 2]).tolist() == [0, 0, 0, 1]
    assert connected(np.array([0, 1]), np.array([0, 1])).tolist() == [0, 1], "the same number on both sides is no edge"
