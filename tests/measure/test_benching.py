from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.benching import benchmark
from compresslab.measure.subject import made_up_samples, subject_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.artifact import Artifact


def test_models_are_measured_beside_a_twin_of_the_first(
    make_artifact: Callable[..., Artifact], right: np.ndarray
) -> None:
    settings = BenchSettings(
        points=(BenchPoint(), BenchPoint(batch=4)), min_seconds=0.02, min_count=120, processes=2, warmup_seconds=0.02
    )
    artifacts = [make_artifact("one", right), make_artifact("two", right * 2)]
    images = made_up_samples(artifacts[0].manifest.preprocessing)
    document, recorded = benchmark([subject_of(one, images, 4) for one in artifacts], settings)
    assert [len(point) for point in recorded] == [3, 3]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document) == {"schema_version", "machine", "settings", "noise", "models"}
    assert document["noise"]["smallest_difference"] >= 0.0
    first, second = document["models"]
    assert first["points"][0]["speedup_over_first"] is None
    assert second["points"][1]["speedup_over_first"]["verdict"] in ("faster", "slower", "no_difference", "inconclusive")
    point = second["points"][1]
    assert point["batch"] == 4
    assert (point["p999"] is None) == (point["calls"] < 10_000)
    assert point["calls"] == recorded[1][1].count
    mean = np.concatenate([process.ravel() for process in recorded[1][1].processes]).mean() / 1e9
    assert point["examples_per_second"] == pytest.approx(4 / mean)
    assert point["p90"]["low"] <= point["p90"]["value"] <= point["p90"]["high"]
