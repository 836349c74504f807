"""What ONNX Runtime's profiler has written down of the kernels of a session."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIX = "_kernel_time"


class KernelEvent(NamedTuple):
    """One kernel in one call.

    Attributes:
        node: The node's name; nodes without one share their kernel's name.
        operator: Its type, such as `QLinearConv`.
        inputs: How many inputs it has.
        microseconds: What it took, cut to whole ones.
    """

    node: str
    operator: str
    inputs: int
    microseconds: int


def kernel_events(profile: Path) -> Iterator[KernelEvent]:
    """Every kernel of every call, in the order they ran; `profile` is what `end_profiling` names."""
    for event in json.loads(profile.read_text(encoding="utf-8")):
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_SUFFIX):
            told = event["args"]
            inputs = len(told.get("input_type_shape", ()))
            yield KernelEvent(name.removesuffix(_SUFFIX), str(told.get("op_name", "")), inputs, event["dur"])
