"""compresslab bench and compare on what reads texts, and on two graphs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from compresslab.cli.compare import _quality_rows, _split
from compresslab.cli.targets import resolve
from compresslab.measure import bench as benches
from compresslab.measure.subject import Subject
from tests.text_bundles import classifier, encoder, towers, write_colours, write_search
from tests.texts import QUEUES, sentences, write_csv

from .conftest import Ended

Command = Callable[..., Ended]
QUICK = ("--processes", "2", "--seconds", "0.02", "--count", "40")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    texts, labels = sentences(150)
    write_csv(tmp_path / "tickets.csv", texts, labels)
    (tmp_path / "lines.txt").write_text("\n".join(["one", "two words", "and now these three"] * 20), encoding="utf-8")


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> dict[str, set[int]]:
    """The lengths, without padding, of what each model is fed."""
    seen: dict[str, set[int]] = {}
    job = benches._job

    def told(kind: str, subjects: list[Subject], settings: benches.BenchSettings, folder: Path) -> object:
        for subject in subjects:
            for point in settings.points:
                ids = subject.fed(point.graph, point.inputs).get("input_ids")
                if ids is not None:
                    seen.setdefault(subject.name, set()).update((ids != 0).sum(1).tolist())
        return job(kind, subjects, settings, folder)

    monkeypatch.setattr(benches, "_job", told)
    return seen


def test_texts_are_called_at_the_lengths_that_they_have(command: Command, lengths: dict[str, set[int]]) -> None:
    classifier(Path("one"))
    ended = command("bench", "one", *QUICK, "--data", "lines.txt", "--json")
    assert ended.code == 0, ended.err
    assert lengths == {"one": {1, 2, 4}}
    assert json.loads(ended.out)["models"][0]["points"][0]["inputs"] == "data"
    ended = command("bench", "one", *QUICK, "--data", "tickets.csv", "--column", "text=body")
    assert ended.code == 0, ended.err
    assert max(lengths["one"]) == 16
    assert "made up" not in ended.out


def test_made_up_texts_are_told_and_the_same_for_all(command: Command, lengths: dict[str, set[int]]) -> None:
    """Each by its own tokenizer would be called with texts of its own, and the longer ones would seem slow."""
    encoder(Path("one"), concepts=10)
    encoder(Path("other"), concepts=400)
    ended = command("bench", "one", "other", *QUICK)
    assert ended.code == 0, ended.err
    assert "note: texts are made up, a dozen tokens each; --data FILE" in ended.out
    assert lengths["one"] == lengths["other"]


def test_every_graph_is_measured_or_the_one_that_is_named(command: Command) -> None:
    towers(Path("one"))
    towers(Path("other"), wrong=True)
    shutil.copyfile("one/text.onnx", "text.onnx")
    ended = command("bench", "one", "other", *QUICK, "--batch", "2")
    assert ended.code == 0, ended.err
    lines = ended.out.splitlines()
    assert lines[0].split()[:4] == ["model", "graph", "batch", "threads"]
    assert [line.split()[:3] for line in lines[1:5]] == [
        ["one", "image", "2"], ["one", "text", "2"], ["other", "image", "2"], ["other", "text", "2"],
    ]  # fmt: skip
    ended = command("bench", "one", "text.onnx", *QUICK, "--graph", "text", "--dim", "sequence=8", "--json")
    assert ended.code == 0, ended.err
    assert [model["name"] for model in json.loads(ended.out)["models"]] == ["one", "text.onnx"]
    ended = command("bench", "one", *QUICK, "--graph", "text", "--data", "lines.txt", "--json")
    assert json.loads(ended.out)["models"][0]["points"][0]["graph"] == "text", ended.err


def test_memory_of_several_graphs_is_a_sum(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from compresslab.measure import benching

    monkeypatch.setattr(benching, "serving", lambda _, settings: benches.Serving(
        {"image": 30.0, "text": 12.0}[settings.points[0].graph], 1.0, 0.5))  # fmt: skip
    towers(Path("one"))
    ended = command("bench", "one", *QUICK, "--batch", "1", "--batch", "2", "--json")
    model = json.loads(ended.out)["models"][0]
    assert (model["peak_rss_mb"], model["load_ms"], model["first_ms"]) == (42.0, 2.0, 1.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("one", "--graph", "sound"), "one: there is no graph `sound`; it has image, text"),
        (("one", "tickets"), "models compare graph by graph, so both must have the same"),
        (("one", "text.onnx"), "name which it is to be compared with: `--graph NAME`"),
        (("text.onnx", "--data", "lines.txt"), "a bare ONNX file does not say how samples become its inputs"),
        (("one", "--data", "lines.txt"), "lines.txt: is no table of pairs that is known"),
        (("tickets", "--data", "lines.npz"), "lines.npz: is no file of texts that is known"),
        (("tickets", "--data", "tickets.csv"), "in a command as `--column text=NAME`"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy(command: Command, arguments: tuple[str, ...], said: str) -> None:
    towers(Path("one"))
    classifier(Path("tickets"))
    shutil.copyfile("one/text.onnx", "text.onnx")
    ended = command("bench", *arguments, *QUICK)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", "").split())
    assert "Traceback" not in ended.err


def test_two_towers_are_compared_together_and_graph_by_graph(command: Command) -> None:
    towers(Path("a"))
    towers(Path("b"), wrong=True)
    write_colours(Path("pictures"))
    ended = command("compare", "a", "b", "--data", "pictures/pairs.csv")
    assert ended.code == 0, ended.err
    rows = [line for line in ended.out.split("\n\n")[0].splitlines()[1:] if "%" in line or "ms" in line]
    assert [" ".join(row.split()[:2]) for row in rows[:4]] == [
        "recall@1, %",
        "recall@5, %",
        "recall@10, %",
        "ndcg@10, %",
    ]
    assert rows[0].split()[2:5] == ["100.00", "0.00", "-100.00"]
    names = ("p50 ms, a call of each, batch 1, 1 thread", "p50 ms, image, batch 1", "p50 ms, text, batch 1")
    assert all(row.strip().startswith(name) for row, name in zip(rows[4:], names, strict=True))


def test_classifiers_of_texts_are_compared_by_the_metrics_of_classes() -> None:
    classifier(Path("a"))
    classifier(Path("b"), wrong=True)
    a, b = resolve(Path("a")), resolve(Path("b"))
    split = _split(a, b, Path("tickets.csv"), {"text": "body", "label": "queue"})
    rows = _quality_rows(b, a, split)
    assert [row.id for row in rows] == ["accuracy", "f1_macro"]
    assert {row.cells[-1] for row in rows} == {"worse"}


def test_models_whose_labels_are_in_another_order_are_not_compared(command: Command) -> None:
    """By the numbers of one's labels the other would be wrong everywhere."""
    classifier(Path("a"))
    classifier(Path("b"), labels=QUEUES[::-1])
    ended = command("compare", "a", "b", "--data", "tickets.csv", "--column", "text=body", "--column", "label=queue")
    assert ended.code == 2
    assert "quality compares only between models with the same labels in the same order" in ended.err


def test_embeddings_are_compared_by_what_queries_find() -> None:
    encoder(Path("a"))
    encoder(Path("b"), wrong=0.5)
    a, b = resolve(Path("a")), resolve(Path("b"))
    rows = _quality_rows(b, a, _split(a, b, write_search(Path("pairs.csv")), {}))
    assert [row.id for row in rows] == ["recall@1", "recall@5", "recall@10", "ndcg@10"]
    assert rows[0].cells[1:3] == ("100.00", "50.00")
