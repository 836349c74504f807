from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from compresslab.measure import machine

if TYPE_CHECKING:
    from pathlib import Path

X86 = """processor\t: 0
model name\t: A CPU @ 2 GHz
flags\t\t: fpu avx2 avx512f avx512_vnni

processor\t: 1
model name\t: A CPU @ 2 GHz
flags\t\t: fpu avx2
"""
ARM = """processor\t: 0
Features\t: fp asimd asimddp sve
CPU part\t: 0xd0c
"""


def test_the_fingerprint_is_plain_and_the_same_every_time() -> None:
    """Cached measurements are keyed by it."""
    found = machine.fingerprint()
    assert json.loads(json.dumps(found)) == machine.fingerprint()
    assert found["cpu"]
    assert found["cores"] == machine._allowed_cores()
    assert {"isa", "cpu_limit", "platform", "python", "onnxruntime"} < set(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, ("A CPU @ 2 GHz", ["avx2", "avx512f", "avx512_vnni"])),
        (ARM, ("", ["asimd", "asimddp", "sve"])),
        ("", ("", [])),
    ],
)
def test_cpuinfo_is_read(text: str, expected: tuple[str, list[str]]) -> None:
    assert machine._describe_cpu(text) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_limit_is_read(tmp_path: Path, files: dict[str, str], expected: float | None) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert machine._cpu_limit(tmp_path) == expected


@pytest.mark.parametrize(("limit", "cores"), [(None, 4), (0.5, 1), (1.5, 2), (64.0, 4)])
def test_no_more_threads_than_can_run(limit: float | None, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_allowed_cores", lambda: 4)
    monkeypatch.setattr(machine, "_cpu_limit", lambda _: limit)
    assert machine.usable_cores() == cores


def test_memory_limits_and_the_governor_are_read(tmp_path: Path) -> None:
    assert machine._memory_limit_mb(tmp_path) is None
    assert machine._governor(tmp_path) is None
    (tmp_path / "memory.max").write_text("2000000000\n")
    assert machine._memory_limit_mb(tmp_path) == 2000.0
    (tmp_path / "memory.max").write_text("max\n")
    assert machine._memory_limit_mb(tmp_path) is None
    (tmp_path / "memory.max").write_text("9223372036854771712\n")
    assert machine._memory_limit_mb(tmp_path) is None
    for core, governor in enumerate(("powersave", "performance", "powersave")):
        folder = tmp_path / f"cpu{core}" / "cpufreq"
        folder.mkdir(parents=True)
        (folder / "scaling_governor").write_text(f"{governor}\n")
    assert machine._governor(tmp_path) == "performance, powersave"


def test_what_changes_from_moment_to_moment_is_not_in_the_fingerprint() -> None:
    """It is part of cache keys: with the load in it nothing would ever be found again."""
    assert not set(machine.conditions()) & set(machine.fingerprint())
    assert set(machine.conditions()) == {"load"}


def test_differences_are_told_by_name() -> None:
    this = {"cpu": "A", "cores": 2, "governor": None}
    assert machine.differences(this, {"cpu": "A", "cores": 8, "onnxruntime": "1.0"}) == ["cores: 2 against 8"]
    assert machine.differences(this, this) == []
