"""What becomes of texts when they are read: what is cut off, what has no token, what the tokenizer does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compresslab.errors import DataError
from compresslab.tasks.tokens import tokenised

if TYPE_CHECKING:
    from compresslab.measure.text_preprocessing import TextPreprocessing, Texts
    from compresslab.tasks.task import Split
    from compresslab.tasks.tokens import Tokenised, Tokens

Place = Callable[[int], str]
"""Says where a text stands, by its number."""

Read = Callable[["Texts", "TextPreprocessing"], "Tokenised"]

# Names and signs that no vocabulary has are in any text; a language that it was not made for is another matter.
_TOLD_SHARE = 0.01
_SHOWN = 40


def split_notes(
    splits: Mapping[str, Split], how: TextPreprocessing, tokens: Tokens, places: Mapping[str, Place] | None = None
) -> tuple[str, ...]:
    """What the user should know of the texts of splits.

    Args:
        splits: Of texts.
        how: How they are read.
        tokens: Remembers their ids.
        places: By part of the source, where its rows stand.

    Raises:
        DataError: A text is too long and none may be cut, or has no token of its own.
    """
    notes = []
    for name, split in splits.items():
        texts: Texts = split.inputs  # type: ignore[assignment]  # splits of texts hold texts
        own = None if places is None else places.get(split.part)
        place = None if own is None else _by_row(own, split.rows)
        made = _read(f"`{name}`", texts, how, place, partial(tokens.of, split.digest))
        notes += _told(name, texts, made, how, place)
    return tuple(notes)


def text_notes(named: Mapping[str, Texts], how: TextPreprocessing) -> tuple[str, ...]:
    """The same of texts that are read for this alone, by what to call them.

    Raises:
        DataError: As `split_notes`.
    """
    notes = []
    for name, texts in named.items():
        notes += _told(f"`{name}`", texts, _read(f"`{name}`", texts, how, None, tokenised), how, None)
    return tuple(notes)


def _by_row(place: Place, rows: npt.NDArray[np.int64]) -> Place:
    return lambda row: place(int(rows[row]))


def _read(name: str, texts: Texts, how: TextPreprocessing, place: Place | None, read: Read) -> Tokenised:
    """The ids of texts. Where one is too long and none may be cut, the others are counted, to say how many."""
    try:
        return read(texts, how)
    except DataError:
        _require_short(name, texts, how, place)
        raise


def _require_short(name: str, texts: Texts, how: TextPreprocessing, place: Place | None) -> None:
    lengths = how.lengths(texts)
    long = np.flatnonzero(lengths > how.max_length)
    if len(long):
        row = int(long[0])
        raise DataError(
            f"{_where(name, texts, row, place)} has {lengths[row]} tokens, but at most {how.max_length} are read "
            f"({len(long)} of {len(texts)} texts of {name} have more); shorten it, or let long texts be cut "
            "(`too_long: note` in the task)"
        )


def _told(name: str, texts: Texts, made: Tokenised, how: TextPreprocessing, place: Place | None) -> list[str]:
    empty = np.flatnonzero(made.ids.lengths <= how.around)
    if len(empty):
        more = f" ({len(empty)} texts have none)" if len(empty) > 1 else ""
        where = _where(f"`{name.strip('`')}`", texts, int(empty[0]), place)  # a benchmark's name has its quotes
        raise DataError(f"{where} has no token of its own{more}: nothing in it is read; leave it out")
    notes = []
    if made.cut:
        notes.append(
            f"{made.cut} of {len(texts)} {name} texts ({100 * made.cut / len(texts):.1f} %) have more than "
            f"{how.max_length} tokens, and only the first {how.max_length} are read"
        )
    strange, share = how.unknown(made.ids)
    if share >= _TOLD_SHARE:
        notes.append(
            f"{strange} of {len(texts)} {name} texts have parts that the tokenizer does not know, {100 * share:.1f} % "
            "of all tokens: the model cannot tell them apart; it may not be made for this language"
        )
    return notes


def _where(name: str, texts: Texts, row: int, place: Place | None) -> str:
    said = str(texts[row])
    shown = repr(said if len(said) <= _SHOWN else f"{said[:_SHOWN]}...")
    return f"{name}: the text {shown}" if place is None else f"{place(row)}: the text {shown}"
