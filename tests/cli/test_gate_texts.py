"""compresslab gate on what reads texts and on two towers: hand-made bundles of known answers, really measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compresslab.measure.measurement import Estimate, Latency, Measurement
from compresslab.measure.measurement_io import to_json
from tests.text_bundles import LONGEST, classifier, encoder, towers, write_colours, write_search
from tests.texts import QUEUES, sentences, write_csv

from .conftest import Ended
from .test_gate import write_run

Command = Callable[..., Ended]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    texts, labels = sentences(300)
    write_csv(folder / "tickets.csv", texts, labels, ("text", "label"))
    write_csv(folder / "named.csv", texts, labels, ("body", "queue"))
    write_search(folder / "pairs.csv")
    rows = [f"query{one},document{one},{one % 5}" for one in range(30)]
    (folder / "scored.csv").write_text("\n".join(["query,document,score", *rows]) + "\n", encoding="utf-8")
    write_colours(folder / "pictures")
    classifier(folder / "tickets")
    classifier(folder / "wrong", wrong=True)
    classifier(folder / "turned", labels=QUEUES[::-1])
    encoder(folder / "search")
    encoder(folder / "half", wrong=0.5)
    towers(folder / "colours")
    towers(folder / "off", wrong=True)
    shutil.copyfile(folder / "colours" / "text.onnx", folder / "text.onnx")
    return folder


@pytest.fixture
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return made


def budget(text: str) -> str:
    Path("budget.yaml").write_text(text, encoding="utf-8")
    return "budget.yaml"


def statuses(ended: Ended) -> dict[str, str]:
    """The status of each limit; a line of the table is the limit, what is asked, what is found, and it."""
    lines = [line.split() for line in ended.out.splitlines()[1:]]
    return {line[0]: line[-1] for line in lines if line[1:2] == ["at"]}


def test_a_classifier_of_texts_is_gated_on_latency_size_and_quality(command: Command, here: Path) -> None:
    """Its columns may be called otherwise; texts are called at the lengths that they have, and what is cut is told."""
    limits = budget("p50_ms: 1000\nbytes: 100000\nsize_ratio: 0.9\naccuracy: 0.9\naccuracy_drop: 0.02\n")
    ended = command(
        "gate", "tickets", "--budget", limits, "--baseline", "tickets", "--data", "named.csv", "--column", "text=body",
        "--column", "label=queue",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert statuses(ended) == dict.fromkeys(("p50_ms", "bytes", "size_ratio", "accuracy", "accuracy_drop"), "pass")
    note = next(line for line in ended.out.splitlines() if line.startswith("note: quality"))
    assert note.startswith("note: quality on all of named.csv: 300 examples, ")
    assert note.endswith(f" of them longer than the {LONGEST} tokens that are read, and cut")
    assert "made up" not in ended.out
    ended = command("gate", "wrong", "--budget", budget("accuracy: 0.9\n"), "--data", "tickets.csv")
    assert (ended.code, statuses(ended)) == (1, {"accuracy": "fail"})


def test_embeddings_are_gated_by_what_queries_find(command: Command, here: Path) -> None:
    limits = budget("at_least: {recall@1: 0.8}\ndrop: {ndcg@10: 0.02}\n")
    ended = command("gate", "search", "--budget", limits, "--baseline", "half", "--data", "pairs.csv")
    assert (ended.code, set(statuses(ended).values())) == (0, {"pass"}), ended.err
    assert "100.00 % [93.98 %, 100.00 %]" in ended.out, "an interval over 60 queries"
    assert "drop.ndcg@10: paired by query" in ended.out
    ended = command("gate", "half", "--budget", limits, "--baseline", "search", "--data", "pairs.csv")
    assert (ended.code, statuses(ended)) == (1, {"at_least.recall@1": "fail", "drop.ndcg@10": "fail"})


def test_pairs_with_a_score_are_for_similarity(command: Command, here: Path) -> None:
    ended = command("gate", "half", "--budget", budget("at_least: {similarity: 0.99}\n"), "--data", "scored.csv")
    assert (ended.code, statuses(ended)) == (1, {"at_least.similarity": "fail"}), ended.err
    assert "all scored pairs of scored.csv" in ended.out


def test_two_towers_are_gated_each_and_together(command: Command, here: Path) -> None:
    """Time and memory of a call of each, of one alone, the size as a sum, and both directions of retrieval."""
    limits = budget(
        "p50_ms: 1000\ntext: {p50_ms: 1000, batch: 4}\nimage: {p50_slower: 900}\nbytes: 750\npeak_rss_mb: 4000\n"
        "at_least: {recall@1: 0.8}\ndrop: {recall@5: 0.02}\n"
    )
    arguments = ("--budget", limits, "--data", "pictures/pairs.csv", "--baseline")
    ended = command("gate", "colours", *arguments, "off")
    assert (ended.code, set(statuses(ended).values())) == (0, {"pass"}), ended.out + ended.err
    assert list(statuses(ended)) == [
        "p50_ms", "image.p50_slower", "text.p50_ms", "bytes", "peak_rss_mb", "at_least.recall@1", "drop.recall@5",
    ]  # fmt: skip
    size = sum((here / "colours" / f"{name}.onnx").stat().st_size for name in ("image", "text"))
    assert f"{size} bytes" in ended.out
    assert "pass: colours against off, batch 1 (text 4), 1 thread; " in ended.out
    quality = budget("at_least: {recall@1: 0.8}\ndrop: {recall@5: 0.02}\n")
    ended = command("gate", "off", "--budget", quality, "--data", "pictures/pairs.csv", "--baseline", "colours")
    assert (ended.code, set(statuses(ended).values())) == (1, {"fail"})


def test_one_tower_is_gated_alone_also_against_a_bare_file(command: Command, here: Path) -> None:
    """Without data its texts are made up, which is told: their length decides the time."""
    ended = command("gate", "colours", "--budget", budget("graph: text\np50_ms: 1000\n"))
    assert ended.code == 0, ended.err
    assert "note: texts are made up, a dozen tokens each; --data FILE" in ended.out
    limits = budget("graph: text\np50_slower: 900\n")
    ended = command("gate", "colours", "--budget", limits, "--baseline", "text.onnx", "--dim", "sequence=8")
    assert ended.code == 0, ended.err
    assert "made up" not in ended.out, "its lengths are the user's"


def test_what_a_run_measured_of_embeddings_is_read_without_data(command: Command, here: Path, tmp_path: Path) -> None:
    """As the run's own budget has them: `at_least` and `retention`, of the selected model."""
    stage = write_run(tmp_path / "run") / "stages" / "bbbb"
    shutil.rmtree(stage)
    shutil.copytree(here / "search", stage)
    latency = Latency("model", 1, 1, "data", "default", "CPUExecutionProvider", 1, 1, None, 1, 1, 500)
    measured = Measurement(
        quality={"validation": {"shop/recall@10": Estimate(0.92, 0.91, 0.93, 5000)}}, latency=(latency,),
        peak_rss_mb=40.0, machine={}, validation_retention={"shop/recall@10": Estimate(0.98, 0.97, 0.99, 5000)},
    )  # fmt: skip
    (stage / "measurement.json").write_text(json.dumps(to_json(measured)), encoding="utf-8")
    limits = budget("at_least: {recall@10: 0.9}\nretention: {shop/recall@10: 0.98}\n")
    ended = command("gate", str(tmp_path / "run"), "--budget", limits)
    assert statuses(ended) == {"at_least.recall@10": "pass", "retention.shop/recall@10": "inconclusive"}, ended.err
    assert ended.code == 3


