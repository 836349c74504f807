"""Texts in groups of queries and documents, or in scored pairs: of files with a pair a row, or of user code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compresslab.data.features import checked_targets
from compresslab.data.grouped import Grouped, checked_groups
from compresslab.data.grouping import connected, numbered
from compresslab.data.table_rows import blank, require_letters, row_place, table_rows
from compresslab.errors import DataError, did_you_mean
from compresslab.measure.text_preprocessing import as_texts
from compresslab.user_code import call

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.text_preprocessing import Texts

_PARTS = {"train": "", "validation": "validation_", "test": "test_"}
GROUPED_TEXT_KEYS = tuple(f"{prefix}{name}" for prefix in _PARTS.values() for name in ("texts", "groups", "scores"))
"""What a user's function returns: `texts`, and `groups` or, for `similarity`, `scores`; perhaps the same of the other
parts. Without groups texts can only be distilled."""


def pairs_of_file(path: Path, query: str, document: str) -> Grouped:
    """A row a pair. Rows that share a query, or a document, are of one group.

    Args:
        path: As `text_rows.read_rows` takes it.
        query: The column of the queries.
        document: The column of their documents.

    Raises:
        DataError: The file is missing or broken, has no such column, or a text is empty or both query and document.
    """
    queries, documents, places = [], [], []
    for place, asked, answer, _ in _pairs(path, query, document):
        queries.append(asked)
        documents.append(answer)
        places.append(place)
    both = set(queries) & set(documents)
    if both:
        row = next(row for row, text in enumerate(queries) if text in both)
        raise DataError(f"{places[row]}: this query is a document as well: {queries[row][:60]!r}; leave one out")
    texts: dict[str, int] = {}
    groups = connected(numbered(queries), numbered(documents)).tolist()
    for asked, answer, group in zip(queries, documents, groups, strict=True):
        texts.setdefault(asked, -(group + 1))
        texts.setdefault(answer, group)
    return Grouped(as_texts(texts), np.array(list(texts.values()), np.int64))


def scored_pairs_of_file(path: Path, first: str, second: str, score: str) -> Grouped:
    """A row a pair of texts with people's score of how alike they are.

    Raises:
        DataError: As `pairs_of_file`, or a score is no number.
    """
    texts, scores = [], []
    for place, one, other, value in _pairs(path, first, second, score):
        texts += [one, other]
        scores += [_number(value, f"{place}: `{score}`")] * 2
    return Grouped(as_texts(texts), checked_targets(f"{path}: `{score}`", np.array(scores, np.float32), len(texts)))


def _pairs(path: Path, first: str, second: str, score: str | None = None) -> Iterator[tuple[str, str, str, Any]]:
    """Where each row is, its two texts, and its score where one is asked for."""
    needed = [first, second] if score is None else [first, second, score]
    empty = True
    for number, fields in table_rows(path, needed, no_column, beside=()):
        empty = False
        place = row_place(path, number)
        yield place, _text(fields[first], place), _text(fields[second], place), fields.get(score or "")
    if empty:
        raise DataError(f"{path}: has no texts")


def no_column(place: str, column: str, found: Sequence[str]) -> DataError:
    """What to say of a table without such a column."""
    there = ", ".join(f"`{one}`" for one in found) or "nothing"
    return DataError(
        f"{place}: has no `{column}`{did_you_mean(column, found)}; found {there}; name the right one by `query`, "
        "`document` or `score`, in the task, or in a command as `--column query=NAME`"
    )


def grouped_of_python(reference: str) -> dict[str, Grouped]:
    """Calls `module:function` without arguments; it returns a mapping with names of `GROUPED_TEXT_KEYS`.

    Raises:
        BadInput: The function cannot be found or fails.
        DataError: What it returns is something else.
    """
    found = call(reference, {})
    if not isinstance(found, Mapping):
        raise DataError(f"{reference}: returned a {type(found).__name__}; return a mapping with `texts`")
    for key in found:
        if key not in GROUPED_TEXT_KEYS:
            raise DataError(
                f"{reference}: unknown part `{key}`{did_you_mean(str(key), GROUPED_TEXT_KEYS)} (allowed: "
                f"{', '.join(GROUPED_TEXT_KEYS)})"
            )
    if "texts" not in found:
        raise DataError(f"{reference}: returned no `texts`")
    return {
        part: _grouped(f"{reference}: `{prefix}", found, prefix)
        for part, prefix in _PARTS.items()
        if any(f"{prefix}{name}" in found for name in ("texts", "groups", "scores"))
    }


def _grouped(where: str, found: Mapping[Any, Any], prefix: str) -> Grouped:
    given, groups, scores = (found.get(f"{prefix}{name}") for name in ("texts", "groups", "scores"))
    if given is None:
        raise DataError(f"{where}texts` is missing; give it, or leave out what belongs to it")
    if groups is not None and scores is not None:
        raise DataError(f"{where}groups` and `{prefix}scores` are both there; give what the metric reads")
    texts = _texts(f"{where}texts`", given)
    if groups is not None:
        return Grouped(texts, checked_groups(f"{where}groups`", groups, len(texts)))
    if scores is not None:
        return Grouped(texts, checked_targets(f"{where}scores`", np.asarray(scores, np.float32), len(texts)))
    return Grouped(texts, None)


def _number(value: Any, where: str) -> float:
    try:
        number = math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise DataError(f"{where} must be a number, such as 1.5, but is {value!r}; correct it, or leave the row out")
    return number


def _texts(where: str, given: Any) -> Texts:
    if isinstance(given, str) or not isinstance(given, Sequence | np.ndarray) or not len(given):
        raise DataError(f"{where}: must be a list of strings, and not an empty one")
    return as_texts([_text(text, f"{where}[{row}]") for row, text in enumerate(given)])


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: the text is a {type(value).__name__}; give a string, or leave it out")
    require_letters(f"{where}: the text", value)
    if blank(value):
        raise DataError(f"{where}: the text is empty; leave it out")
    return str(value)
