"""Emoji of five vendors with their names and tags: pictures and texts of the same concepts, in five hands.

Pictures are those of Google's Noto (Apache-2.0), Twemoji (CC BY 4.0), OpenMoji (CC BY-SA 4.0), Microsoft's Fluent
(MIT) and EmojiOne 2 (CC BY 4.0), as iconify packs them for npm; names, tags and groups are emojibase's (MIT), from
Unicode's CLDR.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from package_data.fetching import npm_package

VENDORS = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "openmoji": "@iconify-json/openmoji@1.2.29",
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",
    "emojione": "@iconify-json/emojione@1.2.3",
}
_NAMES = "emojibase-data@17.0.0"
_COMPONENT = 2
"""The number of the group of skin tones and hair, which are no pictures."""


@dataclass(frozen=True)
class Concept:
    """What an emoji is of: its name, and other words for it."""

    code: str
    name: str
    tags: tuple[str, ...]
    group: int


def concepts() -> tuple[Concept, ...]:
    """All that have a group, in Unicode's order: no flags of regions' letters, no skin tones."""
    rows = json.loads((npm_package(_NAMES) / "package/en/data.json").read_text(encoding="utf-8"))
    ordered = sorted((row for row in rows if row.get("group", _COMPONENT) != _COMPONENT), key=lambda row: row["order"])
    return tuple(
        Concept(row["hexcode"].lower(), row["label"], tuple(row.get("tags", ())), row["group"]) for row in ordered
    )


def drawn(vendor: str, side: int) -> dict[str, np.ndarray]:
    """By code, a vendor's pictures as RGB on white, uint8 [side, side, 3]."""
    folder = npm_package(VENDORS[vendor]) / "package"
    kept = folder / f"drawn-{side}.npz"
    if not kept.is_file():
        found = _draw(folder, side)
        partial = folder / f".drawn-{side}.npz"
        images = np.stack(list(found.values()))
        np.savez_compressed(partial, allow_pickle=False, codes=np.array(list(found)), images=images)
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        return dict(zip(arrays["codes"].tolist(), arrays["images"], strict=True))


def _draw(folder: Path, side: int) -> dict[str, np.ndarray]:
    import vl_convert

    icons = json.loads((folder / "icons.json").read_text(encoding="utf-8"))
    names = json.loads((folder / "chars.json").read_text(encoding="utf-8"))
    found = {}
    for concept in concepts():
        called = names.get(concept.code) or names.get(_plain(concept.code)) or _slug(concept.name)
        called = icons["aliases"].get(called, {}).get("parent", called)
        icon = icons["icons"].get(called)
        if icon is None:
            continue
        width, height = icon.get("width", icons["width"]), icon.get("height", icons["height"])
        left, top = icon.get("left", 0), icon.get("top", 0)
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{side}" '
            f'height="{side}" viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
        )
        with Image.open(BytesIO(vl_convert.svg_to_png(svg))) as picture:
            page = Image.new("RGBA", (side, side), "white")
            page.alpha_composite(picture.convert("RGBA").resize((side, side), Image.Resampling.LANCZOS))
        found[concept.code] = np.asarray(page.convert("RGB"))
    return found


def _slug(name: str) -> str:
    """As icons are called where no code says which they are: `grinning-face`."""
    letters = unicodedata.normalize("NFKD", name.replace("\u2019", "")).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", letters.lower()).strip("-")


@cache
def _plain(code: str) -> str:
    """Without the sign that asks for a coloured picture, which some vendors leave out."""
    return "-".join(part for part in code.split("-") if part != "fe0f")
