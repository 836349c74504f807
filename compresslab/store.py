"""The content-addressed cache: an entry is whole or it is not there, and every byte is checked when it is read.

    DIR/entries/<kind>/<key>/   the files of one entry, and entry.json with their hashes
    DIR/scratch/<kind>/<key>/   checkpoints of work that is not done; survives a crash
    DIR/tmp/<name>/             entries being written; locked by the writer, so that a dead one is recognised

An entry appears by one `os.replace` of a folder that is already complete and on disk.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from uuid import uuid4

from compresslab.digest import digest_file
from compresslab.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

State = Literal["complete", "scratch", "temporary"]

_INDEX = "entry.json"
_KIND = re.compile(r"[a-z][a-z0-9_-]*")
_KEY = re.compile(r"[0-9a-f]{64}")
_IN_USE = timedelta(hours=1)
"""Scratch touched within this time may belong to a run that is going on, so `prune` leaves it."""
_BEING_MADE = timedelta(minutes=1)
"""A temporary folder is locked right after it is made; younger than this, it may not be yet."""

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True)
class Entry:
    """A folder of the store. `bytes` is what its files take; `state` tells a finished entry from what a crash left."""

    kind: str
    key: str
    bytes: int
    created: datetime
    last_used: datetime
    folder: Path
    state: State = "complete"


class Store:
    """A cache in a folder, shared by any number of processes on one machine.

    Args:
        root: The folder; made when first written to.
        on_problem: Told, in a sentence, of every entry that had to be thrown away.
        fresh: Throws away every entry, and its scratch folder, when it is first asked for, unless this very object has
            written it: all is made once more, and once only.
    """

    def __init__(self, root: Path, on_problem: Callable[[str], None] | None = None, *, fresh: bool = False) -> None:
        # Absolute, so that a change of working directory (user code may do that) does not move the store.
        self.root = root.absolute()
        self._on_problem = on_problem
        self._fresh = fresh
        self._renewed: set[tuple[str, str]] = set()

    def find(self, kind: str, key: str) -> Path | None:
        """The folder of an entry, or None if there is none.

        Every file is hashed first; an entry that does not agree with its hashes is removed, told to `on_problem`,
        and counts as not there.

        Args:
            kind: What the entry is, such as `stage` or `measurement`: lower-case letters, digits, `_`, `-`.
            key: SHA-256 of everything the entry depends on, in full: 64 hexadecimal digits.

        Raises:
            StoreError: The folder cannot be read.
        """
        folder = self._place("entries", kind, key)
        self._renew(kind, key)
        with storage_errors(self.root):
            if not folder.is_dir():
                return None
            damage = _damage(folder)
            if damage is None:
                # A store mounted read-only is still good to read from.
                with suppress(OSError):
                    os.utime(folder / _INDEX)
                return folder
            if folder.is_dir():  # else another process removed it while it was read
                self._delete(folder)
                if self._on_problem is not None:
                    self._on_problem(f"the cache entry {kind}/{key[:12]} was damaged ({damage}): it is made again")
            return None

    @contextmanager
    def writing(self, kind: str, key: str) -> Iterator[Path]:
        """Yields an empty folder that becomes the entry when the block ends without an exception.

        Then its files are hashed and flushed to disk, the folder is moved into place in one step, and the scratch
        folder of the same entry is removed. If another process has written the entry meanwhile, that one stays.
        If the block raises, the folder is removed and the scratch folder is kept.

        Raises:
            StoreError: The disk is full or the folder may not be written; also where the block failed for that.
        """
        place = self._place("entries", kind, key)
        self._renew(kind, key)
        with storage_errors(self.root):
            temporary = self.root / "tmp" / f"{kind}-{key[:12]}-{uuid4().hex}"
            temporary.mkdir(parents=True)
            lock = os.open(temporary, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield temporary
                _seal(temporary, kind, key)
                place.parent.mkdir(parents=True, exist_ok=True)
                _move(temporary, place)
                self.clear_scratch(kind, key)
            finally:
                # Gone already when it was moved; the failure that led here is worth more than one of the removal.
                shutil.rmtree(temporary, ignore_errors=True)
                os.close(lock)

    def scratch(self, kind: str, key: str) -> Path:
        """A folder for the checkpoints of an entry that is being made; made if needed, kept through crashes.

        Raises:
            StoreError: It cannot be made.
        """
        folder = self._place("scratch", kind, key)
        with storage_errors(self.root):
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def clear_scratch(self, kind: str, key: str) -> None:
        """Removes the scratch folder of an entry, if there is one."""
        folder = self._place("scratch", kind, key)
        if folder.is_dir():
            with storage_errors(self.root):
                self._delete(folder)

    def discard(self, kind: str, key: str) -> None:
        """Removes an entry, if there is one, so that the next `writing` of its key takes its place."""
        folder = self._place("entries", kind, key)
        if folder.is_dir():
            with storage_errors(self.root):
                self._delete(folder)

    def entries(self) -> tuple[Entry, ...]:
        """Every finished entry, the least recently used first. Files are not hashed."""
        with storage_errors(self.root):
            return _by_use(map(_complete_entry, self.root.glob("entries/*/*")))

    def leftovers(self) -> tuple[Entry, ...]:
        """What is not finished: scratch folders, and temporary ones whose writer has died. Oldest first."""
        with storage_errors(self.root):
            scratch = [_unfinished_entry(folder, "scratch") for folder in self.root.glob("scratch/*/*")]
            dead = [_unfinished_entry(folder, "temporary") for folder in self.root.glob("tmp/*") if _is_dead(folder)]
            return _by_use([*scratch, *dead])

    def prune(
        self, older_than: timedelta | None = None, max_bytes: int | None = None, dry_run: bool = False
    ) -> tuple[Entry, ...]:
        """Removes what was not used for `older_than`, then the least recently used until `max_bytes` is kept.

        Temporary folders whose writer has died always go; scratch folders count like entries, but stay for an hour
        after they were last written to, for they may belong to a run that is going on.

        Returns:
            What was removed, or with `dry_run` what would be.
        """
        kept = self.entries()
        leftovers = self.leftovers()
        removed = [entry for entry in leftovers if entry.state == "temporary"]
        scratch = [entry for entry in leftovers if entry.state == "scratch"]
        total = sum(entry.bytes for entry in (*kept, *scratch))
        now = datetime.now(UTC)
        for entry in _by_use([*kept, *scratch]):
            unused = now - entry.last_used
            if entry.state == "scratch" and unused < _IN_USE:
                continue
            too_old = older_than is not None and unused > older_than
            too_much = max_bytes is not None and total > max_bytes
            if too_old or too_much:
                removed.append(entry)
                total -= entry.bytes
        if not dry_run:
            with storage_errors(self.root):
                for entry in removed:
                    self._delete(entry.folder)
        return tuple(removed)

    def _renew(self, kind: str, key: str) -> None:
        if self._fresh and (kind, key) not in self._renewed:
            self._renewed.add((kind, key))
            self.discard(kind, key)
            self.clear_scratch(kind, key)

    def _place(self, room: str, kind: str, key: str) -> Path:
        if not _KIND.fullmatch(kind):
            raise ValueError(f"a kind is made of lower-case letters, digits, `_` and `-`, but got {kind!r}")
        if not _KEY.fullmatch(key):
            raise ValueError(f"a key is a whole SHA-256, 64 hexadecimal digits, but got {key!r}")
        return self.root / room / kind / key

    def _delete(self, folder: Path) -> None:
        """Takes a folder out of sight in one step before its files are deleted, so that nobody sees half of it."""
        out_of_sight = self.root / "tmp" / f"removed-{uuid4().hex}"
        out_of_sight.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.replace(out_of_sight)
        except FileNotFoundError:
            return  # another process was faster
        shutil.rmtree(out_of_sight)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Turns what a full disk or a missing permission raises into a StoreError that says what to do.

    Args:
        folder: Where the block writes; named in the message with the bytes that are free there.

    Raises:
        StoreError: For every OSError that says the disk is full or access is refused, from whatever library.
    """
    try:
        yield
    except BaseException as error:
        # Libraries written in Rust or C++ wrap the system's error in a class of their own: only its text is left.
        reason = _reason(error, folder)
        if reason is None:
            raise
        raise StoreError(f"{folder}: {reason} ({_free(folder)} free)") from error


