"""No figure in the README that a command does not reproduce."""

from pathlib import Path

from benchmarks.document import load
from benchmarks.main_job import markdown

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def test_table_is_that_of_the_last_full_benchmark():
    """`python -m benchmarks.main_job --table` prints what belongs here."""
    assert markdown(load("main_job")) in README


def test_every_file_it_names_is_there():
    root = Path(__file__).parent.parent
    pipelines = [f"pipelines/{name}.yaml" for name in ("quickstart", "fashion_mnist")]
    for name in (*pipelines, "docs/fashion_mnist.svg", "constraints.txt", "CONTRIBUTING.md"):
        assert name in README
        assert (root / name).exists(), name
