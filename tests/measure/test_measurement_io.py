from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from compresslab.errors import ArtifactError
from compresslab.measure.measurement_io import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from compresslab.measure.measurement import Measurement


def test_a_measurement_survives_json_exactly(make_measurement: Callable[..., Measurement]) -> None:
    for measurement in (make_measurement(), make_measurement(versus_parent=None, versus_baseline=None, retention={})):
        text = json.dumps(to_json(measurement), allow_nan=False)
        assert from_json(json.loads(text)) == measurement
        assert json.dumps(to_json(from_json(json.loads(text)))) == text


def test_the_names_are_those_of_results_json(make_measurement: Callable[..., Measurement]) -> None:
    plain = to_json(make_measurement())
    assert plain["quality"]["test"]["toy/accuracy"] == {"value": 0.1 + 0.2, "low": 0.25, "high": 0.35, "n": 10000}
    assert plain["latency"][0]["p99"] is None
    assert plain["versus_parent"]["verdict"] == "faster"


def test_a_measurement_from_before_there_were_classes_is_read(make_measurement: Callable[..., Measurement]) -> None:
    """The gate reads what a run recorded, which may be a year old."""
    older = to_json(make_measurement())
    del older["retention_by_class"], older["versus_control"]
    assert from_json(older) == make_measurement(retention_by_class={}, versus_control=None)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("peak_rss_mb", "61.7", "peak_rss_mb: Input should be a valid number"),
        ("latency", None, "latency: Input should be a valid array"),
        ("versus_control", 0.01, "versus_control: Input should be an object"),
        ("versus_parent", {"verdict": "fastest"}, r"versus_parent\.verdict: Input should be 'faster'"),
    ],
)
def test_anything_else_is_refused(
    make_measurement: Callable[..., Measurement], key: str, value: object, message: str
) -> None:
    with pytest.raises(ArtifactError, match=f"not a measurement that this version reads.*{message}"):
        from_json({**to_json(make_measurement()), key: value})
