"""Labelled texts as plain arrays: where they may come from, and what belongs to each as a class or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.data.hub_texts import fetch_texts
from compresslab.data.many_texts import rows_of_file, rows_of_saved
from compresslab.data.table_rows import require_letters
from compresslab.data.text_rows import TextRows, returned_texts
from compresslab.errors import DataError, did_you_mean
from compresslab.user_code import call

if TYPE_CHECKING:
    from compresslab.store import Store

TEXT_KEYS = ("texts", "{}", "validation_texts", "validation_{}", "test_texts", "test_{}")
"""What a user's function returns, `{}` being `labels` or `targets`; the first two must be there."""

_MOST_CLASSES = 10_000
_FRACTION = re.compile(r"-?\d+\.\d*")


@dataclass(frozen=True)
class TextSource:
    """What a place held: `train` is what the other splits are carved from, unless the place had them apart."""

    name: str
    parts: Mapping[str, TextRows]


def from_files(
    path: Path, validation: Path | None, test: Path | None, text: str, value: str, store: Store | None = None
) -> TextSource:
    """Files of one kind or another, one for each part of the data.

    Raises:
        DataError: As `read_rows`.
    """
    given = {"train": path, "validation": validation, "test": test}
    parts = {name: rows_of_file(one, text, value, store) for name, one in given.items() if one is not None}
    return TextSource(path.stem, parts)


def from_saved(folder: Path, text: str, value: str, store: Store | None = None) -> TextSource:
    """A folder that `save_to_disk` of `datasets` wrote.

    Raises:
        DataError: The library or the folder is missing, or has no such columns.
    """
    return TextSource(folder.resolve().name, rows_of_saved(folder, text, value, store))


def from_hub(name: str, text: str, value: str, cache: Path, store: Store | None = None) -> TextSource:
    """A data set of the Hugging Face hub, fetched once.

    Raises:
        DataError: It cannot be fetched, or has no such columns.
    """
    found = from_saved(fetch_texts(name, cache), text, value, store)
    return TextSource(name.rpartition("/")[2], found.parts)


def from_python(reference: str, values: str) -> TextSource:
    """Calls `module:function` without arguments; it returns a mapping with the names in `TEXT_KEYS`.

    Args:
        reference: The function.
        values: `labels` or `targets`.

    Raises:
        BadInput: The function cannot be found or fails.
        DataError: What it returns is something else.
    """
    allowed = [key.format(values) for key in TEXT_KEYS]
    found = call(reference, {})
    if not isinstance(found, Mapping):
        raise DataError(
            f"{reference}: returned a {type(found).__name__}; return a mapping with `texts` and `{values}` (allowed: "
            f"{', '.join(allowed)})"
        )
    for key in found:
        if key not in allowed:
            raise DataError(
                f"{reference}: unknown part `{key}`{did_you_mean(str(key), allowed)} (allowed: {', '.join(allowed)})"
            )
    parts = {}
    for part, prefix in (("train", ""), ("validation", "validation_"), ("test", "test_")):
        texts, beside = (found.get(f"{prefix}{key}") for key in ("texts", values))
        if texts is None and beside is None and prefix:
            continue
        if texts is None or beside is None or len(texts) != len(beside):
            raise DataError(f"{reference}: `{prefix}texts` and `{prefix}{values}` must both be there, and as many")
        parts[part] = _given(f"{reference}: `{prefix}texts`", texts, beside)
    return TextSource(reference.rpartition(":")[2], parts)


