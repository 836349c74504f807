"""`compresslab init`: what it writes fits model and data, says why, and is a pipeline that runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from compresslab.config import load_pipeline
from tests.texts import save_distilbert, save_graph, sentences, train_tokenizer, write_csv

Command = Callable[..., object]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def images(folder: Path, counts: dict[str, int], size: tuple[int, int] = (40, 30), mode: str = "RGB") -> Path:
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for index in range(count):
            Image.new(mode, size, index).save(folder / label / f"{index}.png")
    return folder


def graph(path: Path, shape: tuple[int | str, ...], outputs: int) -> Path:
    width = int(np.prod([size for size in shape[1:] if isinstance(size, int)]))
    nodes = [helper.make_node("Flatten", ["in"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["out"])]
    made = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("in", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", outputs])],
        [numpy_helper.from_array(np.ones((width, outputs), np.float32) / width, "w")],
    )  # fmt: skip
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def written(name: str) -> dict:
    return yaml.safe_load(Path(name).read_text(encoding="utf-8"))


def test_a_timm_network_and_a_folder_of_images(command: Command, here: Path) -> None:
    """The labels are uneven, so accuracy would mislead; a network without weights has to be trained first."""
    images(here / "parts", {"bolt": 9, "nut": 2}, size=(300, 240))
    ended = command("init", "resnet50", "parts")
    assert ended.code == 0
    assert "next: compresslab run parts.yaml --plan" in ended.out
    found = written("parts.yaml")
    assert found["task"] == {"image_classification": {"folder": "parts", "size": 224, "metric": "f1_macro"}}
    assert found["model"] == {"timm": "resnet50"}
    assert [next(iter(stage)) for stage in found["stages"]] == ["train", "distill", "prune", "quantize"]
    assert found["stages"][1]["distill"]["student"] == {"timm": "mobilenetv3_small_100"}
    assert found["budget"] == {"f1_macro_drop": 0.01}
    assert "# 2 labels: bolt 9, nut 2" in Path("parts.yaml").read_text(encoding="utf-8")
    load_pipeline(Path("parts.yaml"))


@pytest.mark.parametrize(
    ("name", "side", "size"), [("resnet18", 40, 32), ("resnet18", 70, 64), ("vit_tiny_patch16_224", 40, 224)]
)
def test_the_size_is_one_that_images_and_network_have(
    name: str, side: int, size: int, command: Command, here: Path
) -> None:
    images(here / "parts", {"bolt": 2, "nut": 2}, size=(side + 8, side))
    assert command("init", name, "parts").code == 0
    assert written("parts.yaml")["task"]["image_classification"]["size"] == size
    assert written("parts.yaml")["task"]["image_classification"]["metric"] == "accuracy"


def test_a_checkpoint_and_arrays_pass_the_plan(
    command: Command, stripes_file: Path, trained_checkpoint: Path, here: Path
) -> None:
    """Its student is a narrower network of the same kind. The plan loads the data, builds all and tries every loss."""
    ended = command("init", str(trained_checkpoint), str(stripes_file), "--out", "first.yaml")
    assert ended.code == 0
    assert written("first.yaml")["stages"][0]["distill"]["student"]["residual"]["widths"] == [8, 8]
    planned = command("run", "first.yaml", "--plan")
    assert (planned.code, planned.err) == (0, "")
    assert not (here / "runs" / "first" / "results.json").exists()


def test_an_onnx_file_is_quantized_alone_and_passes_the_plan(command: Command, stripes_file: Path, here: Path) -> None:
    graph(here / "net.onnx", ("n", 1, 12, 12), 3)
    assert command("init", "net.onnx", str(stripes_file)).code == 0
    found = written("stripes.yaml")
    assert found["model"] == {"onnx": "net.onnx"}
    assert found["stages"] == [{"quantize": {"backend": "onnxruntime"}}]
    assert "size" not in found["task"]["image_classification"]
    planned = command("run", "stripes.yaml", "--plan")
    assert (planned.code, planned.err) == (0, "")


def test_features_are_a_regression(command: Command, here: Path) -> None:
    random = np.random.default_rng(0)
    np.savez("table.npz", features=random.random((200, 5), np.float32), targets=random.random(200, np.float32))
    graph(here / "net.onnx", ("n", 5), 1)
    assert command("init", "net.onnx", "table.npz").code == 0
    assert written("table.yaml")["task"] == {"regression": {"npz": "table.npz", "metric": "spearman"}}
    assert command("run", "table.yaml", "--plan").code == 0


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_texts_with_a_classifier_of_transformers(suffix: str, command: Command, here: Path) -> None:
    """The longest column is the text, and the one whose values come again its label."""
    rows = [{"id": str(n), "body": f"a longer text, number {n}", "queue": ["sales", "help"][n % 2]} for n in range(20)]
    path = here / f"tickets.{suffix}"
    if suffix == "csv":
        path.write_text("id,body,queue\n" + "".join('{id},"{body}",{queue}\n'.format(**row) for row in rows))
    elif suffix == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), path)
    (here / "bert").mkdir()
    config = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "help", "1": "sales"}}
    (here / "bert" / "config.json").write_text(json.dumps(config))
    assert command("init", "bert", path.name).code == 0
    found = written("tickets.yaml")
    expected = {suffix: path.name, "text": "body", "label": "queue", "metric": "accuracy"}
    assert found["task"] == {"text_classification": expected}
    assert found["stages"] == [{"quantize": {"mode": "ptq", "backend": {"tune": ["own", "onnxruntime", "dynamic"]}}}]
    load_pipeline(Path("tickets.yaml"))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_what_is_written_for_texts_passes_the_plan(suffix: str, command: Command, here: Path) -> None:
    """The whole of it: the tokenizer is found, the labels are the network's, the stages are for it."""
    pytest.importorskip("transformers")
    texts, labels = sentences(120)
    if suffix == "csv":
        write_csv(here / "tickets.csv", texts, labels)
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        rows = [{"body": text, "queue": label} for text, label in zip(texts, labels, strict=True)]
        parquet.write_table(pytest.importorskip("pyarrow").Table.from_pylist(rows), here / "tickets.parquet")
    save_distilbert(here / "model")
    assert command("init", "model", f"tickets.{suffix}").code == 0
    planned = command("run", "tickets.yaml", "--plan")
    assert (planned.code, planned.err) == (0, "")


