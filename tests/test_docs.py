"""What the pages in docs/ show can be run as it is shown."""

import re
from importlib import import_module
from pathlib import Path

import pytest

from benchmarks.document import load
from compresslab.config import load_pipeline
from compresslab.distillation.terms import LossTerm
from compresslab.pruning import CRITERIA

DOCS = Path(__file__).parents[1] / "docs"
BLOCKS = [
    (page.name, block)
    for page in sorted(DOCS.glob("*.md"))
    for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    if block.startswith("task:")
]


@pytest.mark.parametrize(("page", "block"), BLOCKS)
def test_pipelines_in_the_pages_are_pipelines(page: str, block: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block, encoding="utf-8")
    assert load_pipeline(path).stages


def test_there_is_something_to_check() -> None:
    assert "regression.md" in {page for page, _ in BLOCKS}


DISTILLATION = re.findall(r"```yaml\n(.*?)```", (DOCS / "distillation.md").read_text(encoding="utf-8"), re.DOTALL)
HEAD = "task: {image_classification: {fashion_mnist: {}}}\nmodel: {checkpoint: a}\n"
STAGES = "stages:\n  - distill: {student: {residual: {widths: [8]}}, epochs: 1}\n"
FRAGMENTS = [
    HEAD + DISTILLATION[0],
    *(HEAD + line + "\n" + STAGES for line in DISTILLATION[1].splitlines()),
    HEAD + "stages:\n" + DISTILLATION[2],
]


@pytest.mark.parametrize("block", FRAGMENTS)
def test_what_the_page_on_distillation_shows_is_read(block: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.yaml"
    path.write_text(block, encoding="utf-8")
    assert load_pipeline(path).stages


def test_the_page_on_distillation_names_every_loss() -> None:
    page = (DOCS / "distillation.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(LossTerm.model_fields)


@pytest.mark.parametrize(
    ("name", "page"),
    [
        ("distillation_losses", "distillation"),
        ("teacher_cache", "distillation"),
        ("score_regression", "distillation"),
        ("pruning_latency", "pruning"),
        ("quantization_backends", "quantization"),
        ("text", "texts"),
        ("sentiment", "texts"),
        ("cross_modal", "towers"),
    ],
)
def test_tables_are_those_of_the_last_full_benchmark(name: str, page: str) -> None:
    """`python -m benchmarks.NAME --table` prints what belongs in the page."""
    page = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert import_module(f"benchmarks.{name}").markdown(load(name)) in page


def test_the_page_on_pruning_names_every_importance() -> None:
    page = (DOCS / "pruning.md").read_text(encoding="utf-8")
    table = page.partition("## What goes first")[2].partition("`importance: {python")[0]
    assert set(re.findall(r"`(\w+)`", table)) >= set(CRITERIA)
