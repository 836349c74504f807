"""Every kind of mistake in plain data, and the exact words it is told in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field, model_validator

from compresslab.errors import ConfigError
from compresslab.settings import FilePath, Ints, Settings
from compresslab.strict_yaml import parse
from compresslab.validation import validate


class Recover(Settings):
    epochs: int = Field(ge=1)
    """Passes over the training split. A second sentence is not told."""
    rate: float = Field(0.1, gt=0)


class Cut(Settings):
    ratio: float = Field(gt=0, lt=1)
    importance: Literal["taylor", "magnitude"] = "taylor"
    round_to: int = Field(8, ge=1, multiple_of=4)
    widths: Ints = ()
    flip: bool = False
    sizes: Annotated[tuple[int, ...], Field(strict=False, min_length=2, max_length=3)] = (1, 2)
    share: Annotated[int, Field(ge=1)] | Annotated[float, Field(gt=0, lt=1)] | None = None
    recover: Recover | Literal["none"] | None = None
    limits: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    name: str = Field("x", pattern=r"^[a-z]+$")
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Cut:
        if self.low > self.high:
            raise ValueError(f"`low <= high` must hold, but got low={self.low}, high={self.high}")
        return self


class Whole(Settings):
    cut: Cut
    """What is removed."""
    cuts: Annotated[tuple[Cut, ...], Field(strict=False)] = ()
    weights: FilePath | None = None


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        validate(parse(text, "x.yaml"), Whole)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("ratio: 1.4", "`0 < ratio < 1` must hold, but got 1.4"),
        ("ratio: 0", "`0 < ratio < 1` must hold, but got 0"),
        ("ratio: .inf", "`ratio` must be a finite number, but got Infinity"),
        ("ratio: .nan", "`ratio` must be a finite number, but got NaN"),
        ("ratio: 40%", "`ratio` must be a number, but got '40%' (text)"),
        ("ratio: '0.4'", "`ratio` must be a number, but got '0.4' (text); write `0.4`, without quotes or underscores"),
        ("ratio: true", "`ratio` must be a number, but got true"),
        ("ratio:", "`ratio` must be a number, but got null"),
        ("round_to: 0", "`round_to >= 1` must hold, but got 0"),
        ("round_to: 6", "`round_to` must be a multiple of 4, but got 6"),
        ("round_to: 8.0", "`round_to` must be a whole number, but got 8.0; write `8`"),
        ("round_to: 8.5", "`round_to` must be a whole number, but got 8.5"),
        ("round_to: [8]", "`round_to` must be a whole number, but got a list"),
        (
            "importance: taylr",
            "`importance` must be `taylor` or `magnitude`, but got 'taylr' (text); did you mean `taylor`?",
        ),
        ("importance: 3", "`importance` must be `taylor` or `magnitude`, but got 3"),
        ("flip: yes", "`flip` must be `true` or `false`, but got 'yes' (text); write `true`"),
        ("flip: Off", "`flip` must be `true` or `false`, but got 'Off' (text); write `false`"),
        ("flip: 1", "`flip` must be `true` or `false`, but got 1"),
        ("widths: 16", "`widths` must be a list of whole numbers, but got 16"),
        ("widths: [16, x]", "`widths[1]` must be a whole number, but got 'x' (text)"),
        ("sizes: [1]", "`sizes` must have at least 2 entries, but has 1"),
        ("sizes: [1, 2, 3, 4]", "`sizes` must have at most 3 entries, but has 4"),
        ("share: 1.5", "`0 < share < 1` must hold, but got 1.5"),
        ("share: all", "`share` must be a whole number, a number or `null`, but got 'all' (text)"),
        (
            "recover: 3",
            "`recover` must be a mapping with `epochs` and `rate`, `none` or `null`, but got 3",
        ),
        (
            "recover: non",
            "`recover` must be a mapping with `epochs` and `rate`, `none` or `null`, but got 'non' (text); "
            "did you mean `none`?",
        ),
        ("name: [a]", "`name` must be text, but got a list"),
        ("name: A b", "`name` must match pattern '^[a-z]+$', but got 'A b' (text)"),
        ("name: 12", "`name` must be text, but got 12"),
        ("importanse: taylor", "unknown key `importanse`; did you mean `importance`?"),
        ("rate: 0.5", "unknown key `rate`; did you mean `ratio`?"),
        ("epochs: 5", "unknown key `epochs`; did you mean `recover.epochs`?"),
        (
            "zzz: 1",
            "unknown key `zzz`; allowed are `ratio`, `importance`, `round_to`, `widths`, `flip`, `sizes`, `share`, "
            "`recover`, `limits`, `name`, `low` and `high`",
        ),
        ("low: 2", "`low <= high` must hold, but got low=2.0, high=1.0"),
    ],
)
def test_the_words_for_a_wrong_value(cut: str, message: str) -> None:
    ratio = "" if cut.startswith("ratio") else "\n  ratio: 0.5"
    line = 2 if cut != "low: 2" else 1
    assert problems(f"cut:\n  {cut}{ratio}") == [f"x.yaml:{line}: cut: {message}"]


def test_what_is_missing_is_told_with_its_meaning_at_the_mapping_that_lacks_it() -> None:
    assert problems("cuts: []") == ["x.yaml:1: `cut` is required: what is removed"]
    assert problems("cut: {ratio: 0.5}\ncuts:\n- ratio: 0.5\n  recover:\n    rate: 0.1") == [
        "x.yaml:4: cuts[0].recover: `epochs` is required: passes over the training split"
    ]


def test_a_mistake_inside_one_branch_of_a_union_is_told_once() -> None:
    """pydantic also says that the mapping is not `none`; that would only confuse."""
    assert problems("cut: {ratio: 0.5, recover: {epochs: 0}}") == [
        "x.yaml:1: cut.recover: `epochs >= 1` must hold, but got 0"
    ]


def test_a_value_in_a_mapping_of_the_users_own_keys() -> None:
    assert problems("cut:\n  ratio: 0.5\n  limits:\n    shop/recall@10: -1") == [
        "x.yaml:4: cut.limits: `shop/recall@10 > 0` must hold, but got -1"
    ]


def test_an_entry_that_is_no_mapping() -> None:
    assert problems("cut: {ratio: 0.5}\ncuts: [4]") == [
        "x.yaml:2: `cuts[0]` must be a mapping with `ratio`, `importance`, `round_to`, `widths`, `flip`, ..., but got 4"
    ]


def test_everything_is_told_at_once_in_the_order_of_lines() -> None:
    text = "cuts:\n- ratio: 2\n  flip: 3\n- ratio: 0.5\n  widhts: 1\ncut:\n  ratio: no\nweigths: 3"
    assert problems(text) == [
        "x.yaml:2: cuts[0]: `0 < ratio < 1` must hold, but got 2",
        "x.yaml:3: cuts[0]: `flip` must be `true` or `false`, but got 3",
        "x.yaml:5: cuts[1]: unknown key `widhts`; did you mean `widths`?",
        "x.yaml:7: cut: `ratio` must be a number, but got 'no' (text)",
        "x.yaml:8: unknown key `weigths`; did you mean `weights`?",
    ]


def test_long_text_is_cut() -> None:
    [line] = problems(f"cut:\n  ratio: {'x' * 500}")
    assert len(line) < 150


def test_lists_whole_numbers_for_numbers_and_relative_paths() -> None:
    document = parse("cut: {ratio: 0.5, widths: [1, 2], high: 2}\nweights: a/b.pt", "x.yaml")
    whole = validate(document, Whole, base=Path("/data"))
    assert whole.cut.widths == (1, 2)
    assert whole.cut.high == 2.0
    assert whole.weights == "/data/a/b.pt"
    assert validate(document, Whole).weights == "a/b.pt"