def _reason(error: BaseException, folder: Path) -> str | None:
    """What happened and the remedy, if the folder or its disk is to blame."""
    if isinstance(error, StoreError):
        return None
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or f"(os error {errno.ENOSPC})" in str(error) or os.strerror(errno.ENOSPC) in str(error):
        return "the disk is full; make room (`compresslab cache prune` does), or choose another folder with `--store`"
    if not isinstance(error, OSError) or not _concerns(error, folder):
        return None
    if number in _REFUSED:
        return f"{error}; let user {os.getuid()} read and write the folder, or choose another one with `--store`"
    if isinstance(error, NotADirectoryError | FileExistsError):
        return f"{error}; a folder is needed here: choose another one with `--store`"
    if number == errno.EIO:
        return f"{error}; the disk may be failing: choose another folder with `--store`"
    return None


def _concerns(error: OSError, folder: Path) -> bool:
    """Whether the file that could not be used is in the folder or above it, not one that the block read elsewhere."""
    if not isinstance(error.filename, str):
        return True
    path = Path(error.filename).absolute()
    return path.is_relative_to(folder.absolute()) or folder.absolute().is_relative_to(path)


def _free(folder: Path) -> str:
    """Bytes free where `folder` is, or would be."""
    for existing in (folder, *folder.parents):
        with suppress(OSError):
            return f"{shutil.disk_usage(existing).free:,} bytes"
    return "unknown"