def test_an_onnx_file_for_texts_is_given_the_tokenizer_beside_it(command: Command, here: Path) -> None:
    """Without it nothing would say how texts become its ids, and with the padding as an input it cannot be called."""
    write_csv(here / "tickets.csv", *sentences(120))
    (here / "net").mkdir()
    save_graph(here / "net" / "ids.onnx", ("ids",))
    save_graph(here / "net" / "both.onnx", ("ids", "mask"))
    assert "there is no tokenizer.json beside it" in command("init", "net/ids.onnx", "tickets.csv").err
    train_tokenizer(here / "net")
    assert command("init", "net/ids.onnx", "tickets.csv").code == 0
    assert written("tickets.yaml")["task"]["text_classification"]["tokenizer"] == "net/tokenizer.json"
    planned = command("run", "tickets.yaml", "--plan")
    assert (planned.code, planned.err) == (0, "")
    ended = command("init", "net/both.onnx", "tickets.csv", "--out", "both.yaml")
    assert ended.code == 2
    assert "has 2 inputs, and a task gives one array; give the folder of the network" in ended.err


def test_names_that_yaml_takes_for_something_else_are_quoted(command: Command, here: Path) -> None:
    images(here / "a: #b", {"yes": 1, "multi\u2028line": 1})
    assert command("init", "resnet18", "a: #b").code == 0
    assert written("a: #b.yaml")["task"]["image_classification"]["folder"] == "a: #b"


def test_paths_start_from_the_file(command: Command, here: Path) -> None:
    images(here / "parts", {"bolt": 1, "nut": 1})
    (here / "pipelines").mkdir()
    assert command("init", "resnet18", "parts", "--out", "pipelines/x.yaml").code == 0
    assert written("pipelines/x.yaml")["task"]["image_classification"]["folder"] == "../parts"


def test_nothing_is_overwritten(command: Command, here: Path) -> None:
    images(here / "parts", {"bolt": 1, "nut": 1})
    Path("parts.yaml").write_text("mine")
    ended = command("init", "resnet18", "parts")
    assert ended.code == 2
    assert "parts.yaml: is there already, and is not replaced; choose another name with --out" in ended.err
    assert Path("parts.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ("resnet18", "nothing", "nothing: no such file or folder; give a folder of images"),
        ("./no/such", "parts", "no such file or folder, and no name of a timm network"),
        ("best.pt", "parts", "weights alone do not say of which network"),
        ("empty", "parts", "has neither architecture.json, .* nor config.json"),
        ("clip", "parts", "embeds images and texts in one space, and `init` writes pipelines of one network"),
        ("five.onnx", "parts", "it gives 5 outputs, but parts has 2 labels"),
        ("table.onnx", "parts", "it reads features, but parts holds images"),
        ("resnet18", "odd.npz", r"holds `x` \[3\]; a task reads `images`"),
        ("resnet18", "notes.txt", "what `.txt` files hold is not known"),
        ("resnet18", "flat.csv", "beside the texts in `a` no column has a few labels that come again, but `b` .20"),
        ("resnet18", "broken.jsonl", r"broken.jsonl:1: is not JSON .*; give one object a line"),
        ("resnet18", "semicolons.csv", r"semicolons.csv:1: is one field, `a;b`, whose parts stand apart by semicolons"),
        ("resnet18", "pairs.csv", "table of images and texts that belong together: .* docs/towers.md"),
    ],
)
def test_what_cannot_be_is_told(model: str, data: str, message: str, command: Command, here: Path) -> None:
    images(here / "parts", {"bolt": 1, "nut": 1})
    (here / "empty").mkdir()
    (here / "clip").mkdir()
    (here / "clip" / "config.json").write_text(json.dumps({"text_config": {}, "vision_config": {}}))
    graph(here / "five.onnx", ("n", 3, 8, 8), 5)
    graph(here / "table.onnx", ("n", 4), 2)
    np.savez(here / "odd.npz", x=np.zeros(3))
    (here / "notes.txt").write_text("hello")
    (here / "flat.csv").write_text("a,b\n" + "".join(f"text number {n},{n}\n" for n in range(20)))
    (here / "broken.jsonl").write_text("{")
    (here / "semicolons.csv").write_text("a;b\nx;y\n")
    (here / "pairs.csv").write_text("image,text\na.png,red\n")
    ended = command("init", model, data)
    assert ended.code == 2
    assert re.search(message, ended.err), ended.err
    assert not list(here.glob("*.yaml"))


def test_nothing_heavy_is_loaded(here: Path, trained_checkpoint: Path, stripes_file: Path) -> None:
    """It is the front door: who only wants to see a first file does not wait for torch."""
    script = (
        "import sys\nfrom compresslab.cli.app import invoke\n"
        f"assert invoke(['init', {str(trained_checkpoint)!r}, {str(stripes_file)!r}]) == 0\n"
        "heavy = {'torch', 'timm', 'transformers', 'datasets', 'onnx', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
