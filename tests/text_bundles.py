"""Bundles that read texts, made by hand of tables of word vectors: what they answer is known, and no torch needed."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from compresslab.bundle.sealing import seal
from compresslab.digest import digest_file
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, TowerInfo
from compresslab.measure.measurement import Latency
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.text_preprocessing import TextPreprocessing
from tests.texts import _WORDS as WORDS
from tests.texts import QUEUES

LONGEST = 16
SIDE = 8
COLOURS = {
    f"colour{number}": colour
    for number, colour in enumerate(product((0, 128, 255), repeat=3)) if colour != (128, 128, 128)
}  # fmt: skip
"""Words for colours that lie in different directions from grey."""
_PIXELS = ImagePreprocessing(height=SIDE, width=SIDE, channels=3, mean=(128 / 255,) * 3, std=(0.5,) * 3)


def classifier(folder: Path, *, labels: tuple[str, ...] = QUEUES, wrong: bool = False) -> Artifact:
    """Counts the words of each queue: right on all of `tests.texts.sentences`; with `wrong` on none."""
    vectors = {word: np.eye(len(QUEUES))[labels.index(queue)] for queue, its in WORDS.items() for word in its}
    if wrong:
        vectors = {word: np.roll(vector, 1) for word, vector in vectors.items()}
    return _bundle(folder, vectors, "logits", labels=labels, provenance=_provenance("tickets"))


def encoder(folder: Path, *, concepts: int = 60, wrong: float = 0.0) -> Artifact:
    """`query3` and `document3` have one direction; of the share `wrong` of the concepts they have not."""
    directions = np.random.default_rng(0).normal(size=(concepts, 8))
    lost = round(wrong * concepts)
    documents = np.concatenate([np.roll(directions[:lost], 1, axis=0), directions[lost:]])
    vectors = {f"query{one}": direction for one, direction in enumerate(directions)}
    vectors |= {f"document{one}": direction for one, direction in enumerate(documents)}
    return _bundle(folder, vectors, "embedding", embedding=8, provenance=_provenance("search"))


def towers(folder: Path, *, wrong: bool = False) -> Artifact:
    """The mean colour of an image, and what its word says; with `wrong` words say the next colour."""
    folder.mkdir(parents=True)
    values = (np.array(list(COLOURS.values())) - 128) / 127.5
    if wrong:
        values = np.roll(values, 1, axis=0)
    text, how = _words(folder, "text", dict(zip(COLOURS, values, strict=True)), "embedding")
    nodes = [helper.make_node("ReduceMean", ["pixels", "sides"], ["embedding"], keepdims=0)]
    sides = numpy_helper.from_array(np.array([2, 3], np.int64), "sides")
    pixels = TensorInfo(name="pixels", dtype="float32", shape=("batch", 3, SIDE, SIDE))
    image = _save(folder / "image.onnx", nodes, [sides], pixels, "embedding", 3)
    known = {"image": TowerInfo(preprocessing=_PIXELS, params=0, macs=192),
             "text": TowerInfo(preprocessing=how, params=78, macs=48)}  # fmt: skip
    manifest = Manifest(
        graphs={"image": image, "text": text}, preprocessing=_PIXELS, towers=known, labels=(), embedding=3, params=78,
        macs=240, latency=(_latency("image + text"), _latency("image"), _latency("text")),
        provenance=_provenance("colours"),
    )  # fmt: skip
    return seal(folder, manifest, "# colours\n")


def write_search(path: Path, concepts: int = 60) -> Path:
    """A pair a row, for `encoder`."""
    rows = [f"where is query{one},here is document{one} and more" for one in range(concepts)]
    path.write_text("\n".join(["query,document", *rows]) + "\n", encoding="utf-8")
    return path


def write_colours(folder: Path) -> Path:
    """A table of images and texts, for `towers`, and the images beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["image,text"]
    for word, colour in COLOURS.items():
        Image.fromarray(np.full((SIDE, SIDE, 3), colour, np.uint8)).save(folder / f"{word}.png")
        rows.append(f"{word}.png,all {word}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder / "pairs.csv"


def _bundle(folder: Path, vectors: dict[str, np.ndarray], output: str, **told: object) -> Artifact:
    folder.mkdir(parents=True)
    info, how = _words(folder, "model", vectors, output)
    plain = {"labels": (), "params": 100, "macs": 100, "latency": (_latency("model"),), **told}
    return seal(folder, Manifest(graphs={"model": info}, preprocessing=how, **plain), "# words\n")


def _words(
    folder: Path, graph: str, vectors: dict[str, np.ndarray], output: str
) -> tuple[GraphInfo, TextPreprocessing]:
    """The sum of the vectors of the known words of a text; all others have 0, and so has padding."""
    words = ["[PAD]", "[UNK]", *vectors]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    width = len(next(iter(vectors.values())))
    table = np.zeros((len(words), width), np.float32)
    table[2:] = list(vectors.values())
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("ReduceSum", ["found", "tokens"], [output], keepdims=0),
    ]
    made = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(np.array([1], np.int64), "tokens")]
    ids = TensorInfo(name="input_ids", dtype="int64", shape=("batch", "sequence"))
    info = _save(folder / f"{graph}.onnx", nodes, made, ids, output, width)
    how = TextPreprocessing.of(folder / "tokenizer.json", pad_id=0, max_length=LONGEST)
    return info, how


def _save(path: Path, nodes: list, made: list, given: TensorInfo, output: str, width: int) -> GraphInfo:
    kind = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}[given.dtype]
    graph = helper.make_graph(
        nodes, path.stem, [helper.make_tensor_value_info(given.name, kind, list(given.shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", width])], made,
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return GraphInfo(
        file=path.name, sha256=digest_file(path), bytes=path.stat().st_size, opset=18, inputs=(given,),
        outputs=(TensorInfo(name=output, dtype="float32", shape=("batch", width)),),
    )  # fmt: skip


def _latency(graph: str) -> Latency:
    return Latency(graph, 1, 1, "data", "default", "CPUExecutionProvider", 0.2, None, None, 0.2, 0.2, 100)


def _provenance(pipeline: str) -> dict[str, object]:
    return {"run": {"pipeline": pipeline, "machine": {"cores": 2}}}
