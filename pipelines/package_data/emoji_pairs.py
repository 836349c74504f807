"""Pictures and texts of the same emoji, split by what they are of, with one vendor held out: for `cross_modal`."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np

from package_data.emoji import VENDORS, Concept, concepts, drawn
from package_data.texts import plain, wordnet

SIDE = 48
"""Pixels of a picture's side."""
HELD_OUT = "emojione"
"""The vendor of which nothing is trained on."""
_TEST, _VALIDATION = 20, 10
"""Per cent of the concepts that are held out."""
_EVERY = 8
"""Of WordNet's texts every so many-th is taken."""
_FEW = 12


def pairs() -> dict[str, Any]:
    """Every concept that two vendors have drawn, as a group: their pictures, its name, and its name with its tags.

    Unpaired texts, for the text tower alone: training concepts' tags, and glosses of WordNet.

    The benchmark `vendor` has the held-out vendor's pictures of all concepts, `vendor_test` those of test concepts.
    """
    return _pairs(list(concepts()), wordnet()[::_EVERY])


def few_pairs() -> dict[str, Any]:
    """As `pairs`, with every twelfth concept and fewer of WordNet's texts: to see that a pipeline runs."""
    return _pairs(list(concepts())[::_FEW], wordnet()[:: 10 * _FEW * _EVERY])


def _pairs(known: Sequence[Concept], glosses: Sequence[str]) -> dict[str, Any]:
    pictures = {vendor: drawn(vendor, SIDE) for vendor in VENDORS}
    trained = [vendor for vendor in VENDORS if vendor != HELD_OUT]
    usable = [one for one in known if sum(one.code in pictures[vendor] for vendor in trained) > 1]
    found: dict[str, Any] = {}
    for prefix, split in (("", "train"), ("validation_", "validation"), ("test_", "test")):
        its = [one for one in usable if _split(one) == split]
        found |= {f"{prefix}{key}": value for key, value in _arrays(known, its, [pictures[v] for v in trained]).items()}
    held_out = [one for one in usable if one.code in pictures[HELD_OUT]]
    fresh = [one for one in held_out if _split(one) == "test"]
    found["benchmarks"] = {
        name: _arrays(known, its, [pictures[HELD_OUT]]) for name, its in (("vendor", held_out), ("vendor_test", fresh))
    }
    held_back = {plain(text) for prefix in ("validation_", "test_") for text in found[f"{prefix}texts"]}
    words = [tag for one in usable if _split(one) == "train" for tag in one.tags]
    every = dict.fromkeys([*words, *glosses])
    found["transfer_texts"] = [text for text in every if plain(text) not in held_back]
    return found


def texts_of(concept: Concept) -> tuple[str, ...]:
    """Its name, and where it has tags its name with these."""
    if not concept.tags:
        return (concept.name,)
    return concept.name, f"{concept.name}: {', '.join(concept.tags)}"


def _split(concept: Concept) -> str:
    """By the name alone, so that what differs in a sign or a colour of the code stays together."""
    place = int.from_bytes(sha256(concept.name.encode()).digest()[:4], "big") % 100
    return "test" if place < _TEST else "validation" if place < _TEST + _VALIDATION else "train"


def _arrays(
    known: Sequence[Concept], its: Sequence[Concept], vendors: Sequence[dict[str, np.ndarray]]
) -> dict[str, Any]:
    numbers = {concept: number for number, concept in enumerate(known)}
    images = [(numbers[one], vendor[one.code]) for one in its for vendor in vendors if one.code in vendor]
    texts = [(numbers[one], text) for one in its for text in texts_of(one)]
    return {
        "images": np.stack([image for _, image in images]),
        "image_groups": np.array([group for group, _ in images]),
        "texts": [text for _, text in texts],
        "text_groups": np.array([group for group, _ in texts]),
    }
