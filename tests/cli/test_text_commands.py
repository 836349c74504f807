"""compresslab predict, verify and export on what reads texts, and on two towers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from compresslab.bundle.sealing import LABELS_FILE
from tests.text_bundles import COLOURS, classifier, encoder, towers, write_colours
from tests.texts import QUEUES

from .conftest import Ended

Command = Callable[..., Ended]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(ended: Ended) -> list[dict[str, object]]:
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def test_every_kind_is_verified(command: Command) -> None:
    for make in (classifier, encoder, towers):
        make(Path(make.__name__))
        ended = command("verify", make.__name__)
        assert ended.code == 0, ended.err
        assert "ok: the preprocessing gives what its graph takes" in ended.out
        (Path(make.__name__) / "tokenizer.json").write_text("{}", encoding="utf-8")
        ended = command("verify", make.__name__)
        assert ended.code == 2
        assert "tokenizer.json: this is not the file that was exported" in ended.err


def test_a_text_and_the_lines_of_a_file_are_told_their_queue(command: Command) -> None:
    classifier(Path("tickets"))
    Path("ask.txt").write_text(f"my parcel\nthe account {'of mine ' * 20}\n", encoding="utf-8")
    ended = command("predict", "tickets", "a refund of the invoice", "ask.txt", "--json")
    assert [one["labels"][0]["label"] for one in told(ended)] == list(QUEUES)
    assert "1 of 3 texts are longer than what the model reads, and were cut" in ended.err
    assert (Path("tickets") / LABELS_FILE).read_text(encoding="utf-8").split() == list(QUEUES)


def test_texts_and_images_that_belong_together_point_the_same_way(command: Command) -> None:
    towers(Path("colours"))
    write_colours(Path("pictures"))
    words = told(command("predict", "colours", *COLOURS, "--graph", "text", "--json"))
    images = told(command("predict", "colours", "pictures", "--graph", "image", "--json"))
    assert [Path(str(one["input"])).stem for one in images] == sorted(COLOURS)
    by_word = {one["input"]: np.array(one["outputs"]["embedding"]) for one in words}
    for one in images:
        np.testing.assert_allclose(one["outputs"]["embedding"], by_word[Path(str(one["input"])).stem], atol=0.01)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "tickets", "some.csv"), "some.csv: is a file, not a text; give a text itself, or a .txt file"),
        (("predict", "tickets", " "), "is empty, or nothing in it is read, so it has no answer; give a text"),
        (("predict", "colours", "red"), "it has several graphs, so name one: --graph image or text"),
        (("predict", "colours", "red", "--graph", "image"), "red: cannot be read as an image"),
        (("export", "tickets", "--format", "triton", "--measure"), "say how long it is, as `--dim sequence=128`"),
        (("export", "tickets", "--format", "onnx", "--fold-preprocessing"), "is for models of images"),
    ],
)
def test_bad_input_ends_with_2_and_the_remedy(command: Command, arguments: tuple[str, ...], said: str) -> None:
    """The name of a table was answered as if it were a text."""
    classifier(Path("tickets"))
    towers(Path("colours"))
    Path("some.csv").write_text("text\nmy parcel\n", encoding="utf-8")
    ended = command(*arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not Path("tickets-optimum").exists()


def test_an_export_says_who_makes_ids_of_texts(command: Command) -> None:
    towers(Path("colours"))
    for to, said in (("triton", "clients make them with `tokenizer.json`"), ("mlserver", "the server takes strings")):
        ended = command("export", "colours", "--format", to)
        assert ended.code == 0, ended.err
        (note,) = [line for line in ended.out.splitlines() if line.startswith("note: ")]
        assert note.startswith("note: colours-text: ")
        assert said in note
