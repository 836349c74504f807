"""What a measurement depends on beside the model: the machine and the versions."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# Version 1 of cgroups says "none" by the largest number of pages.
_NO_LIMIT = 1 << 60

FAST_INT8 = ("avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")
"""Instructions that multiply 8-bit integers and add up the products in one; a processor has one of them or is slow."""
SLOW_INT8 = (
    "without VNNI or its like, int8 models gain size but little speed, and U8S8 products may saturate; measure on the "
    "machine that will serve the model"
)

# Those that decide which of ONNX Runtime's kernels run; the first names are x86's, the others Arm's.
_ISA = (
    "avx2", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


def fingerprint() -> dict[str, object]:
    """The machine as plain data: two measurements compare only where it is equal.

    `cores` are those this process may use; `cpu_limit` is a container's share in cores, None without one;
    `memory_limit_mb` its memory in millions of bytes; `governor` is Linux's policy for the clock, None where it has
    none, as in most virtual machines.
    """
    # The command line reads settings without loading ONNX Runtime.
    import onnxruntime

    cpu, isa = _describe_cpu(_read(Path("/proc/cpuinfo")))
    return {
        "cpu": cpu or platform.processor() or platform.machine(),
        "isa": isa,
        "cores": _allowed_cores(),
        "cpu_limit": _cpu_limit(Path("/sys/fs/cgroup")),
        "memory_limit_mb": _memory_limit_mb(Path("/sys/fs/cgroup")),
        "governor": _governor(Path("/sys/devices/system/cpu")),
        "platform": f"{platform.system()}-{platform.machine()}",
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
    }


def conditions() -> dict[str, object]:
    """What changes from moment to moment: `load`, the processes that wanted a core over the last minute."""
    return {"load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None}


def differences(this: Mapping[str, object], other: Mapping[str, object]) -> list[str]:
    """What makes two fingerprints differ, as `cores: 2 against 8`; what only one of them knows does not count."""
    common = [key for key in this if key in other]
    return [f"{key}: {this[key]} against {other[key]}" for key in common if this[key] != other[key]]


def fast_int8(machine: Mapping[str, object]) -> list[str]:
    """Which of the instructions that make int8 fast the machine of a fingerprint has."""
    isa = machine.get("isa")
    return [name for name in FAST_INT8 if isinstance(isa, list) and name in isa]


def usable_cores() -> int:
    """How many threads can really run at once: the allowed cores, within a container's limit."""
    limit = _cpu_limit(Path("/sys/fs/cgroup"))
    cores = _allowed_cores()
    return cores if limit is None else max(1, min(cores, math.ceil(limit)))


def _allowed_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _describe_cpu(cpuinfo: str) -> tuple[str, list[str]]:
    """The name and the instruction sets of interest, from the text of /proc/cpuinfo."""
    fields: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set(fields.get("flags", fields.get("features", "")).split())
    return fields.get("model name", ""), [name for name in _ISA if name in flags]


def _cpu_limit(cgroup: Path) -> float | None:
    """A container's CPU quota in cores (cgroup version 2, then 1)."""
    quota, _, period = _read(cgroup / "cpu.max").strip().partition(" ")
    if not quota:
        quota = _read(cgroup / "cpu/cpu.cfs_quota_us").strip()
        period = _read(cgroup / "cpu/cpu.cfs_period_us").strip()
    if not quota.isdigit() or not period.isdigit() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _memory_limit_mb(cgroup: Path) -> float | None:
    """A container's memory limit (cgroup version 2, then 1), unless it is more than any machine has."""
    found = _read(cgroup / "memory.max").strip() or _read(cgroup / "memory/memory.limit_in_bytes").strip()
    return int(found) / 1e6 if found.isdigit() and int(found) < _NO_LIMIT else None


def _governor(cpus: Path) -> str | None:
    found = {_read(path).strip() for path in sorted(cpus.glob("cpu[0-9]*/cpufreq/scaling_governor"))} - {""}
    return ", ".join(sorted(found)) or None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
