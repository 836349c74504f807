"""What the pages in docs/ show can be run as it is shown."""

import re
from pathlib import Path

import pytest

from compresslab.config import load_pipeline

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
