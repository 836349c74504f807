import re

import pytest

from compresslab.errors import BadInput
from compresslab.report import svg
from compresslab.report.sensitivity import describe, draw

RESULT = {
    "whole": 0.2,
    "groups": [
        {"name": "stem", "units": 16, "channels": 16,
         "levels": [{"removed": 0.25, "damage": 1.0}, {"removed": 0.5, "damage": 4.0}]},
        {"name": "encoder.layer.11.with.a.name.that.is.longer.than.any", "units": 32, "channels": 32,
         "levels": [{"removed": 0.25, "damage": -0.1}, {"removed": 0.75, "damage": 0.25}]},
    ],
}  # fmt: skip


def test_cells_lie_where_the_levels_are_and_are_darker_for_more_damage():
    found = {}
    for path in draw(RESULT, "KL").iter("path"):
        title = path.find("title")
        if title is not None:
            found[title.text] = path
    assert list(found) == [
        "stem: 25 % removed, KL +1", "stem: 50 % removed, KL +4",
        "encoder.layer.11.with.a.name.that.is.longer.than.any: 25 % removed, KL -0.1",
        "encoder.layer.11.with.a.name.that.is.longer.than.any: 75 % removed, KL +0.25",
    ]  # fmt: skip
    assert [float(path.attrib["opacity"]) for path in found.values()] == [0.5, 1, 0, 0.25]
    widths = [float(re.match(r"M[\d.-]+,[\d.-]+h([\d.]+)", path.attrib["d"])[1]) for path in found.values()]
    assert widths == pytest.approx([105, 105, 105, 210])


def test_groups_of_one_width_are_left_out():
    """A coarse `round_to` leaves narrow layers as they are: the report of such a run crashed."""
    narrow = {"name": "narrow", "units": 16, "channels": 16, "levels": []}
    with_it = {**RESULT, "groups": [narrow, *RESULT["groups"]]}
    assert describe(with_it, "KL") == describe(RESULT, "KL")
    assert "narrow" not in {"".join(element.itertext()) for element in draw(with_it, "KL").iter("text")}


def test_long_names_keep_their_ends():
    texts = ["".join(element.itertext()) for element in draw(RESULT, "KL").iter("text")]
    assert "stem" in texts
    assert any(text.startswith("…") and text.endswith("longer.than.any") for text in texts)


def test_the_picture_in_words():
    assert describe(RESULT, "KL") == (
        "KL, by what is removed of each of 2 groups alone. Most sensitive: stem, 4.00 at 50 % removed. "
        "Least sensitive: encoder.layer.11.with.a.name.that.is.longer.than.any, -0.100 at 25 % removed."
    )


def test_without_the_chart_library_the_remedy_is_told(monkeypatch):
    monkeypatch.setattr(svg, "find_spec", lambda name: None)
    with pytest.raises(BadInput, match=re.escape("pip install 'compresslab[report]'")):
        draw(RESULT, "KL")
