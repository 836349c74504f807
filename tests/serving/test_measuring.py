"""Measured here, a plan rests on figures of this machine."""

from __future__ import annotations

import pytest

from compresslab.measure.artifact import Artifact
from compresslab.serving import measuring, plan


@pytest.mark.slow
def test_every_graph_is_measured_at_every_batch(pair: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "BATCHES", (1, 4))
    found = measuring.measure_for_serving(pair, cores=1, dims={})
    assert [(one.graph, one.batch, one.threads) for one in found] == [
        ("image", 1, 1), ("image", 4, 1), ("text", 1, 1), ("text", 4, 1),
    ]  # fmt: skip
    assert all(one.p50 > 0 for one in found)
    assert plan("text", found, cores=1, max_batch=64).why[0].startswith("batch ")
