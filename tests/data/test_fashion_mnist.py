import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compresslab.data import debian, fashion_mnist
from compresslab.data.fashion_mnist import LABELS, FashionMnist
from compresslab.data.hub_fetch import write_splits
from compresslab.data.idx import write_idx
from compresslab.errors import DataError


def write_folder(folder, value=0):
    """Twenty training and ten test images, told apart by `value`."""
    folder.mkdir(parents=True)
    for prefix, count in (("train", 20), ("t10k", 10)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[:, 0, 0] = np.arange(count)
        images[:, 0, 1] = value
        write_idx(folder / f"{prefix}-images-idx3-ubyte", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return folder


def value_of(source):
    return int(source.train.inputs[0, 0, 1, 0])


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine that has no Fashion-MNIST and no way to get it."""
    monkeypatch.delenv("COMPRESSLAB_DATA", raising=False)
    monkeypatch.setattr(fashion_mnist, "PACKAGE_FOLDER", tmp_path / "usr/share/datasets/fashion-mnist")
    monkeypatch.setattr(debian.shutil, "which", lambda _name: None)
    monkeypatch.setattr(fashion_mnist, "find_spec", lambda _name: None)
    return tmp_path


def test_a_given_root_is_the_only_place(nowhere, monkeypatch):
    write_folder(nowhere / "other", 1)
    monkeypatch.setenv("COMPRESSLAB_DATA", str(nowhere / "other"))
    source = FashionMnist(root=str(write_folder(nowhere / "root", 2))).load(nowhere / "cache")
    assert value_of(source) == 2
    assert source.name == "fashion_mnist"
    assert source.train.labels == LABELS
    assert source.train.inputs.shape == (20, 28, 28, 1)
    assert source.test.targets.tolist() == list(range(10))
    with pytest.raises(DataError, match="gone: there is no such folder"):
        FashionMnist(root=str(nowhere / "gone")).load(nowhere / "cache")


def test_places_are_tried_in_order(nowhere, monkeypatch):
    cache = nowhere / "cache"
    write_folder(cache / "fashion-mnist", 3)
    assert value_of(FashionMnist().load(cache)) == 3
    write_folder(fashion_mnist.PACKAGE_FOLDER, 2)
    assert value_of(FashionMnist().load(cache)) == 2
    monkeypatch.setenv("COMPRESSLAB_DATA", str(write_folder(nowhere / "data", 1)))
    assert value_of(FashionMnist().load(cache)) == 1
    monkeypatch.setenv("COMPRESSLAB_DATA", str(nowhere / "home"))
    write_folder(nowhere / "home/fashion-mnist", 4)
    assert value_of(FashionMnist().load(cache)) == 4


def test_if_all_fail_each_place_is_told_with_its_reason_and_the_remedy(nowhere):
    with pytest.raises(DataError, match=r"(?s)not found.*Tried:") as caught:
        FashionMnist().load(nowhere / "cache")
    lines = str(caught.value).splitlines()
    assert lines[1:6] == [
        "  $COMPRESSLAB_DATA: is not set",
        f"  Debian's package dataset-fashion-mnist, installed: {fashion_mnist.PACKAGE_FOLDER}: there is no such folder",
        f"  the cache: {nowhere / 'cache/fashion-mnist'}: there is no such folder",
        "  Debian's package dataset-fashion-mnist, fetched: this machine has no apt-get and dpkg",
        "  the Hugging Face hub, zalando-datasets/fashion_mnist: needs the library `datasets` (pip install datasets)",
    ]
    assert "put them in a folder, and name it in `fashion_mnist: {root: FOLDER}` or $COMPRESSLAB_DATA" in lines[6]
    assert list((nowhere / "cache").iterdir()) == [], "nothing half done is left"


def pretend_apt(monkeypatch, run):
    monkeypatch.setattr(debian.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(debian.subprocess, "run", run)


def test_debian_package_is_fetched_with_private_state_and_kept(nowhere, monkeypatch):
    commands = []

    def run(command, *, cwd, **_options):
        commands.append(command)
        if "download" in command:
            (cwd / "dataset-fashion-mnist_0.0_all.deb").touch()
        if "-x" in command:
            write_folder(Path(command[-1]) / fashion_mnist.PACKAGE_FOLDER.relative_to("/"), 5)

    pretend_apt(monkeypatch, run)
    cache = nowhere / "cache"
    assert value_of(FashionMnist().load(cache)) == 5
    assert [path.name for path in cache.iterdir()] == ["fashion-mnist"]
    assert len(commands) == 3
    for command in commands[:2]:
        lists = next(word for word in command if word.startswith("Dir::State::Lists="))
        assert Path(lists.partition("=")[2]).is_relative_to(cache)
    monkeypatch.setattr(debian.subprocess, "run", None)
    assert value_of(FashionMnist().load(cache)) == 5, "the second time it is in the cache"


def test_a_damaged_copy_in_the_cache_is_replaced(nowhere, monkeypatch):
    cache = nowhere / "cache"
    damaged = write_folder(cache / "fashion-mnist", 1) / "t10k-images-idx3-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"the cache: .*t10k-images-idx3-ubyte: is truncated"):
        FashionMnist().load(cache)

    def run(command, *, cwd, **_options):
        (cwd / "dataset-fashion-mnist_0.0_all.deb").touch()
        if "-x" in command:
            write_folder(Path(command[-1]) / fashion_mnist.PACKAGE_FOLDER.relative_to("/"), 6)

    pretend_apt(monkeypatch, run)
    assert value_of(FashionMnist().load(cache)) == 6
    assert [path.name for path in cache.iterdir()] == ["fashion-mnist"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            subprocess.CalledProcessError(100, "x", stderr="W: odd\nE: Unable to locate package\n"),
            "E: Unable to locate",
        ),
        (subprocess.CalledProcessError(100, "x", stderr=""), "apt-get update: ended with code 100"),
        (subprocess.TimeoutExpired("x", 300), "apt-get update: took more than 300 s"),
        (PermissionError(13, "Permission denied"), "apt-get update: .*Permission denied"),
    ],
)
def test_why_apt_failed_is_told(nowhere, monkeypatch, error, message):
    def run(_command, **_options):
        raise error

    pretend_apt(monkeypatch, run)
    with pytest.raises(DataError, match=f"fetched: .*{message}"):
        FashionMnist().load(nowhere / "cache")


def test_why_the_hub_failed_is_told(nowhere, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "find_spec", lambda _name: True)
    python = nowhere / "python"
    python.write_text("#!/bin/sh\necho 'Traceback ...' >&2\necho 'ConnectionError: no way out' >&2\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(fashion_mnist.sys, "executable", str(python))
    with pytest.raises(DataError, match="hub, zalando-datasets/fashion_mnist: ConnectionError: no way out"):
        FashionMnist().load(nowhere / "cache")
    python.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(DataError, match="hub, zalando-datasets/fashion_mnist: ended with code 3"):
        FashionMnist().load(nowhere / "cache")


def test_what_the_hub_gives_is_written_as_idx(nowhere, monkeypatch):
    images = [Image.fromarray(np.full((28, 28), value, np.uint8)) for value in range(10)]
    rows = {"image": images, "label": list(range(10))}
    folder = nowhere / "files"
    folder.mkdir()
    write_splits({"train": rows, "test": rows}, folder)
    source = FashionMnist(root=str(folder)).load(nowhere)
    assert source.train.inputs[:, 3, 3, 0].tolist() == list(range(10))
    assert source.test.targets.tolist() == list(range(10))


def test_a_file_that_is_not_there_is_named(nowhere):
    folder = write_folder(nowhere / "root")
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"root: has no train-labels-idx1-ubyte\.gz"):
        FashionMnist(root=str(folder)).load(nowhere)
