"""The sections of a card that follow from the manifest alone: how to call the model, what it takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.bundle.snippet import FEATURES, IMAGE, answer_sample, open_graphs
from compresslab.report import figures
from compresslab.report.markdown_syntax import bullets, escape, table
from compresslab.report.table import Column, Row, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compresslab.measure.artifact import Manifest, TensorInfo
    from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
    from compresslab.measure.text_preprocessing import TextPreprocessing

_MOST_SHOWN = 16


def use(manifest: Manifest) -> list[str]:
    """Python that runs the model."""
    if len(manifest.graphs) == 1 and all(map(manifest.prepares, manifest.graphs)):
        intro = f"With onnxruntime, numpy and Pillow, in this folder, on an image of yours named `{IMAGE}`:"
        if manifest.preprocessing.kind == "features":
            intro = f"With onnxruntime and numpy, in this folder, on rows of features of yours in `{FEATURES}`:"
        if manifest.preprocessing.kind == "text":
            intro = "With onnxruntime, numpy and tokenizers, in this folder:"
        return ["## Use", intro, f"```python\n{answer_sample(manifest)}\n```"]
    if manifest.towers and all(map(manifest.prepares, manifest.graphs)):
        intro = "Embeddings of images and texts are compared by cosine. With onnxruntime and numpy, and Pillow or "
        sections = ["## Use", f"{intro}tokenizers, in this folder:"]
        for name in manifest.towers:
            sections += [f"`{name}`:", f"```python\n{answer_sample(manifest.only(name), name)}\n```"]
        return sections
    return ["## Use", "With onnxruntime, in this folder:", f"```python\n{open_graphs(manifest)}\n```"]


def inputs_and_outputs(manifest: Manifest) -> list[str]:
    """Names, types and shapes, how an input is made, and what the outputs stand for."""
    sections = ["## Inputs and outputs", table(_signature(manifest))]
    if manifest.towers:
        told = (f"{name}: {_preprocessing(manifest.only(name))}" for name in manifest.towers if manifest.prepares(name))
        sections.append(bullets(told))
    elif any(map(manifest.prepares, manifest.graphs)):
        sections.append(escape(_preprocessing(manifest)))
    if manifest.labels:
        sections.append("Classes, in the order of the outputs:")
        sections.append(bullets(f"{index}: {name}" for index, name in enumerate(manifest.labels)))
    return sections


def files(manifest: Manifest) -> list[str]:
    """The graphs with their hashes."""
    columns = (Column("graph"), Column("file"), Column("bytes", True), Column("opset", True), Column("SHA-256"))
    rows = tuple(
        Row(name, (name, info.file, figures.count(info.bytes), str(info.opset), info.sha256))
        for name, info in manifest.graphs.items()
    )
    told = "For programs, `manifest.json` holds signature, preprocessing, labels and where the model comes from."
    return ["## Files", table(Table("The exported graphs.", columns, rows)), told]


def _signature(manifest: Manifest) -> Table:
    columns = (Column("graph"), Column("direction"), Column("name"), Column("type"), Column("shape"))
    rows = []
    for name, info in manifest.graphs.items():
        rows += [_tensor(name, "input", one) for one in info.inputs]
        rows += [_tensor(name, "output", one) for one in info.outputs]
    return Table("A dimension with a name may have any size.", columns, tuple(rows))


def _tensor(graph: str, direction: str, tensor: TensorInfo) -> Row:
    return Row(graph, (graph, direction, tensor.name, tensor.dtype, " x ".join(map(str, tensor.shape))))


def _preprocessing(manifest: Manifest) -> str:
    how = manifest.preprocessing
    match how.kind:
        case "text":
            told = f"{_texts(how)}."
        case "features":
            told = f"{_features(how)}."
        case _:
            told = f"{_images(how)}."
    if manifest.target is not None:
        return f"{told} The output is {manifest.target}, in the units of the training data."
    if manifest.embedding is not None:
        return f"{told} The output is an embedding of {manifest.embedding} numbers; compare two by their cosine."
    return f"{told} Outputs are one score a class, before softmax." if manifest.labels else told


def _texts(how: TextPreprocessing) -> str:
    return (
        f"Inputs are ids of tokens, as `{how.tokenizer}` of the library tokenizers gives them with its special tokens; "
        f"shorter texts of a batch are filled up on the right with {how.pad_id}, and at most {how.max_length} tokens "
        "are read of one"
    )


def _images(how: ImagePreprocessing) -> str:
    colour = "grey" if how.channels == 1 else "RGB"
    share = f"the central {100 * how.crop:g} % of each side, " if how.crop < 1 else ""
    if how.fit == "cover":
        share = f"cut at the middle to the shape of {how.height} rows of {how.width} pixels, {share}"
    pixels = f"Inputs are {colour} images: {share}resized ({how.resize}) to {how.height} rows of {how.width} pixels, "
    if how.folded is not None:
        dtype, layout = how.folded.split("-")
        order = "channels last" if layout == "nhwc" else "channels first"
        return f"{pixels}values 0 to 255 as they are, in {dtype}, {order}: the graph normalizes by itself"
    return (
        f"{pixels}values 0 to 255 divided by 255, less {_numbers(how.mean)}, divided by {_numbers(how.std)}, "
        "channels first"
    )


def _features(how: FeaturePreprocessing) -> str:
    rows = f"Inputs are rows of {how.width} features, in the order of the training data, "
    if not how.mean:
        return f"{rows}as they are"
    if how.width > _MOST_SHOWN:
        return f"{rows}each less its mean, divided by its deviation; both are in manifest.json"
    return f"{rows}each less its mean ({_numbers(how.mean)}), divided by its deviation ({_numbers(how.std)})"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
