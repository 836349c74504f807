"""A folder that Optimum's ORTModelFor... classes load, with what transformers' processors need. Needs neither.

The graph's tensors have the names that these classes feed and read. The folder is a bundle all the same.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from compresslab.bundle.sealing import seal
from compresslab.errors import BadInput
from compresslab.measure.subject import made_up_samples
from compresslab.report.markdown_syntax import bullets
from compresslab.serving.server_card import server_card

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.artifact import Artifact, Manifest
    from compresslab.measure.preprocessing import ImagePreprocessing

CONFIG = "config.json"
PREPROCESSOR = "preprocessor_config.json"
IMAGES, LOGITS = "pixel_values", "logits"
_FILE = "model.onnx"
_RESAMPLE = {"nearest": 0, "bilinear": 2, "bicubic": 3}
"""Pillow's numbers for filters, by which processors know them."""


def require_optimum(artifact: Artifact) -> None:
    """Refuses what no class of Optimum's runs.

    Raises:
        BadInput: There are several graphs, or the one does not take normalized images and give classes.
    """
    manifest = artifact.manifest
    if len(manifest.graphs) > 1:
        raise BadInput(
            f"{artifact.folder}: Optimum's classes run one graph, but it has {', '.join(manifest.graphs)}; use "
            "--format onnx, or export each from a bundle of its own"
        )
    kind = manifest.preprocessing.kind
    if manifest.preprocessing.kind != "image":
        raise BadInput(
            f"{artifact.folder}: this layout is for models of images, but this one takes {kind}; use --format onnx"
        )
    if manifest.preprocessing.folded is not None:
        raise BadInput(
            f"{artifact.folder}: its graph takes raw pixels ({manifest.preprocessing.folded}), and transformers' "
            "processors give normalized ones; export the bundle that it was made from"
        )
    (info,) = manifest.graphs.values()
    if len(info.inputs) != 1 or len(info.outputs) != 1 or not manifest.labels:
        raise BadInput(
            f"{artifact.folder}: ORTModelForImageClassification feeds one tensor and reads one of {LOGITS}, but this "
            f"graph has {len(info.inputs)} inputs, {len(info.outputs)} outputs and {len(manifest.labels)} labels; use "
            "--format onnx"
        )


def write_optimum(artifact: Artifact, draft: Path, name: str) -> tuple[str, ...]:
    """Fills an empty folder, and returns what a user must know.

    Args:
        artifact: The bundle; `require_optimum` has passed it.
        draft: The folder.
        name: What the card calls the model.

    Raises:
        BadInput: The package onnx, which rewrites the graph, is not installed.
        ParityError: The graph with other names gives other numbers.
    """
    try:
        from compresslab.serving.renaming import renamed
    except ModuleNotFoundError as error:
        raise BadInput(
            f"`--format optimum` renames the graph's tensors with the package {error.name}, which is not installed: "
            "`pip install onnx`"
        ) from error
    (info,) = artifact.manifest.graphs.values()
    names = {info.inputs[0].name: IMAGES, info.outputs[0].name: LOGITS}
    made = renamed(artifact, names, draft, made_up_samples(artifact.manifest.preprocessing))
    manifest = made.manifest
    if info.file != _FILE:  # which is what these classes look for
        shutil.move(draft / info.file, draft / _FILE)
        ((graph, written),) = manifest.graphs.items()
        manifest = manifest.model_copy(update={"graphs": {graph: written.model_copy(update={"file": _FILE})}})
    how = manifest.preprocessing
    assert how.kind == "image", "nothing else is let through"
    notes = [*_unsaid_resizing(how), *_unsaid_session(manifest)]
    _write(draft / CONFIG, config(manifest))
    processor = image_processor(how)
    if processor is not None:
        _write(draft / PREPROCESSOR, processor)
    told = [server_card(name, manifest).rstrip("\n"), "## With Optimum", _USE if processor is not None else _USE_ALONE]
    seal(draft, manifest, "\n\n".join([*told, *([bullets(notes)] if notes else [])]) + "\n")
    return tuple(notes)


def config(manifest: Manifest) -> dict[str, Any]:
    """`config.json`: the labels, and a kind of model that transformers knows, of which nothing else is read."""
    how = manifest.preprocessing
    assert how.kind == "image", "nothing else is let through"
    return {
        # AutoConfig refuses kinds that it does not know. The graph is what is run, whatever network it was.
        "model_type": "resnet",
        "architectures": ["ResNetForImageClassification"],
        "id2label": {str(index): label for index, label in enumerate(manifest.labels)},
        "label2id": {label: index for index, label in enumerate(manifest.labels)},
        "num_channels": how.channels,
        "problem_type": "single_label_classification",
        "compresslab": {"graph": _FILE, "params": manifest.params, "macs": manifest.macs},
    }


def image_processor(how: ImagePreprocessing) -> dict[str, Any] | None:
    """`preprocessor_config.json` that makes AutoImageProcessor do the same; None of grey images, which none takes."""
    if how.channels == 1:
        return None
    plain: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"height": how.height, "width": how.width},
        "resample": _RESAMPLE[how.resize],
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(how.mean),
        "image_std": list(how.std),
    }
    if how.crop == 1.0:
        return plain
    return plain | {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"height": _uncropped(how.height, how.crop), "width": _uncropped(how.width, how.crop)},
        "do_center_crop": True,
        "crop_size": {"height": how.height, "width": how.width},
    }


def _uncropped(side: int, crop: float) -> int:
    """Pixels to resize a whole side to, so that its middle is `side` pixels; what is cut off is even."""
    return side + 2 * round((side / crop - side) / 2)


def _unsaid_resizing(how: ImagePreprocessing) -> list[str]:
    if how.channels == 1:
        return [
            f"no {PREPROCESSOR}: no image processor of transformers' takes grey images; prepare them as this card says"
        ]
    if any(abs(side / how.crop - _uncropped(side, how.crop)) > 1e-6 * side for side in (how.height, how.width)):
        return [
            f"the central {100 * how.crop:g} % of an image is no whole number of pixels in {PREPROCESSOR}, which "
            "resizes first: inputs are shifted by up to half a pixel; measure that on your data, or crop images before"
        ]
    return []


def _unsaid_session(manifest: Manifest) -> list[str]:
    left_out = manifest.session.disabled_optimizers
    if not left_out:
        return []
    return [
        f"measured without ONNX Runtime's {', '.join(left_out)}, which Optimum cannot leave out: layers that were kept "
        "in float are rounded there; measure it again, or use --format onnx"
    ]


def _write(path: Path, plain: dict[str, Any]) -> None:
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


_USE_ALONE = f"""```python
from optimum.onnxruntime import ORTModelForImageClassification

model = ORTModelForImageClassification.from_pretrained(".")
scores = model({IMAGES}=images).logits  # of float32 images as prepared above
```"""
_USE = """```python
from optimum.onnxruntime import ORTModelForImageClassification
from PIL import Image
from transformers import AutoImageProcessor

model = ORTModelForImageClassification.from_pretrained(".")
processor = AutoImageProcessor.from_pretrained(".", use_fast=False)
scores = model(**processor(Image.open("image.png"), return_tensors="np")).logits
print(model.config.id2label[int(scores.argmax())])
```"""