def _damage(folder: Path) -> str | None:
    """What is wrong with an entry; None if every file is as it was written."""
    try:
        files = json.loads((folder / _INDEX).read_bytes())["files"]
        expected = {str(name): (str(info["sha256"]), int(info["bytes"])) for name, info in files.items()}
    except FileNotFoundError:
        return f"{_INDEX} is missing"
    except (ValueError, TypeError, KeyError, AttributeError):
        return f"{_INDEX} cannot be read"
    for name, (digest, size) in expected.items():
        try:
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found} bytes, {size} were written"
            if digest_file(folder / name) != digest:
                return f"{name} does not have the bytes that were written"
        except FileNotFoundError:
            return f"{name} is missing"
    return None


def _seal(folder: Path, kind: str, key: str) -> None:
    """Writes entry.json and flushes the folder and all that is in it."""
    if (folder / _INDEX).exists():
        raise ValueError(f"an entry may not have a file named {_INDEX} of its own")
    paths = sorted(folder.rglob("*"))
    links = [path.name for path in paths if path.is_symlink()]
    if links:
        raise ValueError(f"an entry may hold files and folders only, but `{links[0]}` is a symbolic link")
    files = {
        path.relative_to(folder).as_posix(): {"sha256": digest_file(path), "bytes": path.stat().st_size}
        for path in paths
        if path.is_file()
    }
    index = {
        "kind": kind,
        "key": key,
        "created": time.time(),
        "bytes": sum(path.stat().st_size for path in paths if path.is_file()),
        "files": files,
    }
    (folder / _INDEX).write_text(json.dumps(index, indent=1, sort_keys=True))
    for path in (*paths, folder / _INDEX, folder):
        _flush(path)


def _move(temporary: Path, place: Path) -> None:
    """The one step in which an entry appears; an entry that is there already stays."""
    try:
        temporary.replace(place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return
    _flush(place.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_dead(temporary: Path) -> bool:
    """Whether nobody writes this temporary folder any more: its lock is free, as after a kill."""
    try:
        age = datetime.now(UTC) - _time(temporary.stat().st_mtime)
        descriptor = os.open(temporary, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return age > _BEING_MADE


def _complete_entry(folder: Path) -> Entry | None:
    """None if the entry is being removed by another process."""
    try:
        used = _time((folder / _INDEX).stat().st_mtime)
        index = json.loads((folder / _INDEX).read_bytes())
        created, size = _time(float(index["created"])), int(index["bytes"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError):
        # Damaged: still listed, so that it can be pruned. `find` would remove it.
        created, size = used, _size(folder)
    return Entry(folder.parent.name, folder.name, size, created, used, folder)


def _unfinished_entry(folder: Path, state: State) -> Entry | None:
    times = []
    with suppress(FileNotFoundError):
        times = [path.stat().st_mtime for path in (folder, *folder.rglob("*"))]
    if not times:
        return None
    kind = folder.parent.name if state == "scratch" else "tmp"
    return Entry(kind, folder.name, _size(folder), _time(min(times)), _time(max(times)), folder, state)


def _by_use(entries: Iterable[Entry | None]) -> tuple[Entry, ...]:
    present = [entry for entry in entries if entry is not None]
    return tuple(sorted(present, key=lambda entry: (entry.last_used, entry.kind, entry.key)))


def _size(folder: Path) -> int:
    with suppress(FileNotFoundError):
        return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return 0


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
