"""Python that loads a bundle with ONNX Runtime, numpy and Pillow alone: what the model card shows, and tests run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.measure.session import SessionOptions

if TYPE_CHECKING:
    from compresslab.measure.artifact import Manifest
    from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
    from compresslab.measure.text_preprocessing import TextPreprocessing

IMAGE = "image.png"
FEATURES = "features.npy"
TEXT = "a text of yours"

_LEVELS = {"extended": "ORT_ENABLE_EXTENDED", "basic": "ORT_ENABLE_BASIC", "disabled": "ORT_DISABLE_ALL"}


def answer_sample(manifest: Manifest, tower: str | None = None) -> str:
    """Lines that print what the model says of `image.png`, of a text, or of the rows of `features.npy`.

    They run in the folder. `tower` is the name of the graph where the folder has several.
    """
    (info,) = manifest.graphs.values()
    how = manifest.preprocessing
    if how.kind == "text":
        reading = _texts(how)
    elif how.kind == "features":
        reading = _features(how, tower)
    else:
        reading = ["from PIL import Image, ImageOps", *_pixels(how)]
    outputs = f"session.run(None, {{{info.inputs[0].name!r}: inputs}})[0]"
    if manifest.target is not None:
        answer = f"print({outputs}[:, 0])"
    elif manifest.embedding is not None:
        answer = f"print({outputs})"
    elif manifest.labels:
        answer = f'print(json.load(open("manifest.json"))["labels"][{outputs}.argmax()])'
    else:
        answer = f"print({outputs}.argmax())"
    return "\n".join(["import json, numpy, onnxruntime", *reading, *_session(manifest, info.file), answer])


def open_graphs(manifest: Manifest) -> str:
    """Lines that open every graph and print what it takes and gives."""
    lines = ["import onnxruntime"]
    for info in manifest.graphs.values():
        lines += _session(manifest, info.file)
        lines.append("print([(one.name, one.shape) for one in [*session.get_inputs(), *session.get_outputs()]])")
    return "\n".join(lines)


def _features(preprocessing: FeaturePreprocessing, tower: str | None) -> list[str]:
    """The same arithmetic as `FeaturePreprocessing.normalize`; means are read, as there may be thousands."""
    loaded = f'numpy.load("{FEATURES}")'
    if not preprocessing.mean:
        return [f'inputs = {loaded}.astype("float32")']
    place = "" if tower is None else f'["towers"]["{tower}"]'
    return [
        f'how = json.load(open("manifest.json")){place}["preprocessing"]',
        f'inputs = (({loaded} - how["mean"]) / how["std"]).astype("float32")',
    ]


def _texts(preprocessing: TextPreprocessing) -> list[str]:
    """The same as `TextPreprocessing.graph_input` of one text, which needs no padding."""
    return [
        "from tokenizers import Tokenizer",
        f"tokenizer = Tokenizer.from_file({preprocessing.tokenizer!r})",
        "tokenizer.no_padding()",
        f"tokenizer.enable_truncation({preprocessing.max_length})",
        f'inputs = numpy.array([tokenizer.encode("{TEXT}").ids])',
    ]


def _pixels(preprocessing: ImagePreprocessing) -> list[str]:
    """The same arithmetic as `ImagePreprocessing.open` and `graph_input`, written out."""
    height, width, channels = preprocessing.height, preprocessing.width, preprocessing.channels
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    image = f'ImageOps.exif_transpose(Image.open("{IMAGE}")).convert("{"L" if channels == 1 else "RGB"}")'
    lines, box = [], ""
    if preprocessing.fit == "cover":
        lines = [
            f"image = {image}",
            f"share = {preprocessing.crop!r} * min(image.width / {width}, image.height / {height})",
            f"x, y = (image.width - share * {width}) / 2, (image.height - share * {height}) / 2",
        ]
    elif preprocessing.crop < 1:
        lines = [f"image = {image}", f"x, y = (side * {(1 - preprocessing.crop) / 2!r} for side in image.size)"]
    if lines:
        image, box = "image", ", box=(x, y, image.width - x, image.height - y)"
    resized = f"{image}.resize(({width}, {height}), Image.Resampling.{preprocessing.resize.upper()}{box})"
    pixels = f"numpy.asarray({resized}).reshape(1, {height}, {width}, {channels})"
    if preprocessing.folded is not None:
        dtype, layout = preprocessing.folded.split("-")
        order = "" if layout == "nhwc" else ".transpose(0, 3, 1, 2)"
        return [*lines, f"inputs = {pixels}{order}" + ("" if dtype == "uint8" else f'.astype("{dtype}")')]
    return [
        *lines,
        f"pixels = {pixels}",
        f'inputs = ((pixels / 255 - {mean}) / {std}).transpose(0, 3, 1, 2).astype("float32")',
    ]


def _session(manifest: Manifest, file: str) -> list[str]:
    session = manifest.session
    lines = []
    arguments = [repr(file)]
    if session.graph_optimization != SessionOptions().graph_optimization:
        level = _LEVELS[session.graph_optimization]
        lines += [
            "options = onnxruntime.SessionOptions()",
            f"options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.{level}",
        ]
        arguments.append("options")
    arguments.append(f"providers={[session.provider]}")
    if session.disabled_optimizers:
        arguments.append(f"disabled_optimizers={list(session.disabled_optimizers)}")
    return [*lines, f"session = onnxruntime.InferenceSession({', '.join(arguments)})"]
