"""Texts to embeddings: where pairs come from, how they are split, and what is refused before anything is trained."""

from __future__ import annotations

import csv
import json
import sys
from itertools import combinations

import numpy as np
import pytest
from pydantic import ValidationError

from compresslab.data.text_groups import grouped_of_python, pairs_of_file, scored_pairs_of_file
from compresslab.errors import BadInput, DataError
from compresslab.measure.groups import groups_of, is_query
from compresslab.models import Signature
from compresslab.models.text_reading import TextReading
from compresslab.tasks import Embeddings, TaskSpec, TextEmbedding
from tests.texts import sentences, train_tokenizer


def write(path, rows, columns=("query", "document")):
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)
    return str(path)


def pairs(count, seed=0):
    """Distinct queries with two documents each, as rows."""
    texts = sentences(3 * count, seed)[0]
    return [(texts[3 * row], texts[3 * row + beside]) for row in range(count) for beside in (1, 2)]


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    tokenizer = train_tokenizer(tmp_path_factory.mktemp("model"))
    return TextReading("the model", tokenizer, 0, 64, None)


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a module with a function `given` that returns this, and says how a pipeline names it."""

    def written(returned):
        monkeypatch.setattr(sys, "path", list(sys.path))
        (tmp_path / "own_texts.py").write_text(f"def given():\n    return {returned!r}\n")
        sys.modules.pop("own_texts", None)
        return f"{tmp_path}/own_texts.py:given"

    yield written
    sys.modules.pop("own_texts", None)


# -- files -----------------------------------------------------------------------------------------------------------


def test_rows_that_share_a_text_are_one_group(tmp_path):
    """The third row joins two groups by their documents; the last repeats a pair."""
    rows = [("a?", "one"), ("b?", "two"), ("a?", "two"), ("c?", "three"), ("c?", "four"), ("c?", "three")]
    found = pairs_of_file(tmp_path / write(tmp_path / "x.csv", rows), "query", "document")
    numbers = dict(zip(found.inputs.tolist(), found.targets.tolist(), strict=True))
    assert sorted(numbers) == ["a?", "b?", "c?", "four", "one", "three", "two"]
    first, second = numbers["one"], numbers["three"]
    assert {first, second} == {0, 1}
    assert numbers == {
        "a?": -first - 1, "b?": -first - 1, "one": first, "two": first,
        "c?": -second - 1, "three": second, "four": second,
    }  # fmt: skip


def test_scored_pairs_stand_side_by_side_with_their_score(tmp_path):
    path = tmp_path / "x.jsonl"
    rows = [{"one": "a", "other": "b", "likeness": 3}, {"one": "a", "other": "c", "likeness": 0.5}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = scored_pairs_of_file(path, "one", "other", "likeness")
    assert found.inputs.tolist() == ["a", "b", "a", "c"]
    assert found.targets.tolist() == [3.0, 3.0, 0.5, 0.5]


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        ([("a?", "one")], ("query", "documents"), r"x\.csv:1.*`document`.*`documents`"),
        ([("a?", "one"), ("b?", " ")], ("query", "document"), r"x\.csv:3: the text is empty; leave it out"),
        ([("a?", "one"), ("", "two")], ("query", "document"), r"x\.csv:3: the text is empty"),
        (
            [("a?", "one"), ("one", "two")],
            ("query", "document"),
            r"x\.csv:3: this query is a document as well: 'one'; leave one out",
        ),
        ([("a?", "a?")], ("query", "document"), r"x\.csv:2: this query is a document as well"),
    ],
)
def test_what_is_no_pair_is_told_with_its_line(tmp_path, rows, columns, message):
    write(tmp_path / "x.csv", rows, columns)
    with pytest.raises(DataError, match=message):
        pairs_of_file(tmp_path / "x.csv", "query", "document")


@pytest.mark.parametrize("score", ["high", "nan", ""])
def test_a_score_that_is_none_is_told_with_its_line(tmp_path, score):
    write(tmp_path / "x.csv", [("a", "b", "1.5"), ("a", "c", score)], ("query", "document", "score"))
    with pytest.raises(DataError, match=rf"x\.csv:3: `score` must be a number, such as 1\.5, but is '{score}'"):
        scored_pairs_of_file(tmp_path / "x.csv", "query", "document", "score")


# -- functions -------------------------------------------------------------------------------------------------------


def test_a_function_gives_parts_of_which_each_has_its_targets(own):
    found = grouped_of_python(own({
        "texts": ["x", "y"],
        "validation_texts": ["a?", "one"], "validation_groups": [-1, 0],
        "test_texts": ["a", "b"], "test_scores": [1, 1],
    }))  # fmt: skip
    assert found["train"].targets is None
    assert found["validation"].targets.tolist() == [-1, 0]
    assert found["test"].targets.dtype == np.float32
    assert {part: one.inputs.tolist() for part, one in found.items()} == {
        "train": ["x", "y"], "validation": ["a?", "one"], "test": ["a", "b"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (["a"], "returned a list; return a mapping with `texts`"),
        ({"text": ["a"]}, "unknown part `text`; did you mean `texts`"),
        ({}, "returned no `texts`"),
        ({"texts": "abc"}, "`texts`: must be a list of strings"),
        ({"texts": []}, "`texts`: must be a list of strings, and not an empty one"),
        ({"texts": ["a", 3]}, r"`texts`\[1\]: the text is a int; give a string"),
        (
            {"texts": ["a", "b\ud800"]},
            r"`texts`\[1\]: the text has '\\ud800', half of a surrogate pair, .*leave it out",
        ),
        ({"texts": ["a", "  "]}, r"`texts`\[1\]: the text is empty"),
        ({"texts": ["a"], "groups": [-1, 0]}, "1 samples, but 2 groups"),
        ({"texts": ["a"], "groups": [0.5]}, "groups must be whole numbers"),
        ({"texts": ["a"], "test_groups": [0]}, "`test_texts` is missing"),
        ({"texts": ["a"], "groups": [0], "scores": [1]}, "`groups` and `scores` are both there"),
    ],
)
def test_what_a_function_must_not_return(own, returned, message):
    with pytest.raises(DataError, match=message):
        grouped_of_python(own(returned))


# -- tasks -----------------------------------------------------------------------------------------------------------


def test_pairs_become_a_task_whose_groups_are_never_parted(tmp_path, reading):
    source = write(tmp_path / "questions.csv", pairs(60))
    task = TextEmbedding.model_validate({"pairs": {"csv": source}, "metric": "recall@5"}).load(tmp_path, reading)
    assert (task.name, task.kind, task.benchmark_metric) == ("questions", "embedding", "questions/recall@5")
    assert task.objective == Embeddings(384, 0.05)
    assert task.signature == Signature("texts", task.preprocessing.vocabulary, 384, any_width=True)
    assert {name: len(split.inputs) for name, split in task.splits.items()} == {
        "train": 126, "calibration": 9, "validation": 18, "test": 27,
    }  # fmt: skip
    for one, other in combinations(task.splits.values(), 2):
        assert not set(groups_of(one.targets)) & set(groups_of(other.targets))
    split = task.splits["test"]
    of_query = {}
    for asked, answer in pairs(60):
        of_query.setdefault(asked, set()).add(answer)
    for row in np.flatnonzero(is_query(split.targets)):
        group = groups_of(split.targets) == groups_of(split.targets)[row]
        assert set(split.inputs[group]) == {str(split.inputs[row])} | of_query[str(split.inputs[row])]
    batch = task.batch("train", np.arange(4), None)
    np.testing.assert_array_equal(batch, task.preprocessing.graph_input(task.splits["train"].inputs[:4]))


def test_validation_and_test_of_their_own_leave_all_pairs_to_training(tmp_path, reading):
    files = {name: write(tmp_path / f"{name}.csv", pairs(12, seed)) for seed, name in enumerate(("a", "b", "c"))}
    spec = {"pairs": {"csv": files["a"]}, "validation_pairs": {"csv": files["b"]}, "test_pairs": {"csv": files["c"]}}
    task = TextEmbedding.model_validate({**spec, "calibration": 6, "width": 16}).load(tmp_path, reading)
    texts = {name: {text for row in pairs(12, seed) for text in row} for seed, name in enumerate("abc")}
    assert set(task.splits["train"].inputs) | set(task.splits["calibration"].inputs) == texts["a"]
    assert set(task.splits["validation"].inputs) == texts["b"]
    assert set(task.splits["test"].inputs) == texts["c"]


def test_likeness_is_judged_on_scored_pairs_and_learned_from_others(tmp_path, reading):
    """Of the training file the pairs are queries and documents: its column of scores is not asked for."""
    scored = [
        write(tmp_path / f"{name}.csv", [(*row, n) for n, row in enumerate(pairs(12, seed))],
              ("query", "document", "score"))
        for seed, name in ((1, "b"), (2, "c"))
    ]  # fmt: skip
    spec = {
        "pairs": {"csv": write(tmp_path / "a.csv", pairs(20))}, "metric": "similarity",
        "validation_pairs": {"csv": scored[0]}, "test_pairs": {"csv": scored[1]},
    }  # fmt: skip
    task = TextEmbedding.model_validate(spec).load(tmp_path, reading)
    assert task.splits["train"].targets.dtype == np.int64
    assert task.splits["validation"].targets[:6].tolist() == [0, 0, 1, 1, 2, 2]
    with pytest.raises(ValidationError, match="is measured on pairs with scores; give `validation_pairs` and `test_p"):
        TextEmbedding.model_validate({"pairs": spec["pairs"], "metric": "similarity"})


def test_texts_without_groups_are_distilled_and_judged_by_what_the_function_adds(own, tmp_path, reading):
    texts = sentences(40, seed=5)[0]
    validation, test = pairs(6, seed=1), pairs(6, seed=2)

    def part(rows):
        numbers = {asked: number for number, asked in enumerate(dict.fromkeys(asked for asked, _ in rows))}
        return [*numbers, *(answer for _, answer in rows)], [
            *(-(number + 1) for number in numbers.values()), *(numbers[asked] for asked, _ in rows)
        ]  # fmt: skip

    (ours, groups), (theirs, others) = part(validation), part(test)
    reference = own({
        "texts": texts, "validation_texts": ours, "validation_groups": groups, "test_texts": theirs,
        "test_groups": others,
    })  # fmt: skip
    task = TextEmbedding.model_validate({"pairs": {"python": reference}, "calibration": 8}).load(tmp_path, reading)
    assert task.name == "given"
    assert task.splits["train"].targets is None
    assert len(task.splits["train"].inputs) == 32
    assert is_query(task.splits["test"].targets).sum() == 6
    with pytest.raises(DataError, match="the training texts have no groups, so `validation` and `test` cannot"):
        TextEmbedding.model_validate({"pairs": {"python": own({"texts": texts})}}).load(tmp_path, reading)


def test_benchmarks_are_measured_beside_and_are_part_of_the_task(own, tmp_path, reading):
    spec = {
        "pairs": {"csv": write(tmp_path / "a.csv", pairs(20))},
        "benchmarks": {
            "shop": {"csv": write(tmp_path / "b.csv", pairs(6, 1), ("asked", "product")), "query": "asked",
                     "document": "product", "metric": "recall@1"},
            "human": {"python": own({"texts": ["a", "b", "c", "d"], "scores": [1, 1, 2, 2]}), "metric": "similarity"},
        },
    }  # fmt: skip
    task = TextEmbedding.model_validate(spec).load(tmp_path, reading)
    assert task.benchmark_metrics == ("shop/recall@1", "human/similarity")
    assert {name: len(inputs) for name, inputs in task.sample_sets.items()} == {
        "validation/queries": 2, "validation/documents": 4, "shop/queries": 6, "shop/documents": 12, "human/samples": 4,
    }  # fmt: skip
    without = TextEmbedding.model_validate({"pairs": spec["pairs"]}).load(tmp_path, reading)
    assert task.digest != without.digest
    spec["benchmarks"]["human"]["python"] = own({"texts": ["a", "b"]})
    with pytest.raises(DataError, match=r"`benchmarks\.human`: `similarity` needs `scores`, but there are only texts"):
        TextEmbedding.model_validate(spec).load(tmp_path, reading)


def test_long_texts_are_told_or_refused(tmp_path, reading):
    spec = {"pairs": {"csv": write(tmp_path / "a.csv", pairs(20))}, "max_length": 8}
    notes = TextEmbedding.model_validate(spec).load(tmp_path, reading).notes
    assert any("train texts" in note and "have more than 8 tokens" in note for note in notes)
    with pytest.raises(DataError, match="but at most 8 are read"):
        TextEmbedding.model_validate({**spec, "too_long": "error"}).load(tmp_path, reading)


def test_benchmarks_are_read_as_closely_as_splits(tmp_path, reading):
    """Results on them are no better for what was cut off, or could not be read, unseen."""
    rows = [(f"日 {word}", f"{word} " + "my " * 60) for word in sentences(12, 4)[0]]
    spec = {
        "pairs": {"csv": write(tmp_path / "a.csv", pairs(20))},
        "benchmarks": {"shop": {"csv": write(tmp_path / "b.csv", rows), "metric": "recall@1"}},
    }
    notes = TextEmbedding.model_validate(spec).load(tmp_path, reading).notes
    assert any(note.startswith("12 of 24 `shop` texts (50.0 %) have more than") for note in notes)
    assert any(note.startswith("12 of 24 `shop` texts have parts that the tokenizer does not know") for note in notes)
    write(tmp_path / "b.csv", [*rows, ("\u0301", "x")])
    with pytest.raises(DataError, match=r"`shop`: the text .* has no token of its own"):
        TextEmbedding.model_validate(spec).load(tmp_path, reading)


@pytest.mark.parametrize(
    ("pairs_of", "message"),
    [
        ({}, "exactly one of `csv`, `jsonl`, `parquet`, `python` must be given, but got none"),
        ({"csv": "a.csv", "jsonl": "b.jsonl"}, "but got `csv` and `jsonl`"),
        ({"csv": "a.jsonl"}, r"`csv` must be a file that ends in \.csv or \.tsv"),
    ],
)
def test_sources_that_are_refused(pairs_of, message):
    with pytest.raises(ValidationError, match=message):
        TaskSpec.model_validate({"text_embedding": {"pairs": pairs_of}})


def test_a_function_that_fails_is_told_as_the_users(tmp_path):
    (tmp_path / "failing_texts.py").write_text("def given():\n    return {}['x']\n")
    with pytest.raises(BadInput, match="failed with KeyError"):
        grouped_of_python(f"{tmp_path}/failing_texts.py:given")
