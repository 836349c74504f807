from __future__ import annotations

import re
from pathlib import Path

import pytest

from compresslab.report.headline import headline
from compresslab.report.markdown import markdown, write_markdown
from compresslab.report.markdown_syntax import code, escape
from compresslab.report.retention import NO_CLASS_LOST
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
        "Models", "Stages", "Against the teacher", "Budget", "Checks", "Notes", "Latency", "Exported files",
        "Operators in float", "Settings and decisions", "Machine", "Reproduce",
    ]  # fmt: skip
    assert f"**{headline(found)}**" in text
    assert '`{"settings": {"mode": "auto", "recover": {"epochs": 2}}, "decisions": {"mode": "qat"}}`' in text
    assert "## Checks\n\n### quantize\n\n- ptq missed the budget" in text
    assert "; shown, but no budget can gate it." in text


def test_only_lost_classes_and_totals_are_told(found: Results) -> None:
    text = markdown(found)
    part = text[text.index("## Against the teacher") : text.index("## Budget")]
    assert "| prune | fashion_mnist/accuracy | 99.31 [98.91, 99.71] | 0 of 10 | 0 | 265 | 164 | 88 |" in part
    assert [line for line in part.splitlines() if "| shirt |" in line] == [
        "| quantize mode=ptq | fashion_mnist | shirt | 1,000 | 82.00 | 78.00 | -4.00 [-6.00, -2.00] |",
        "| quantize mode=qat | fashion_mnist | shirt | 1,000 | 82.00 | 78.00 | -4.00 [-6.00, -2.00] |",
    ]
    assert "| bag |" not in part
    for point in found["points"]:
        for kept in point["retention_by_class"].values():
            kept["classes"][0]["change"] = "unclear"
    assert NO_CLASS_LOST in markdown(found)


def test_what_the_teacher_was_worth_is_told(controlled: Results) -> None:
    assert (
        "- distill: distillation: +0.42 points [-0.10, +0.90] against its control (test accuracy): "
        "no difference for certain\n"
    ) in markdown(controlled)
    assert "△ control: trained at the same cost" in markdown(controlled)


def test_without_a_teacher_there_is_no_section_of_it(found: Results) -> None:
    for point in found["points"]:
        point["retention"], point["retention_by_class"] = {}, {}
    assert "## Against the teacher" not in markdown(found)


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
