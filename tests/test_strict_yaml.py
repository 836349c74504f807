"""YAML as plain data: what each scalar is, where each key stands, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from compresslab.errors import ConfigError
from compresslab.strict_yaml import MAX_BYTES, Mark, dotted, parse, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("-3.", -3.0),
        ("12", 12),
        ("-12", -12),
        ("+1", 1),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        (".inf", float("inf")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("|\n 12\n", "12\n"),
    ],
)
def test_scalars_of_yaml_1_2(text: str, value: object) -> None:
    parsed = parse(text, "x.yaml").data
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["yes", "no", "on", "off", "y", "N", "1:30", "2024-01-01", "1_000", "0b1", "1e", "."])
def test_what_yaml_1_1_would_turn_into_something_else_stays_text(text: str) -> None:
    assert parse(text, "x.yaml").data == text


def test_a_number_of_endless_digits_is_text_and_not_a_slow_integer() -> None:
    digits = "9" * 5000
    assert parse(digits, "x.yaml").data == digits


def test_every_key_and_item_has_its_line_and_column() -> None:
    document = parse("a: 1\nb:\n  - c: 2\n    d: [x, y]\n", "x.yaml")
    assert document.data == {"a": 1, "b": [{"c": 2, "d": ["x", "y"]}]}
    assert document.mark(("b",)) == Mark("x.yaml", 2, 1)
    assert document.mark(("b", 0)) == Mark("x.yaml", 3, 5)
    assert document.mark(("b", 0, "d")) == Mark("x.yaml", 4, 5)
    assert document.mark(("b", 0, "d", 1)) == Mark("x.yaml", 4, 12)
    assert document.mark(("b", 0, "missing", "deep")) == Mark("x.yaml", 3, 5), "the mapping that should have it"
    assert document.mark(("missing",)) == Mark("x.yaml", 1, 1)


def test_an_alias_stands_for_its_anchor_and_shares_nothing_with_it() -> None:
    document = parse("a: &it {x: [1]}\nb: *it\nc:\n  <<: *it\n  y: 2\n", "x.yaml")
    assert document.data == {"a": {"x": [1]}, "b": {"x": [1]}, "c": {"x": [1], "y": 2}}
    assert document.mark(("b",)).line == 2
    assert document.mark(("b", "x")).line == 1, "where the text of a value is that came by an alias"
    assert isinstance(document.data, dict)
    assert document.data["a"] is not document.data["b"]


def test_written_keys_win_over_merged_ones() -> None:
    assert parse("a: &it {x: 1, y: 1}\nb: {x: 2, <<: *it}\n", "x.yaml").data == {
        "a": {"x": 1, "y": 1},
        "b": {"x": 2, "y": 1},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "x.yaml:3: the key `a` is given twice, first in line 1"),
        ("a:\n  b: {c: 1, c: 2}", "x.yaml:2: a.b: the key `c` is given twice, first in line 2"),
        ("a: *b", "x.yaml:1: the alias `*b` has no anchor `&b` before it"),
        ("a: &a [*a]", "x.yaml:1: the alias `*a` has no anchor `&a` before it"),
        ("{[1, 2]: 3}", "x.yaml:1: a key must be text, not a list, a mapping or an alias"),
        ("a: {<<: 3}", "x.yaml:1: a: `<<` takes one alias of a mapping"),
        ("a: 1\n---\nb: 2", "x.yaml:2: a second document begins here; a file holds one"),
        ("a: \x07", "x.yaml:1: the character '\\x07' is not allowed in YAML"),
        ("a: !!str 1", "x.yaml:1: the tag `!!str` is not allowed: a file is plain data and runs nothing; remove it"),
        (
            "!thing {a: 1}",
            "x.yaml:1: the tag `!thing` is not allowed: a file is plain data and runs nothing; remove it",
        ),
        ("a: " + "[" * 60 + "]" * 60, "x.yaml:1: is nested more than 40 levels deep"),
        (
            "a:\n  b: c: d",
            "x.yaml:2: not valid YAML, column 7: mapping values are not allowed here\n  2 |   b: c: d\n    |       ^",
        ),
        (
            "a:\n\t- 1",
            "x.yaml:2: not valid YAML, column 1: while scanning for the next token found character '\\t' that cannot "
            "start any token; indent with spaces, not tabs\n  2 |  - 1\n    | ^",
        ),
        (
            "a: [1,",
            "x.yaml:1: not valid YAML, column 7: while parsing a flow node expected the node content, but found "
            "'<stream end>'\n  1 | a: [1,\n    |       ^",
        ),
    ],
)
def test_what_is_refused_and_in_which_words(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^x\.yaml") as caught:
        parse(text, "x.yaml")
    assert str(caught.value) == message


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    with pytest.raises(ConfigError, match="tag") as caught:
        parse("a: !x 1\nb: *no\nc: 1\nc: 2", "x.yaml")
    assert [problem.line for problem in caught.value.problems] == [1, 2, 4]


def test_aliases_cannot_grow_without_bound() -> None:
    """Nine lines that stand for ten thousand million values, in an instant and without the memory."""
    laughs = ["a0: &a0 [lol]"]
    laughs += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 11)]
    with pytest.raises(ConfigError, match=r"x.yaml:5: grows to more than 20,000 values; use fewer aliases"):
        parse("\n".join(laughs), "x.yaml")


def test_a_long_line_is_shown_around_its_mistake() -> None:
    with pytest.raises(ConfigError, match=r"\^$") as caught:
        parse("a: '" + "x" * 5000 + "' : : b", "x.yaml")
    assert max(map(len, str(caught.value).splitlines())) < 200


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    for tag in ("!!python/object/apply:os.system", "!!python/object/new:os.system", "!!python/name:os.system"):
        with pytest.raises(ConfigError, match=r"tag .* is not allowed"):
            parse(f'a: {tag} ["touch {trace}"]', "x.yaml")
    assert not trace.exists()


def test_reading_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("\ufeffa: ä\n", encoding="utf-8")
    assert read(path).data == {"a": "ä"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", ":1: must hold lines of `key: value`, but holds a list"),
        (b"pipeline", ":1: must hold lines of `key: value`, but holds only 'pipeline'"),
        (b"a: 1\nb: \xff\n", ":2: is not UTF-8 text; save it as UTF-8"),
        (b"a" * (MAX_BYTES + 1), "is larger than 1,000,000 bytes"),
    ],
)
def test_a_file_that_cannot_be_a_mapping(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.yaml") as caught:
        read(path)
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file or directory"):
        read(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_paths_are_written_with_dots_and_indexes() -> None:
    assert dotted(("stages", 1, "prune", "widths", 0)) == "stages[1].prune.widths[0]"
    assert dotted(()) == ""


def test_importing_it_does_not_load_torch() -> None:
    code = "import sys, compresslab.strict_yaml, compresslab.validation; print('torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "False\n"
