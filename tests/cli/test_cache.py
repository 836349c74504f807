"""compresslab cache: what is listed, what is removed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from compresslab.cli.cache import _age, _size
from compresslab.store import Store

from .conftest import Ended

Command = Callable[..., Ended]
DAY = 86_400


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An entry last used 40 days ago, one of now, and the scratch of one that is not finished."""
    store = Store(tmp_path / "store")
    for name, days in (("old", 40), ("new", 0)):
        key = sha256(name.encode()).hexdigest()
        with store.writing("stage", key) as folder:
            (folder / "weights").write_bytes(b"x" * 1500)
        found = store.find("stage", key)
        assert found is not None
        when = time.time() - days * DAY
        os.utime(found / "entry.json", (when, when))
    store.scratch("stage", sha256(b"half").hexdigest())
    return store


def test_ls_lists_entries_and_what_is_not_finished(command: Command, store: Store) -> None:
    ended = command("cache", "ls", "--store", str(store.root))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert [line.split()[1] for line in lines[1:4]] == [
        sha256(name).hexdigest()[:12] for name in (b"old", b"new", b"half")
    ]
    assert lines[1].split()[:3] == ["stage", sha256(b"old").hexdigest()[:12], "1.50"]
    assert lines[3].endswith("not finished")
    assert lines[4] == f"3 entries, 3.00 kB, in {store.root}"


def test_ls_of_a_store_that_is_not_there(command: Command, tmp_path: Path) -> None:
    ended = command("cache", "ls", "--store", str(tmp_path / "none"))
    assert (ended.code, ended.out) == (0, f"0 entries, 0 kB, in {tmp_path / 'none'}\n")


def test_prune_by_age(command: Command, store: Store) -> None:
    ended = command("cache", "prune", "--store", str(store.root), "--older-than", "30d", "--dry-run")
    assert ended.out.splitlines()[-1] == f"1 entry, 1.50 kB, would be removed from {store.root}"
    assert len(store.entries()) == 2
    ended = command("cache", "prune", "--store", str(store.root), "--older-than", "30d")
    assert ended.out.splitlines()[-1] == f"1 entry, 1.50 kB, removed from {store.root}"
    assert [entry.key for entry in store.entries()] == [sha256(b"new").hexdigest()]


def test_prune_by_size_and_without_a_limit(command: Command, store: Store) -> None:
    assert command("cache", "prune", "--store", str(store.root)).code == 0
    assert len(store.entries()) == 2
    assert command("cache", "prune", "--store", str(store.root), "--max-size", "2kB").code == 0
    assert len(store.entries()) == 1


@pytest.mark.parametrize(("text", "size"), [("500", 500), ("2kB", 2000), ("1.5 MB", 1_500_000), ("3gb", 3 * 10**9)])
def test_sizes(text: str, size: int) -> None:
    assert _size(text) == size


@pytest.mark.parametrize(("text", "days"), [("30d", 30), ("2w", 14), ("12h", 0.5), ("720 m", 0.5)])
def test_ages(text: str, days: float) -> None:
    assert _age(text).total_seconds() == days * DAY


def test_a_size_that_is_none(command: Command) -> None:
    ended = command("cache", "prune", "--max-size", "much")
    assert ended.code == 2
    assert "such as 2GB, but got 'much'" in " ".join(ended.err.replace("│", "").split())
