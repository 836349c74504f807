"""Tiny pictures and words of things in groups: what tests of two towers are about."""

from __future__ import annotations

import numpy as np

COLOURS = {"red": (220, 40, 40), "green": (40, 200, 40), "blue": (40, 60, 220), "yellow": (230, 220, 50),
           "white": (240, 240, 240), "cyan": (40, 220, 220)}  # fmt: skip
SHAPES = ("bar", "beam", "cross", "frame", "dot", "corner")
NOUNS = ("thing", "sign", "mark")
SIDE = 16


def things() -> list[tuple[str, str, int]]:
    """Every colour, shape and brightness of the ground: a group each."""
    return [(colour, shape, ground) for colour in COLOURS for shape in SHAPES for ground in (0, 60, 120)]


def picture(colour: str, shape: str, ground: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3], a little elsewhere each time."""
    image = np.full((SIDE, SIDE, 3), ground, np.int64)
    y, x = np.mgrid[:SIDE, :SIDE]
    dy, dx = rng.integers(-1, 2, 2)
    y, x = y - 8 - dy, x - 8 - dx
    inside = {
        "bar": abs(x) < 2, "beam": abs(y) < 2, "cross": (abs(x) < 2) | (abs(y) < 2),
        "frame": np.maximum(abs(x), abs(y)) == 5, "dot": x**2 + y**2 < 16, "corner": (x < 0) & (y < 0),
    }[shape]  # fmt: skip
    image[inside] = COLOURS[colour]
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype(np.uint8)


def words(colour: str, shape: str, ground: int) -> list[str]:
    """Two texts of a group."""
    shade = {0: "dark", 60: "dim", 120: "bright"}[ground]
    return [f"{colour} {shape} {shade}", f"{shade} {NOUNS[ground % 3]} with {colour} {shape}"]


def numbered(text: str) -> np.ndarray:
    """A text as a bag of its words, float32."""
    known = [*COLOURS, *SHAPES, "dark", "dim", "bright", *NOUNS, "with"]
    return np.array([text.split().count(word) for word in known], np.float32)


def pairs(copies: int = 3, seed: int = 0, *, features: bool = True) -> dict[str, object]:
    """What a `python` source of `cross_modal` returns, with the last copy of each picture as the benchmark `other`."""
    rng = np.random.default_rng(seed)
    every = things()
    texts = [text for one in every for text in words(*one)]
    given = np.stack([numbered(text) for text in texts]) if features else texts
    text_groups = np.repeat(np.arange(len(every)), 2)

    def drawn(count: int) -> dict[str, object]:
        images = np.stack([picture(*one, rng) for one in every for _ in range(count)])
        return {
            "images": images, "image_groups": np.repeat(np.arange(len(every)), count),
            "texts": given, "text_groups": text_groups,
        }  # fmt: skip

    return {**drawn(copies), "benchmarks": {"other": drawn(1)}}


def as_features() -> dict[str, object]:
    """A source whose texts are numbers."""
    return pairs()


def as_texts() -> dict[str, object]:
    """A source whose texts are texts."""
    return pairs(features=False)
