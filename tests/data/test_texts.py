"""Sources of labelled texts: parts, classes in the model's order, numbers, the hub by a stand-in."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from compresslab.data import hub_texts
from compresslab.data.text_rows import TextRows
from compresslab.data.texts import classes, from_files, from_hub, from_python, from_saved, scores
from compresslab.errors import DataError
from compresslab.measure.text_preprocessing import as_texts


def rows(values, names=None):
    texts = as_texts(f"text {index}" for index in range(len(values)))
    return TextRows(texts, values, lambda row: f"t.csv:{row + 2}", names)


def test_names_are_sorted_where_the_model_has_none():
    labels, targets = classes({"train": rows(["b", "a", "b"])}, None)
    assert labels == ("a", "b")
    assert targets["train"].tolist() == [1, 0, 1]


def test_names_take_the_order_of_the_model_and_keep_how_they_are_written():
    """Sorted, they would be refused, or worse: mean other outputs."""
    labels, targets = classes({"train": rows(["T-shirt", "bag", "T-shirt"])}, ("Bag", "t_shirt"))
    assert labels == ("bag", "T-shirt")
    assert targets["train"].tolist() == [1, 0, 1]


def test_numbers_are_those_of_the_model():
    labels, targets = classes({"train": rows(["1", "0"]), "test": rows([0, 1])}, ("no", "yes"))
    assert labels == ("no", "yes")
    assert (targets["train"].tolist(), targets["test"].tolist()) == ([1, 0], [0, 1])
    assert classes({"train": rows([0, 2])}, None)[0] == ("0", "1", "2")


def test_class_labels_are_told_by_their_feature():
    labels, targets = classes({"train": rows([1, 0], ("no", "yes"))}, ("yes", "no"))
    assert labels == ("yes", "no")
    assert targets["train"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("values", "named", "message"),
    [
        (["a", ""], None, r"t\.csv:3: the label must be a name or a whole number, but is ''"),
        (["a", None], None, r"t\.csv:3: the label must be"),
        ([0, 2], ("no", "yes"), r"t\.csv:3: the label is 2, but the model has 2 classes"),
        ([0, 123456], None, "the labels are numbers up to 123456"),
        (["a", ["b"]], None, r"t\.csv:3: the label must be a name or a whole number, but is \['b'\]"),
        (["a", "b\ud800"], None, r"t\.csv:3: the label has '\\ud800', half of a surrogate pair"),
        ([0, 1.0], None, r"t\.csv:3: the label must be .*, but is 1\.0; write 1"),
        (["0", "1.0"], None, r"t\.csv:3: the label is 1\.0, and classes are .*, or give the task as `text_regression`"),
    ],
)
def test_labels_that_are_none_are_told_with_their_line(values, named, message):
    with pytest.raises(DataError, match=message):
        classes({"train": rows(values)}, named)


def test_a_label_that_no_training_text_has_is_told_where_it_stands():
    """Told of the split alone it would have to be searched for."""
    parts = {"train": rows(["billing", "login"]), "test": rows(["login", "biling"])}
    with pytest.raises(DataError, match=r"t\.csv:3: the label is `biling`, which no .*; did you mean `billing`\?"):
        classes(parts, None)


def test_scores():
    assert scores(rows(["1.5", -2, 0.25])).tolist() == [1.5, -2.0, 0.25]
    with pytest.raises(DataError, match=r"t\.csv:3: the target must be a number, such as 1.5, but is 'high'"):
        scores(rows(["1", "high"]))
    with pytest.raises(DataError, match=r"t\.csv:2: the target must be a number, such as 1.5, but is 'nan'"):
        scores(rows(["nan"]))


def test_separate_files(tmp_path):
    for name in ("train", "dev"):
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{name},a\n")
    source = from_files(tmp_path / "train.csv", tmp_path / "dev.csv", None, "text", "label")
    assert {part: one.texts.tolist() for part, one in source.parts.items()} == {
        "train": ["train"],
        "validation": ["dev"],
    }


def test_a_users_function(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_texts.py").write_text(
        "def good():\n"
        "    return {'texts': ['a', 'b'], 'labels': ['x', 'y'], 'test_texts': ['c'], 'test_labels': ['x']}\n"
        "def bad():\n    return {'texts': ['a'], 'label': ['x']}\n"
        "def half():\n    return {'texts': ['a', 'b\\ud800'], 'labels': ['x', 'y']}\n"
        "def fewer():\n    return {'texts': ['a', 'b'], 'labels': ['x']}\n"
    )
    source = from_python(f"{tmp_path}/own_texts.py:good", "labels")
    assert (source.name, sorted(source.parts)) == ("good", ["test", "train"])
    with pytest.raises(DataError, match="unknown part `label`; did you mean `labels`"):
        from_python(f"{tmp_path}/own_texts.py:bad", "labels")
    with pytest.raises(DataError, match=r"half: `texts`, row 1: the text has '\\ud800', half of a surrogate pair"):
        from_python(f"{tmp_path}/own_texts.py:half", "labels")
    with pytest.raises(DataError, match="must both be there, and as many"):
        from_python(f"{tmp_path}/own_texts.py:fewer", "labels")


@pytest.fixture
def saved(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    return datasets.DatasetDict({"train": table, "dev": table})


def test_saved_with_splits(saved, tmp_path):
    saved.save_to_disk(str(tmp_path / "saved"))
    source = from_saved(tmp_path / "saved", "text", "label")
    assert sorted(source.parts) == ["train", "validation"]
    assert source.parts["train"].names == ("no", "yes")


def test_the_hub_is_asked_once(saved, tmp_path, monkeypatch):
    """The process that fetches is stood in for; what it leaves is kept whole, and read again from there."""
    asked = []

    def fetch(name, files):
        asked.append(name)
        saved.save_to_disk(str(files))

    monkeypatch.setattr(hub_texts, "_run", fetch)
    for _ in range(2):
        source = from_hub("someone/tickets", "text", "label", tmp_path / "cache")
    assert asked == ["someone/tickets"]
    assert source.name == "tickets"
    assert np.array_equal(source.parts["train"].texts, as_texts(["a", "b"]))


def test_fetching_saves_what_the_library_loads(saved, tmp_path, monkeypatch):
    """The process itself, with the library's function stood in for: the configuration is split off the name."""
    asked = []

    def load_dataset(name, configuration, cache_dir):
        asked.append((name, configuration))
        return saved

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    monkeypatch.setattr(sys, "argv", ["fetch", "someone/tickets:english", str(tmp_path / "files")])
    hub_texts.main()
    assert asked == [("someone/tickets", "english")]
    assert (tmp_path / "files" / "dataset_dict.json").is_file()


def test_a_hub_that_cannot_be_reached_is_told(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(hub_texts, "reachable", lambda: True)
    with pytest.raises(DataError, match="nothing/here: cannot be had from the Hugging Face hub: ended with code 1"):
        hub_texts.fetch_texts("nothing/here", tmp_path)
