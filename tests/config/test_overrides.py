"""Overrides: how a key finds its place, and what is said when there is none."""

from __future__ import annotations

import pytest

from compresslab.config.overrides import apply_overrides
from compresslab.errors import ConfigError
from compresslab.strict_yaml import Document, Mark, parse

TEXT = """\
seed: 3
model: {residual: {widths: [16, 32]}}
stages:
  - distill: {epochs: 2}
  - prune: {ratio: 0.2}
  - distill: {epochs: 1}
  - quantize:
"""


@pytest.fixture
def document() -> Document:
    return parse(TEXT, "x.yaml")


@pytest.mark.parametrize(
    ("override", "line", "expected"),
    [
        ("seed=7", 1, "seed: 7"),
        ("model.residual.widths[1]=24", 2, "model: {residual: {widths: [16, 24]}}"),
        ("model.residual.widths=[8]", 2, "model: {residual: {widths: [8]}}"),
        ("model.residual.blocks=2", 2, "model: {residual: {widths: [16, 32], blocks: 2}}"),
        ("stages.prune.ratio=0.4", 5, "  - prune: {ratio: 0.4}"),
        ("stages.prune.importance=taylor", 5, "  - prune: {ratio: 0.2, importance: taylor}"),
        ("stages.prune={ratio: 1e-3}", 5, "  - prune: {ratio: 0.001}"),
        ("stages.prune.recover.epochs=3", 5, "  - prune: {ratio: 0.2, recover: {epochs: 3}}"),
        ("stages[2].epochs=5", 6, "  - distill: {epochs: 5}"),
        ("stages.2.epochs=5", 6, "  - distill: {epochs: 5}"),
        ("stages[2].distill.epochs=5", 6, "  - distill: {epochs: 5}"),
        ("stages.0.distill.epochs=5", 4, "  - distill: {epochs: 5}"),
        ("stages[0]={train: {epochs: 1}}", 4, "  - train: {epochs: 1}"),
        ("stages.quantize.mode=ptq", 7, "  - quantize: {mode: ptq}"),
        ("seed=", 1, "seed:"),
    ],
)
def test_an_override_is_the_same_as_editing_the_line(
    document: Document, override: str, line: int, expected: str
) -> None:
    lines = TEXT.splitlines()
    lines[line - 1] = expected
    assert apply_overrides(document, [override]).data == parse("\n".join(lines), "x.yaml").data


def test_a_key_that_is_not_there_is_made_with_all_above_it(document: Document) -> None:
    changed = apply_overrides(document, ["bench.processes=5", "name=other"])
    assert isinstance(changed.data, dict)
    assert changed.data["bench"] == {"processes": 5}
    assert changed.data["name"] == "other"


def test_the_last_of_two_wins_and_the_document_is_left_as_it_was(document: Document) -> None:
    changed = apply_overrides(document, ["seed=1", "seed=2"])
    assert isinstance(changed.data, dict)
    assert changed.data["seed"] == 2
    assert document.data == parse(TEXT, "x.yaml").data


def test_what_an_override_sets_is_marked_as_its_own_and_nothing_else(document: Document) -> None:
    override = "stages.prune={ratio: 0.4}"
    changed = apply_overrides(document, [override, "bench.processes=5"])
    here = Mark(f"--set {override}", None, None)
    assert changed.mark(("stages", 1, "prune")) == here
    assert changed.mark(("stages", 1, "prune", "ratio")) == here
    assert changed.mark(("stages", 0, "distill")) == Mark("x.yaml", 4, 5)
    assert changed.mark(("bench", "points")) == Mark("--set bench.processes=5", None, None)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "must be KEY=VALUE, such as `--set stages.prune.ratio=0.4`"),
        ("=3", "must be KEY=VALUE, such as `--set stages.prune.ratio=0.4`"),
        ("a..b=3", "must be KEY=VALUE, such as `--set stages.prune.ratio=0.4`"),
        ("stages[x].ratio=3", "must be KEY=VALUE, such as `--set stages.prune.ratio=0.4`"),
        (
            "stages.distill.epochs=4",
            "`stages` has `distill` 2 times; say which by its index: `stages[0]` or `stages[2]`",
        ),
        ("stages.prun.ratio=4", "`stages` has no `prun`; did you mean `prune`?"),
        ("stages.train.epochs=4", "`stages` has no `train`; there is `distill`, `prune`, `quantize`"),
        ("stages[4].ratio=4", "`stages` has 4 entries, counted from 0, so there is no `stages[4]`"),
        ("seed.deep=4", "`seed` is a single value and has no `deep`"),
        (
            "model.residual.widths.first=4",
            "`model.residual.widths` is a list; write an index, such as `model.residual.widths[0]`",
        ),
        ("seed=!!python/name:os.system", "the tag `!!python/name:os.system` is not allowed: a file is plain data and"),
        ("seed=[1", "not valid YAML, column 3: while parsing a flow sequence expected ',' or ']'"),
    ],
)
def test_what_an_override_cannot_be(document: Document, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"^--set ") as caught:
        apply_overrides(document, [override])
    assert str(caught.value).startswith(f"--set {override}: {message}")


def test_every_wrong_override_is_told(document: Document) -> None:
    with pytest.raises(ConfigError, match=r"^--set ") as caught:
        apply_overrides(document, ["seed", "seed=3", "stages.prun.ratio=4"])
    assert len(caught.value.problems) == 2
