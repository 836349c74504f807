from __future__ import annotations

import re
from pathlib import Path

import pytest

from compresslab.report.headline import headline
from compresslab.report.markdown import markdown, write_markdown
from compresslab.report.markdown_syntax import code, escape
from compresslab.report.schema import Results
from compresslab.report.table import points_table


def test_the_table_has_the_cells_of_the_results(found: Results) -> None:
    lines = markdown(found).splitlines()
    first = next(index for index, line in enumerate(lines) if line.startswith("| --- | --- | ---: |"))
    shown = [tuple(part.strip() for part in line.strip("|").split("|")) for line in lines[first + 1 : first + 7]]
    assert shown == [row.cells for row in points_table(found).rows]


def test_every_section_is_there(found: Results) -> None:
    text = markdown(found)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Models", "Stages", "Budget", "Notes", "Latency", "Checks", "Settings and decisions", "Machine", "Reproduce",
    ]  # fmt: skip
    assert f"**{headline(found)}**" in text
    assert '`{"settings": {"mode": "auto", "recover": {"epochs": 2}}, "decisions": {"mode": "qat"}}`' in text
    assert "- quantize: ptq missed the budget" in text


def test_violations_are_listed(found: Results) -> None:
    found["budget"] = {"status": "fail", "violations": ["p90_ms: 0.066 is over 0.05"]}
    assert "Over the budget.\n\n- p90_ms: 0.066 is over 0.05" in markdown(found)


def test_a_hostile_name_stays_text(found: Results) -> None:
    found["pipeline"] = "a | b\n# c <img src=x> [d](javascript:e) *f* `g` ~~h~~"
    title = markdown(found).splitlines()[0]
    assert title == r"# a \| b # c \<img src=x> [d\](javascript:e) \*f\* \`g\` \~~h\~~"


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("10.4x [10.1, 10.7]", "10.4x [10.1, 10.7]"),
        ("accuracy_drop and _this_", r"accuracy_drop and \_this\_"),
        ("a & b", r"a \& b"),
        ("# not a heading", r"\# not a heading"),
        (r"back\slash", r"back\\slash"),
        ("[id]: http://x", r"[id\]: http://x"),
    ],
)
def test_only_what_means_something_is_escaped(text: str, escaped: str) -> None:
    assert escape(text) == escaped


def test_a_code_span_holds_backticks() -> None:
    assert code("a `b` ``c``") == "``` a `b` ``c`` ```"
    assert code("plain") == "`plain`"


def test_it_is_written_whole(found: Results, tmp_path: Path) -> None:
    path = write_markdown(found, tmp_path)
    assert path == tmp_path / "report.md"
    assert path.read_text(encoding="utf-8") == markdown(found)
