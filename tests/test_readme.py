"""No figure in the README that a command does not reproduce."""

from pathlib import Path

from benchmarks.document import load
from benchmarks.gate_quality import markdown as gate_tables
from benchmarks.main_job import markdown

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_table_is_that_of_the_last_full_benchmark():
    """`python -m benchmarks.main_job --table` prints what belongs here."""
    assert markdown(load("main_job")) in README


def test_the_long_recipes_table_is_that_of_its_last_run():
    """`python -m benchmarks.main_job --table --long` prints what belongs here."""
    assert markdown(load("long_recipe")) in README


def test_the_gates_figures_are_those_of_the_last_full_benchmark():
    """`python -m benchmarks.gate_quality --table` prints what belongs in the page; the README has its summary."""
    tables = gate_tables(load("gate_quality"))
    assert tables in (ROOT / "docs" / "gate_quality.md").read_text(encoding="utf-8")
    (summary,) = [line for line in tables.splitlines() if line.startswith("Margin")]
    assert summary in README


def test_every_file_it_names_is_there():
    root = Path(__file__).parent.parent
    pipelines = [f"pipelines/{name}.yaml" for name in ("quickstart", "fashion_mnist")]
    for name in (*pipelines, "docs/fashion_mnist.svg", "constraints.txt", "CONTRIBUTING.md"):
        assert name in README
        assert (root / name).exists(), name