def classes(
    parts: Mapping[str, TextRows], named: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """The names of the classes, in order, and each part's as their numbers.

    Args:
        parts: Of the data. Values are names, or whole numbers.
        named: The names that the model has for its outputs, in order. Names of the data that are these but for how
            they are written are put into this order, and numbers mean these; None where it has none.

    Raises:
        DataError: A value is missing, or is no class.
    """
    told = next((rows.names for rows in parts.values() if rows.names is not None), None)
    found = {part: [_label(rows, row) for row in range(len(rows.texts))] for part, rows in parts.items()}
    if told is not None:
        found = {part: [_named(parts[part], row, told, label) for row, label in enumerate(labels)]
                 for part, labels in found.items()}  # fmt: skip
    distinct = {label for labels in found.values() for label in labels}
    if told is None:
        _require_classes(parts, found, distinct)
    if told is None and all(label.isascii() and label.isdigit() for label in distinct):
        return _numbered(parts, found, named)
    labels = told if told is not None else tuple(sorted(distinct))
    if named is not None and sorted(map(spelled, named)) == sorted(map(spelled, labels)):
        ours = {spelled(label): label for label in labels}
        labels = tuple(ours[spelled(name)] for name in named)
    index = {label: number for number, label in enumerate(labels)}
    return labels, {part: np.array([index[one] for one in given], np.int64) for part, given in found.items()}


def scores(rows: TextRows) -> npt.NDArray[np.float32]:
    """The number that belongs to each text, float32 [n].

    Raises:
        DataError: One is missing, no number, NaN or infinite.
    """
    assert rows.values is not None, "values were asked for"
    found = np.empty(len(rows.values), np.float32)
    for row, value in enumerate(rows.values):
        try:
            number = math.nan if value is None or isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise DataError(
                f"{rows.place(row)}: the target must be a number, such as 1.5, but is {value!r}; correct it, or leave "
                "the row out"
            )
        found[row] = number
    return found


def spelled(name: str) -> str:
    """A label without what it may be written with or without: case, spaces, and signs between words."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _label(rows: TextRows, row: int) -> str:
    assert rows.values is not None, "values were asked for"
    value = rows.values[row]
    if not isinstance(value, str | int | np.integer) or not str(value).strip():
        remedy = "leave the row out"
        if isinstance(value, float) and value.is_integer():
            remedy = f"write {value:.0f}"
        raise DataError(f"{rows.place(row)}: the label must be a name or a whole number, but is {value!r}; {remedy}")
    require_letters(f"{rows.place(row)}: the label", str(value), "the row")
    return str(int(value)) if isinstance(value, bool) else str(value).strip()


def _require_classes(parts: Mapping[str, TextRows], found: Mapping[str, Sequence[str]], distinct: set[str]) -> None:
    """Refuses numbers with a point, which are no classes, and a class that no training text is of."""
    if all(_FRACTION.fullmatch(label) or label.isdigit() for label in distinct) and any("." in one for one in distinct):
        part, row = next((part, row) for part, labels in found.items() for row, one in enumerate(labels) if "." in one)
        raise DataError(
            f"{parts[part].place(row)}: the label is {found[part][row]}, and classes are names or whole numbers from "
            "0; write them so, or give the task as `text_regression`"
        )
    if "train" not in found:  # data that is measured with has the labels of the model
        return
    known = set(found["train"])
    for part, labels in found.items():
        for row, label in enumerate(labels):
            if label not in known and not label.isdigit():
                raise DataError(
                    f"{parts[part].place(row)}: the label is `{label}`, which no training text has"
                    f"{did_you_mean(label, sorted(known))}; correct it, leave the row out, or add training texts of it"
                )


def _named(rows: TextRows, row: int, names: Sequence[str], label: str) -> str:
    if label.isascii() and label.isdigit() and int(label) < len(names):
        return names[int(label)]
    raise DataError(f"{rows.place(row)}: the label is {label}, but there are {len(names)} names of labels")


def _numbered(
    parts: Mapping[str, TextRows], found: Mapping[str, Sequence[str]], named: Sequence[str] | None
) -> tuple[tuple[str, ...], dict[str, npt.NDArray[np.int64]]]:
    """Classes that are numbers: those of the model's outputs, or as many as the largest says."""
    numbers = {part: np.array([int(label) for label in labels], np.int64) for part, labels in found.items()}
    highest = max(int(one.max()) for one in numbers.values())
    count = highest + 1 if named is None else len(named)
    if named is None and highest >= _MOST_CLASSES:
        raise DataError(f"the labels are numbers up to {highest}; number classes from 0, or write their names")
    for part, one in numbers.items():
        outside = np.flatnonzero(one >= count)
        if len(outside):
            row = int(outside[0])
            raise DataError(
                f"{parts[part].place(row)}: the label is {one[row]}, but the model has {count} classes, counted from 0"
            )
    return tuple(named) if named is not None else tuple(str(one) for one in range(count)), numbers


def _given(where: str, texts: Any, values: Any) -> TextRows:
    def place(row: int) -> str:
        return f"{where}, row {row}"

    return TextRows(
        returned_texts(where, texts), values.tolist() if isinstance(values, np.ndarray) else list(values), place
    )
