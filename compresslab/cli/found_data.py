"""What data looks like at a glance, for a first pipeline: its kind, sizes and labels. A sample of it is read."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Kind = Literal["images", "features", "texts"]

_OPENED = 64
_ROWS = 2000
_TABLES = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".parquet": "parquet"}
_LABEL_NAMES = ("label", "labels", "class", "target", "category", "queue", "topic", "intent", "sentiment")
_UNEVEN = 3.0


@dataclass(frozen=True)
class FoundData:
    """Data as a pipeline names it, and what was seen of it.

    Args:
        kind: What the samples are.
        source: The key that the task has for it.
        counts: Samples of each label, of those that were looked at; empty of a regression.
        sides: (height, width) of images that were looked at.
        grey: Whether all of them are.
        columns: Of a table, the names of its text and its label.
        width: Features of a sample.
    """

    kind: Kind
    source: str
    counts: Mapping[str, int]
    sides: tuple[tuple[int, int], ...] = ()
    grey: bool = False
    columns: tuple[str, str] | None = None
    width: int | None = None

    @property
    def one_size(self) -> bool:
        """Whether all images are the same square or rectangle."""
        return len(set(self.sides)) == 1

    @property
    def shorter_side(self) -> int:
        """Of a typical image, in pixels."""
        return int(median(min(side) for side in self.sides))

    @property
    def uneven(self) -> bool:
        """Whether the labels are so unevenly common that accuracy would overlook the rare ones."""
        return bool(self.counts) and max(self.counts.values()) > _UNEVEN * min(self.counts.values())


def look_at_data(path: Path) -> FoundData:
    """The data at a path: a folder of images, an .npz file, or a table with a text and a label column.

    Raises:
        DataError: There is nothing, or nothing that a task reads.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder; give a folder of images, an .npz, .csv, .jsonl or .parquet "
                        "file")  # fmt: skip
    if path.suffix == ".npz":
        return _arrays(path)
    if path.suffix.lower() in _TABLES:
        return _table(path, _TABLES[path.suffix.lower()])
    raise DataError(
        f"{path}: what `{path.suffix}` files hold is not known; give a folder of images, an .npz file with `images` "
        "and `labels` or `features` and `targets`, or a .csv, .jsonl or .parquet file of texts"
    )


def _folder(path: Path) -> FoundData:
    from compresslab.data.hf_saved import is_saved
    from compresslab.data.image_folder import listed_images

    if is_saved(path):
        # What is in it only the library tells, which takes longer to load than all of this.
        return FoundData("images", "datasets", {})
    listed = listed_images(path)
    sides, grey = _opened([file for files in listed.values() for file in files])
    return FoundData("images", "folder", {label: len(files) for label, files in listed.items()}, sides, grey)


def _opened(paths: Sequence[Path]) -> tuple[tuple[tuple[int, int], ...], bool]:
    """Sizes of some of the images, spread over all, and whether they are grey; their headers alone are read."""
    from PIL import Image

    sides, grey = [], True
    for path in paths[:: max(1, len(paths) // _OPENED)][:_OPENED]:
        try:
            with Image.open(path) as image:
                sides.append((image.height, image.width))
                grey = grey and image.mode in ("1", "L", "I;16", "I")
        except (OSError, ValueError, SyntaxError) as error:
            raise DataError(f"{path}: cannot be read as an image ({error}); remove it, or write it anew") from error
    return tuple(sides), grey


def _arrays(path: Path) -> FoundData:
    from compresslab.data.npz import read_arrays

    arrays = read_arrays(path)
    if "images" in arrays and "labels" in arrays and arrays["images"].ndim in (3, 4):
        images = arrays["images"]
        names = arrays.get("label_names")
        found = Counter(arrays["labels"].ravel().tolist())
        counts = {str(names[int(key)]) if names is not None else str(key): number for key, number in found.items()}
        grey = images.ndim == 3 or images.shape[3] == 1
        return FoundData("images", "npz", counts, ((images.shape[1], images.shape[2]),), grey)
    if "features" in arrays and "targets" in arrays and arrays["features"].ndim == 2:
        return FoundData("features", "npz", {}, width=arrays["features"].shape[1])
    held = ", ".join(f"`{name}` {list(array.shape)}" for name, array in arrays.items()) or "nothing"
    raise DataError(
        f"{path}: holds {held}; a task reads `images` [n, height, width(, channels)] and `labels`, or `features` "
        "[n, d] and `targets`"
    )


def _table(path: Path, source: str) -> FoundData:
    rows = _rows(path)
    if not rows:
        raise DataError(f"{path}: has no rows")
    _require_no_images(path, rows)
    words = {name for row in rows for name, value in row.items() if isinstance(value, str)}
    length = {name: sum(len(str(row.get(name, ""))) for row in rows) / len(rows) for name in sorted(words)}
    if not length:
        raise DataError(f"{path}: has no column of text, but {', '.join(f'`{name}`' for name in rows[0]) or 'nothing'}")
    text = max(length, key=lambda name: length[name])
    values = {name: Counter(str(row[name]) for row in rows if row.get(name) is not None) for name in rows[0]}
    label = _label_column(values, text, len(rows))
    if label is None:
        listed = ", ".join(f"`{name}` ({len(found)} values)" for name, found in values.items() if name != text)
        raise DataError(
            f"{path}: beside the texts in `{text}` no column has a few labels that come again, but {listed or 'none'}; "
            "add one"
        )
    return FoundData("texts", source, values[label], columns=(text, label))


def _label_column(values: Mapping[str, Counter[str]], text: str, rows: int) -> str | None:
    """The column by its name, or else the one of the fewest values; each must come twice on average."""
    fit = [name for name, found in values.items() if name != text and 2 <= len(found) <= max(2, rows // 2)]
    named = [name for name in fit if name.lower() in _LABEL_NAMES]
    return min(named or fit, key=lambda name: len(values[name]), default=None)


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """The first rows of a table."""
    from compresslab.data.table_rows import table_rows

    found = table_rows(path, (), lambda place, column, _: DataError(f"{place}: has no `{column}`"))
    return [fields for _, fields in islice(found, _ROWS)]


def _require_no_images(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses a table of pairs: a pipeline for it has two networks, and one was given."""
    from compresslab.data.pair_tables import IMAGE, TEXT

    if {IMAGE, TEXT} <= set(rows[0]):
        raise DataError(
            f"{path}: has the columns `{IMAGE}` and `{TEXT}`, and is a table of images and texts that belong together: "
            "its pipeline has a network for each, and is written by hand, as docs/towers.md shows"
        )
