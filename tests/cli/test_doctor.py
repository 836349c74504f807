"""compresslab doctor: what it finds, and when it says no."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from compresslab.cli import doctor
from compresslab.measure import machine

from .conftest import Ended

Command = Callable[..., Ended]


def lines(ended: Ended) -> dict[str, str]:
    return dict(line.split(None, 1) for line in ended.out.replace("free disk", "disk").splitlines() if line)


def test_it_tells_versions_machine_and_data(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COMPRESSLAB_DATA", raising=False)
    monkeypatch.setattr("compresslab.data.fashion_mnist.PACKAGE_FOLDER", tmp_path / "none")
    ended = command("doctor", "--store", str(tmp_path))
    assert ended.code == 0
    told = lines(ended)
    for distribution in ("torch", "onnxruntime", "torch-pruning", "pydantic"):
        assert told[distribution] == importlib.metadata.version(distribution)
    assert told["disk"].endswith(f"GB at {tmp_path}")
    assert told["fashion-mnist"].startswith("not here; a run fetches it")
    assert told["int8"].startswith(("fast, by ", "slow: "))


def test_a_missing_package_ends_it_with_2(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_COMPRESS", {"not_a_module": "not-a-package"})
    ended = command("doctor", "--store", str(tmp_path))
    assert ended.code == 2
    assert lines(ended)["not-a-package"] == "not installed"
    assert ended.err == "missing: not-a-package; `pip install compresslab[all]` brings everything\n"


def test_an_optional_package_may_be_missing(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_OPTIONAL", {"not_a_module": "not-a-package"})
    assert command("doctor", "--store", str(tmp_path)).code == 0


@pytest.mark.parametrize(
    ("isa", "said"),
    [
        (["avx2", "avx512_vnni"], "fast, by avx512_vnni: "),
        (["asimd", "asimddp"], "fast, by asimddp: "),
        (["avx2"], "slow: "),
    ],
)
def test_what_the_processor_means_for_int8(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isa: list[str], said: str
) -> None:
    monkeypatch.setattr(machine, "fingerprint", lambda: {"cpu": "a processor", "cores": 2, "isa": isa})
    told = lines(command("doctor", "--store", str(tmp_path)))
    assert told["int8"].startswith(said)
    assert told["processor"] == "a processor, 2 cores"


def test_data_that_is_found_but_damaged_is_told(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMPRESSLAB_DATA", str(tmp_path))
    told = lines(command("doctor", "--store", str(tmp_path)))
    assert told["fashion-mnist"].startswith(f"{tmp_path}: ")
