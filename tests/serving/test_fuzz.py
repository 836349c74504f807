"""The malformed requests themselves: the same every time, each really malformed, and no fault left out."""

from __future__ import annotations

import json

from benchmarks.servers.fuzz import KILLS_OLD_TRITON, malformed

VALID = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2, 2], "data": [0.5, 1.5, 2.5, 3.5]}]}


def test_a_seed_gives_the_same_requests() -> None:
    first, again, other = (list(malformed("m", VALID, 100, seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_every_fault_is_there_and_can_be_left_out() -> None:
    faults = {request.fault for request in malformed("m", VALID, 200, 0)}
    assert len(faults) == 37
    assert faults > KILLS_OLD_TRITON
    assert {request.fault for request in malformed("m", VALID, 200, 0, KILLS_OLD_TRITON)} == faults - KILLS_OLD_TRITON


def test_none_is_the_valid_request() -> None:
    """Only where it is sent elsewhere may the body be right."""
    for request in malformed("m", VALID, 400, 3):
        if request.fault != "elsewhere":
            assert request.body != json.dumps(VALID).encode(), request.fault
        else:
            assert request.path != "/v2/models/m/infer"
