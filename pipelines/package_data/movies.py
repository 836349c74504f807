"""Lines of film reviews and how people scored them, as a pipeline's `python:` names them."""

from __future__ import annotations

from typing import Any

from package_data.texts import movie_lines

_CLEAR = 0.5
"""Lines that people scored nearer to nought than this are for neither side."""


def scores() -> dict[str, Any]:
    """Each line with the mean of some fifteen people's scores, -4 to 4."""
    rows = movie_lines()
    return {"texts": [text for text, _ in rows], "targets": [score for _, score in rows]}


def few_scores() -> dict[str, Any]:
    """Every thirtieth of `scores`: to see that a pipeline runs."""
    return {name: values[::30] for name, values in scores().items()}


def sides() -> dict[str, Any]:
    """Each line that people are of one mind about, as `negative` or `positive`."""
    rows = [(text, score) for text, score in movie_lines() if abs(score) >= _CLEAR]
    labels = ["positive" if score > 0 else "negative" for _, score in rows]
    return {"texts": [text for text, _ in rows], "labels": labels}
