from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from compresslab.errors import ConfigError
from compresslab.measure.gate_budget import GateBudget, GateGraphLimits
from compresslab.strict_yaml import parse
from compresslab.validation import validate


def budget(text: str) -> GateBudget:
    return validate(parse(text, "budget.yaml"), GateBudget, base=Path())


def test_a_budget_file_says_the_limits_and_the_way_of_calling() -> None:
    found = budget("p90_ms: 5\np50_slower: 0.05\nbatch: 8\nretention: {toy/accuracy: 0.99}\n")
    assert (found.p90_ms, found.p50_slower, found.batch, found.threads) == (5.0, 0.05, 8, 1)
    assert found.limited == ("p90_ms", "p50_slower", "retention.toy/accuracy")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("p90: 5\n", r"budget.yaml:1: unknown key `p90`; did you mean `p90_ms`\?"),
        ("p90_us: 5\n", r"budget.yaml:1: unknown key `p90_us`; did you mean `p90_ms`\?"),
        ("p50_slower: 0.1\nthread: 1\n", r"budget.yaml:2: unknown key `thread`; did you mean `threads`\?"),
        ("p90_ms: 5 ms\n", r"`p90_ms` is a plain number \(milliseconds\), but got '5 ms'; write `p90_ms: 5`"),
        ("p90_ms: 500us\n", r"write `p90_ms: 0.5`"),
        ("p90_ms: 0.5s\n", r"write `p90_ms: 500`"),
        ("bytes: 95kB\n", r"`bytes` is a plain number \(bytes\), but got '95kB'; write `bytes: 95000`"),
        ("peak_rss_mb: 1 GB\n", r"write `peak_rss_mb: 1000`"),
        ("p50_slower: 5 %\n", r"a share, such as 0.05\), but got '5 %'; write `p50_slower: 0.05`"),
        ("speedup: 4x\n", r"write `speedup: 4`"),
        ("p90_ms: 5 parsecs\n", r"`p90_ms` is a plain number \(milliseconds\), but got '5 parsecs'$"),
        ("p90_ms: 1.2.3 ms\n", r"is a plain number \(milliseconds\), but got '1.2.3 ms'$"),
        ("p90_ms: 0\n", r"budget.yaml:1: `p90_ms > 0` must hold, but got 0"),
        ("p50_slower: -1\n", r"`p50_slower > -1` must hold"),
        ("batch: 8\n", r"it limits nothing, so every model would pass; give at least one of `p50_ms`"),
    ],
)
def test_a_key_or_a_unit_that_is_not_known_is_refused_with_the_remedy(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        budget(text)


def test_every_limit_has_a_unit() -> None:
    """A limit that is left out there would be no limit: a budget of it alone would be refused."""
    from compresslab.measure import gate_budget

    known: set[str] = set(gate_budget._UNITS) | {"retention", "at_least", "drop", "batch", "threads", "graph"}
    fields: dict[str, Any] = dict(GateBudget.model_fields)
    assert known | {"image", "text"} == set(fields)
    assert set(GateGraphLimits.model_fields) < known


def test_a_tower_has_limits_of_its_own() -> None:
    found = budget("p90_ms: 5\ntext: {p90_ms: 2, p50_slower: 0.1}\nimage: {p90_ms: 9, batch: 32}\n")
    assert found.limited == ("p90_ms", "image.p90_ms", "text.p90_ms", "text.p50_slower")
    assert (found.batch_of("image"), found.batch_of("text"), found.batch_of("model")) == (32, 1, 1)
    with pytest.raises(ConfigError, match=r"`p90_ms` is a plain number .* but got '2 ms'; write `p90_ms: 2`"):
        budget("text: {p90_ms: 2 ms}\n")
    with pytest.raises(ConfigError, match="it limits nothing"):
        budget("image: {batch: 32}\n")
