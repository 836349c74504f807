"""Texts to distil a sentence encoder on, and what its student is judged by, as a pipeline's `python:` names them.

Queries and documents are in groups: g for a document of group g, -(g + 1) for a query of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from package_data import texts

_VALIDATION, _TEST = 1000, 1500
"""Packages whose synopses have to find their descriptions; all others' texts are distilled on."""

_EVERY = {"descriptions": 2, "wordnet": 2, "dictionaries": 6}
"""Of these so many-th texts are taken: the teacher has to read all that is trained on, and short ones say less."""

_WHOLE = 900
"""Characters of a description as a whole; the paragraphs beyond are texts of their own."""


def packages() -> dict[str, Any]:
    """Unlabelled texts to train on, and synopses that have to find their descriptions among all of a split."""
    pairs = texts.packages()
    test, validation, rest = (
        pairs[:_TEST],
        pairs[_TEST : _TEST + _VALIDATION],
        pairs[_TEST + _VALIDATION :],
    )
    held_out = {texts.plain(text) for pair in (*test, *validation) for text in pair}
    own = [text for pair in rest for text in pair]
    whole = texts.descriptions()[:: _EVERY["descriptions"]]
    told = [one for one in whole if held_out.isdisjoint(map(texts.plain, one))]
    train = dict.fromkeys(
        [*own, *_wholes(told), *texts.wordnet()[:: _EVERY["wordnet"]], *texts.dictionaries()[:: _EVERY["dictionaries"]],
         *texts.fortunes(), *texts.speeches(), *texts.novel()]
    )  # fmt: skip
    found: dict[str, Any] = {"texts": [text for text in train if texts.plain(text) not in held_out]}
    for split, part in (("validation", validation), ("test", test)):
        found[f"{split}_texts"], found[f"{split}_groups"] = _of_groups([[one] for one in part])
    return found


def _wholes(descriptions: Iterable[Sequence[str]]) -> list[str]:
    """As many paragraphs of each as are not too long together, and each of the others alone; no single ones."""
    found = []
    for paragraphs in descriptions:
        count = next((n for n in range(len(paragraphs), 1, -1) if sum(map(len, paragraphs[:n])) <= _WHOLE), 1)
        if count > 1:
            found.append(" ".join(paragraphs[:count]))
        found += [one for one in paragraphs[count:] if len(one) <= _WHOLE]
    return found


def few_packages() -> dict[str, Any]:
    """As `packages`, with a thousandth of the training texts and a twentieth of the others: to see that it runs."""
    found = packages()
    return {name: values[::1000] if name == "texts" else _first(values) for name, values in found.items()}


def news() -> dict[str, Any]:
    """One half of a newspaper's editorial, every second sentence, has to find the other half."""
    return _of_halves("news")


def reviews() -> dict[str, Any]:
    """One half of a product's review, every second sentence, has to find the other half."""
    return _of_halves("reviews")


def news_sentences() -> dict[str, Any]:
    """Every second sentence of an editorial has to find any of the others of the same editorial."""
    return _of_sentences("news")


def review_sentences() -> dict[str, Any]:
    """Every second sentence of a product's review has to find any of the others of the same review."""
    return _of_sentences("reviews")


def few_news() -> dict[str, Any]:
    """A twentieth of `news`."""
    return _few(news())


def few_reviews() -> dict[str, Any]:
    """A twentieth of `reviews`."""
    return _few(reviews())


def few_news_sentences() -> dict[str, Any]:
    """A twentieth of `news_sentences`."""
    return _few(news_sentences())


def few_review_sentences() -> dict[str, Any]:
    """A twentieth of `review_sentences`."""
    return _few(review_sentences())


def simlex() -> dict[str, Any]:
    """Hill, Reichart and Korhonen, "SimLex-999", Computational Linguistics 41, 2015."""
    return _of_pairs(texts.word_pairs("simlex999"))


def wordsim() -> dict[str, Any]:
    """Finkelstein et al., "Placing Search in Context: The Concept Revisited", WWW 2001."""
    return _of_pairs(texts.word_pairs("wordsim353"))


def lee() -> dict[str, Any]:
    """Pairs of fifty short news stories."""
    return _of_pairs(texts.lee())


def few_lee() -> dict[str, Any]:
    """A twentieth of `lee`."""
    return _few(lee())


def _few(found: dict[str, Any]) -> dict[str, Any]:
    return {name: _first(values) for name, values in found.items()}


def _first(values: list[Any]) -> list[Any]:
    """A twentieth, with what is in pairs in its pairs still."""
    return values[: len(values) // 40 * 2]


def _of_halves(kind: str) -> dict[str, Any]:
    halves = ([" ".join(one[::2]), " ".join(one[1::2])] for one in _articles(kind) if len(one) > 1)
    return _with_groups([(query, document)] for query, document in halves)


def _of_sentences(kind: str) -> dict[str, Any]:
    told = [list(zip(one[::2], one[1::2], strict=False)) for one in _articles(kind)]
    return _with_groups(pairs for pairs in told if pairs)


def _articles(kind: str) -> list[list[str]]:
    """Their sentences; what two articles say alike has no one place to be found in, so that only the first has it."""
    told, seen = [], set[str]()
    for article in texts.articles(kind):
        sentences = [one for one in dict.fromkeys(article) if one not in seen]
        seen.update(sentences)
        told.append(sentences)
    return told


def _with_groups(groups: Iterable[Iterable[tuple[str, str]]]) -> dict[str, Any]:
    found, numbers = _of_groups(groups)
    return {"texts": found, "groups": numbers}


def _of_groups(groups: Iterable[Iterable[tuple[str, str]]]) -> tuple[list[str], list[int]]:
    """Texts and their numbers, of groups of (query, document)."""
    found, numbers = [], []
    for group, pairs in enumerate(groups):
        for query, document in pairs:
            found += [query, document]
            numbers += [-(group + 1), group]
    return found, numbers


def _of_pairs(pairs: Iterable[tuple[str, str, float]]) -> dict[str, Any]:
    rows = list(pairs)
    return {
        "texts": [text for first, second, _ in rows for text in (first, second)],
        "scores": [score for *_, score in rows for _ in range(2)],
    }