@pytest.mark.parametrize(
    ("arguments", "text", "said"),
    [
        (("tickets", "--data", "named.csv"), "accuracy: 0.9\n", "in a command as `--column text=NAME`"),
        (("tickets", "--data", "named.csv", "--column", "body"), "accuracy: 0.9\n", "must be WHAT=NAME, such as"),
        (("tickets", "--data", "tickets.csv", "--column", "query=x"), "accuracy: 0.9\n", "this model reads text and"),
        (("colours", "--data", "pairs.csv", "--column", "text=x"), "at_least: {recall@1: 1}\n", "a table of `image`"),
        (("colours", "--data", "pairs.csv"), "at_least: {recall@1: 1}\n", "has no `image`; found `query`, `document`"),
        (("search", "--data", "tickets.csv"), "at_least: {recall@1: 1}\n", "in a command as `--column query=NAME`"),
        (("search", "--data", "pairs.csv"), "accuracy: 0.9\n", "embeddings; limit `recall@1`, `recall@5`"),
        (("search", "--data", "pairs.csv"), "at_least: {recall@3: 1}\n", "did you mean `recall@5`?"),
        (("search", "--data", "pairs.csv"), "at_least: {similarity: 1}\n", "is not measured on these examples, but"),
        (("search", "--data", "pairs.csv"), "retention: {x/recall@10: 1}\n", "of the teacher, which is known to a run"),
        (("search", "--data", "pairs.csv"), "drop: {recall@1: 0.1}\n", "give --baseline"),
        (("search",), "at_least: {recall@1: 1}\n", "give labelled data as --data"),
        (
            ("tickets", "--data", "tickets.csv", "--baseline", "turned"),
            "accuracy_drop: 0.1\n",
            "tickets has the labels billing, delivery, login, but turned has the labels login, delivery, billing;",
        ),
        (
            ("tickets", "--data", "tickets.csv", "--baseline", "search"),
            "accuracy_drop: 0.1\n",
            "tickets and search give answers of different kinds",
        ),
        (("tickets",), "text: {p90_ms: 5}\n", "tickets: there is no graph `text`; it has model"),
        (("colours",), "graph: model\np90_ms: 5\n", "colours: there is no graph `model`; it has image, text"),
        (
            ("text.onnx", "--dim", "sequence=8"),
            "text: {p90_ms: 5}\n",
            "the budget limits the graph `text`, but it has model",
        ),
        (("colours", "--baseline", "tickets"), "p50_slower: 1\n", "so both must have the same"),
        (("colours", "--baseline", "text.onnx"), "p50_slower: 1\n", "or `graph: NAME` in a budget"),
        (("text.onnx",), "p90_ms: 5\n", "say how long it is, as `--dim sequence=128`"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy(
    command: Command, here: Path, arguments: tuple[str, ...], text: str, said: str
) -> None:
    model, *options = arguments
    ended = command("gate", model, "--budget", budget(text), *options)
    assert ended.code == 2
    assert said in " ".join(ended.err.replace("│", "").split())
    assert "Traceback" not in ended.err


def test_a_gate_on_texts_loads_no_torch(here: Path) -> None:
    """Quality and all: what reads texts and what measures retrieval must not bring it in."""
    code = """
import sys
from compresslab.cli.app import invoke
code = invoke(["gate", "colours", "--budget", "budget.yaml", "--data", "pictures/pairs.csv"])
heavy = ("torch", "onnx", "transformers", "accelerate", "datasets", "altair")
print("ended with", code, "and loaded", [name for name in heavy if name in sys.modules])
"""
    budget("at_least: {recall@1: 0.8}\n")
    root = Path(sys.modules["compresslab"].__file__ or "").parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={"PYTHONPATH": str(root), "PATH": ""}
    )
    assert ended.stdout.endswith("ended with 0 and loaded []\n"), ended.stdout + ended.stderr
