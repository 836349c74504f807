"""The store: whole entries or none, whatever kills, damages or fills it."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Barrier, Thread

import pytest

from compresslab.errors import StoreError
from compresslab.store import Store, storage_errors

KEY = sha256(b"one").hexdigest()
OTHER = sha256(b"two").hexdigest()
THIRD = sha256(b"three").hexdigest()


@pytest.fixture
def problems() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, problems: list[str]) -> Store:
    return Store(tmp_path / "store", problems.append)


def put(store: Store, key: str = KEY, content: bytes = b"weights", used_ago: timedelta = timedelta()) -> Path:
    with store.writing("stage", key) as folder:
        (folder / "a.bin").write_bytes(content)
        (folder / "deep").mkdir()
        (folder / "deep" / "b.txt").write_text("b")
    place = store.find("stage", key)
    assert place is not None
    age(place / "entry.json", used_ago)
    return place


def age(path: Path, ago: timedelta) -> None:
    when = (datetime.now(UTC) - ago).timestamp()
    os.utime(path, (when, when))


def fail_halfway(folder: Path, error: Exception) -> None:
    (folder / "a.bin").write_bytes(b"half")
    raise error


def test_an_entry_is_found_after_it_was_written_and_not_before(store: Store) -> None:
    assert store.find("stage", KEY) is None
    with store.writing("stage", KEY) as folder:
        (folder / "a.bin").write_bytes(b"weights")
        assert store.find("stage", KEY) is None
    found = store.find("stage", KEY)
    assert found is not None
    assert (found / "a.bin").read_bytes() == b"weights"
    assert store.find("measurement", KEY) is None
    assert store.find("stage", OTHER) is None


def test_the_index_names_every_file_with_its_hash(store: Store) -> None:
    index = json.loads((put(store) / "entry.json").read_text())
    assert index["kind"] == "stage"
    assert index["key"] == KEY
    assert index["bytes"] == 8
    assert index["files"] == {
        "a.bin": {"bytes": 7, "sha256": sha256(b"weights").hexdigest()},
        "deep/b.txt": {"bytes": 1, "sha256": sha256(b"b").hexdigest()},
    }


def test_a_failing_block_leaves_nothing_but_its_scratch(store: Store) -> None:
    checkpoint = store.scratch("stage", KEY) / "epoch.pt"
    checkpoint.write_bytes(b"half")
    with pytest.raises(RuntimeError, match="diverged"), store.writing("stage", KEY) as folder:
        fail_halfway(folder, RuntimeError("diverged"))
    assert store.find("stage", KEY) is None
    assert list((store.root / "tmp").iterdir()) == []
    assert checkpoint.read_bytes() == b"half"


def test_scratch_goes_when_the_entry_is_written(store: Store) -> None:
    (store.scratch("stage", KEY) / "epoch.pt").write_bytes(b"half")
    (store.scratch("stage", OTHER) / "epoch.pt").write_bytes(b"half")
    put(store, KEY)
    assert list(store.scratch("stage", KEY).iterdir()) == []
    store.clear_scratch("stage", OTHER)
    assert list(store.scratch("stage", OTHER).iterdir()) == []


def test_a_killed_writer_leaves_no_entry(store: Store) -> None:
    """SIGKILL runs no cleanup: what is left must be invisible, told from a living writer's, and removable."""
    script = textwrap.dedent(
        """
        import sys, time
        from pathlib import Path
        from compresslab.store import Store
        store = Store(Path(sys.argv[1]))
        (store.scratch("stage", sys.argv[2]) / "epoch.pt").write_bytes(b"half")
        with store.writing("stage", sys.argv[2]) as folder:
            (folder / "a.bin").write_bytes(b"weights")
            print("writing", flush=True)
            time.sleep(60)
        """
    )
    command = [sys.executable, "-c", script, str(store.root), KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        [temporary] = (store.root / "tmp").iterdir()
        age(temporary, timedelta(days=9))
        assert [entry.state for entry in store.leftovers()] == ["scratch"], "a living writer is left alone"
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert store.find("stage", KEY) is None
    assert store.entries() == ()
    assert (store.scratch("stage", KEY) / "epoch.pt").read_bytes() == b"half"
    assert [entry.folder for entry in store.prune()] == [temporary]
    assert not temporary.exists()
    put(store, KEY)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda entry: (entry / "a.bin").write_bytes(b"weighty"), "a.bin does not have the bytes"),
        (lambda entry: (entry / "a.bin").write_bytes(b"weig"), "a.bin has 4 bytes, 7 were written"),
        (lambda entry: (entry / "deep" / "b.txt").unlink(), "deep/b.txt is missing"),
        (lambda entry: (entry / "entry.json").unlink(), "entry.json is missing"),
        (lambda entry: (entry / "entry.json").write_text('{"files": {"a.bin": '), "entry.json cannot be read"),
        (lambda entry: (entry / "entry.json").write_text('{"files": [1]}'), "entry.json cannot be read"),
    ],
)
def test_a_damaged_entry_is_told_removed_and_can_be_made_again(
    store: Store, problems: list[str], damage: object, said: str
) -> None:
    place = put(store)
    assert callable(damage)
    damage(place)
    assert store.find("stage", KEY) is None
    assert len(problems) == 1
    assert said in problems[0]
    assert KEY[:12] in problems[0]
    assert not place.exists()
    assert (put(store, content=b"again") / "a.bin").read_bytes() == b"again"


