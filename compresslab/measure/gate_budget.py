"""What the gate's budget file may say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, model_validator

from compresslab.measure.budget import GraphLimits, Limits
from compresslab.measure.metric_names import METRIC_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

_Slower = Annotated[float, Field(gt=-1.0)]

_MILLISECONDS: Final = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_SHARE: Final = {"%": 1e-2}
_TIMES: Final = {"x": 1.0, "times": 1.0}
_BYTES: Final = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 1024.0, "mib": 1024.0**2, "gib": 1024.0**3}
_MEGABYTES: Final = {unit: factor / 1e6 for unit, factor in _BYTES.items()}
_UNITS: Final[Mapping[str, tuple[str, Mapping[str, float]]]] = {
    **dict.fromkeys(("p50_ms", "p90_ms", "p99_ms"), ("milliseconds", _MILLISECONDS)),
    **dict.fromkeys(("p50_slower", "p90_slower"), ("a share, such as 0.05", _SHARE)),
    **dict.fromkeys(METRIC_NAMES, ("a share, such as 0.93", _SHARE)),
    **dict.fromkeys((f"{name}_drop" for name in METRIC_NAMES), ("a share, such as 0.01", _SHARE)),
    **dict.fromkeys(("size_ratio", "speedup"), ("a factor, such as 4.0", _TIMES)),
    "bytes": ("bytes", _BYTES),
    "peak_rss_mb": ("millions of bytes", _MEGABYTES),
}


def _refuse_units(plain: Any) -> Any:
    if not isinstance(plain, dict):
        return plain
    told = [_told(key, value, *_UNITS[key]) for key, value in plain.items() if key in _UNITS and isinstance(value, str)]
    if told:
        raise ValueError("; ".join(told))
    return plain


class GateGraphLimits(GraphLimits):
    """Limits on one of several graphs; relative ones are against the same graph of `--baseline`."""

    p50_slower: _Slower | None = None
    """Slower than the baseline at the median, at most."""
    p90_slower: _Slower | None = None
    """Slower than the baseline at the 90th percentile, at most."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Examples a call; null takes the budget's."""

    _without_units = model_validator(mode="before")(_refuse_units)

    @property
    def limited(self) -> tuple[str, ...]:
        """The keys that have a limit."""
        return tuple(key for key in _UNITS if getattr(self, key, None) is not None)


class GateBudget(Limits):
    """Limits for one model as it is called in one way; relative ones are against `--baseline`, measured beside it."""

    p50_slower: _Slower | None = None
    """Slower than the baseline at the median, at most: 0.05 is 5 %, and -0.2 asks for 20 % less time."""
    p90_slower: _Slower | None = None
    """Slower than the baseline at the 90th percentile, at most: what a slow-down of only the tail breaks."""
    batch: Annotated[int, Field(ge=1)] = 1
    """Examples a call."""
    threads: Annotated[int, Field(ge=1)] = 1
    """ONNX Runtime's threads inside an operator."""
    graph: str | None = None
    """Which of the model's graphs latencies and memory are of. Null takes the only one; of two towers a call of each,
    and the memory of a process each."""
    image: GateGraphLimits | None = None
    """Limits on the image tower alone."""
    text: GateGraphLimits | None = None
    """Limits on the text tower alone."""

    _without_units = model_validator(mode="before")(_refuse_units)

    @model_validator(mode="after")
    def _refuse_nothing(self) -> GateBudget:
        if not self.limited:
            raise ValueError(
                "it limits nothing, so every model would pass; give at least one of "
                f"{', '.join(f'`{name}`' for name in (*_UNITS, 'at_least', 'drop', 'retention', 'image', 'text'))}"
            )
        return self

    @property
    def limited(self) -> tuple[str, ...]:
        """The keys that have a limit."""
        keys = [key for key in _UNITS if getattr(self, key) is not None]
        own = [f"{place}.{name}" for place in ("at_least", "drop", "retention") for name in getattr(self, place)]
        towers = [f"{graph}.{key}" for graph, limits in self.graphs.items() for key in limits.limited]
        return (*keys, *own, *towers)

    @property
    def graphs(self) -> dict[str, GateGraphLimits]:
        """The limits on single graphs, by their names."""
        return {name: limits for name in ("image", "text") if (limits := getattr(self, name)) is not None}

    def batch_of(self, graph: str) -> int:
        """Examples a call of this graph."""
        limits = self.graphs.get(graph)
        return self.batch if limits is None or limits.batch is None else limits.batch


def _told(key: str, value: str, unit: str, factors: Mapping[str, float]) -> str:
    found = re.fullmatch(r"\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*([a-zµ%]*)\s*", value, re.IGNORECASE)
    known = found is not None and (found[2].lower() in factors or not found[2])
    if not known or found is None:
        return f"`{key}` is a plain number ({unit}), but got {value!r}"
    try:
        number = float(found[1]) * factors.get(found[2].lower(), 1.0)
    except ValueError:
        return f"`{key}` is a plain number ({unit}), but got {value!r}"
    return f"`{key}` is a plain number ({unit}), but got {value!r}; write `{key}: {number:.10g}`"