def test_of_two_writers_of_one_key_the_first_wins(store: Store) -> None:
    with store.writing("stage", KEY) as slow:
        (slow / "a.bin").write_bytes(b"slow")
        put(store, KEY, b"fast")
    found = store.find("stage", KEY)
    assert found is not None
    assert (found / "a.bin").read_bytes() == b"fast"
    assert list((store.root / "tmp").iterdir()) == []


def test_many_writers_at_once_leave_one_whole_entry(store: Store) -> None:
    gate = Barrier(8)

    def write(number: int) -> None:
        with store.writing("stage", KEY) as folder:
            (folder / "a.bin").write_bytes(bytes([number]) * 1000)
            gate.wait()

    threads = [Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.find("stage", KEY)
    assert found is not None
    assert len(set((found / "a.bin").read_bytes())) == 1


def test_discard_makes_room_for_a_new_entry(store: Store) -> None:
    put(store, KEY, b"old")
    store.discard("stage", KEY)
    store.discard("stage", KEY)
    assert store.find("stage", KEY) is None
    assert (put(store, KEY, b"new") / "a.bin").read_bytes() == b"new"


def test_a_fresh_store_makes_everything_once_more_and_once_only(store: Store) -> None:
    """Whether an entry is looked for before it is written or not; what another object wrote before does not count."""
    put(store, content=b"old")
    put(store, OTHER, b"old")
    (store.scratch("stage", KEY) / "train.checkpoint").write_bytes(b"old")
    fresh = Store(store.root, fresh=True)
    assert fresh.find("stage", KEY) is None
    assert list(fresh.scratch("stage", KEY).iterdir()) == [], "a checkpoint is of what was made before"
    for key in (KEY, OTHER):
        put(fresh, key, b"new")
        place = fresh.find("stage", key)
        assert place is not None
        assert (place / "a.bin").read_bytes() == b"new"
    assert store.find("stage", KEY) is not None


def test_entries_are_listed_by_their_last_use_which_find_renews(store: Store) -> None:
    put(store, KEY, used_ago=timedelta(days=3))
    put(store, OTHER, used_ago=timedelta(days=5))
    assert [(entry.key, entry.bytes) for entry in store.entries()] == [(OTHER, 8), (KEY, 8)]
    store.find("stage", OTHER)
    assert [entry.key for entry in store.entries()] == [KEY, OTHER]
    newest = store.entries()[-1]
    assert datetime.now(UTC) - newest.last_used < timedelta(minutes=5)
    assert newest.created <= newest.last_used


def test_prune_by_age_and_by_size_takes_the_least_recently_used(store: Store) -> None:
    put(store, KEY, used_ago=timedelta(days=9))
    put(store, OTHER, used_ago=timedelta(days=5))
    put(store, THIRD, used_ago=timedelta(days=1))
    would = store.prune(older_than=timedelta(days=7), max_bytes=10, dry_run=True)
    assert [entry.key for entry in would] == [KEY, OTHER]
    assert len(store.entries()) == 3
    assert store.prune() == ()
    assert [entry.key for entry in store.prune(older_than=timedelta(days=7))] == [KEY]
    assert [entry.key for entry in store.prune(max_bytes=8)] == [OTHER]
    assert store.find("stage", THIRD) is not None
    assert list((store.root / "tmp").iterdir()) == []


def test_prune_keeps_scratch_that_may_be_in_use(store: Store) -> None:
    fresh = store.scratch("stage", KEY)
    old = store.scratch("stage", OTHER)
    age(old, timedelta(days=2))
    assert [entry.folder for entry in store.prune(older_than=timedelta(0))] == [old]
    assert fresh.is_dir()
    assert not old.exists()


def test_a_damaged_entry_can_still_be_pruned(store: Store) -> None:
    place = put(store, KEY)
    (place / "entry.json").write_text("not json")
    assert [entry.folder for entry in store.prune(max_bytes=0)] == [place]


@pytest.mark.parametrize("key", ["abc", KEY[:8], KEY.upper(), f"{KEY[:-3]}/.."])
def test_a_shortened_or_malformed_key_is_refused(store: Store, key: str) -> None:
    with pytest.raises(ValueError, match="whole SHA-256"):
        store.find("stage", key)


def test_a_kind_cannot_leave_the_folder(store: Store) -> None:
    with pytest.raises(ValueError, match="lower-case letters"):
        store.scratch("../stage", KEY)


def test_an_entry_may_not_hold_links_or_its_own_index(store: Store) -> None:
    with pytest.raises(ValueError, match="symbolic link"), store.writing("stage", KEY) as folder:
        (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match=r"file named entry\.json"), store.writing("stage", KEY) as folder:
        (folder / "entry.json").write_text("{}")


def test_a_relative_store_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(Path("here"))
    put(store)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert store.find("stage", KEY) == tmp_path / "here" / "entries" / "stage" / KEY


def test_a_full_disk_in_the_block_or_in_the_store_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    told = r"store: the disk is full; .*cache prune.*--store.* \([\d,]+ bytes free\)"
    disk_full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StoreError, match=told), store.writing("stage", KEY) as folder:
        fail_halfway(folder, disk_full)

    def full(_: int) -> None:
        raise disk_full

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=told), store.writing("stage", KEY) as folder:
        (folder / "a.bin").write_bytes(b"whole")
    monkeypatch.undo()
    assert store.find("stage", KEY) is None
    assert list((store.root / "tmp").iterdir()) == []


def test_a_full_disk_told_by_a_library_in_its_own_words(tmp_path: Path) -> None:
    """safetensors raises a class of its own, with the system's error only in its text."""
    with pytest.raises(StoreError, match="the disk is full"), storage_errors(tmp_path):
        raise ValueError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_other_failures_pass_unchanged(store: Store) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"), store.writing("stage", KEY):
        Path("/nowhere/at/all").read_bytes()
    with pytest.raises(PermissionError, match="/data/images"), store.writing("stage", KEY):
        raise PermissionError(errno.EACCES, "Permission denied", "/data/images")


def test_a_folder_that_may_not_be_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"Permission denied.*let user \d+ read and write"):
        store.scratch("stage", KEY)


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StoreError, match=r"Not a directory.*choose another"),
        Store(tmp_path / "file").writing("stage", KEY),
    ):
        pass


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB, where one may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    store = Store(tiny_disk / "store")
    put(store, OTHER, b"x" * 1000)
    with pytest.raises(StoreError, match="the disk is full"), store.writing("stage", KEY) as folder:
        (folder / "a.bin").write_bytes(b"x" * 200_000)
    assert store.find("stage", KEY) is None
    assert store.find("stage", OTHER) is not None, "what was finished is kept"
    put(store, KEY, b"y" * 1000)
