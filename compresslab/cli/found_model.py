"""What a model looks like at a glance, for a first pipeline: where it comes from, and what its files say. No torch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from compresslab.errors import ModelError
from compresslab.models.timm_names import require_local

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.cli.found_data import Kind

Source = Literal["timm", "hf", "checkpoint", "onnx"]

_TIMM_SIDE = 224


@dataclass(frozen=True)
class FoundModel:
    """A model as a pipeline names it, and what is known of it; None is not known.

    Args:
        source: The key that `model` has for it.
        name: A path, or timm's name.
        kind: What it reads.
        outputs: Its answers.
        side: Height and width of its images.
        channels: Of its images.
        labels: In the order of its outputs; empty where they have no names.
        residual: Of a network of ours, what builds it.
    """

    source: Source
    name: str
    kind: Kind | None = None
    outputs: int | None = None
    side: int | None = None
    channels: int | None = None
    labels: tuple[str, ...] = ()
    residual: Mapping[str, Any] | None = field(default=None)


def look_at_model(given: str) -> FoundModel:
    """The model: an .onnx file, a checkpoint's folder, a folder of transformers', or the name of a timm network.

    Raises:
        ModelError: It is none of these, or its description is broken.
        ArtifactError: ONNX Runtime cannot open the file.
    """
    path = Path(given)
    if path.is_file() and path.suffix == ".onnx":
        return _graph(path)
    if path.is_dir():
        if (path / "architecture.json").is_file():
            return _checkpoint(path)
        if (path / "config.json").is_file():
            return _transformers(path)
        raise ModelError(
            f"{path}: has neither architecture.json, as every stage of a run leaves it, nor config.json, as "
            "`save_pretrained` of transformers writes it"
        )
    if path.suffix in (".pt", ".pth", ".safetensors"):
        raise ModelError(
            f"{path}: weights alone do not say of which network; give timm's name for it, and then name the file under "
            "`model` as `weights`"
        )
    try:
        require_local(given, {})
    except ValueError as error:
        raise ModelError(
            f"{given}: no such file or folder, and no name of a timm network; give an .onnx file, the folder of a "
            "checkpoint or of `save_pretrained`, or a name such as resnet50"
        ) from error
    # timm's own list would take seconds to load; `run --plan` tells a misspelt name.
    return FoundModel("timm", given, "images", side=_TIMM_SIDE)


def _graph(path: Path) -> FoundModel:
    from compresslab.measure.onnx_file import described
    from compresslab.measure.session import SessionOptions

    (taken, *more), given = described(path, SessionOptions())
    whole = taken.dtype.startswith("int")
    if more:
        remedy = "export it with one"
        if whole:
            remedy = "give the folder of the network, which is exported with ids alone and finds the padding by itself"
        raise ModelError(f"{path}: has {1 + len(more)} inputs, and a task gives one array; {remedy}")
    sizes = taken.shape
    kind: Kind | None = "texts" if whole else {4: "images", 2: "features"}.get(len(sizes))  # type: ignore[assignment]
    outputs = given[0].shape[-1] if given and len(given[0].shape) == 2 else None
    channels = sizes[1] if kind == "images" and isinstance(sizes[1], int) else None
    square = kind == "images" and isinstance(sizes[2], int) and sizes[2] == sizes[3]
    return FoundModel(
        "onnx",
        str(path),
        kind,
        outputs if isinstance(outputs, int) else None,
        int(sizes[2]) if square else None,
        channels,
    )


def _checkpoint(path: Path) -> FoundModel:
    builder = _json(path / "architecture.json").get("builder")
    if not isinstance(builder, dict):
        raise ModelError(f"{path / 'architecture.json'}: names no `builder`; export the stage again")
    found = _of_builder(path, builder)
    manifest = path / "manifest.json"
    if not manifest.is_file():
        return found
    from compresslab.measure.artifact import read_manifest

    told = read_manifest(manifest)
    how = told.preprocessing
    side = how.height if how.kind == "image" and how.height == how.width else None
    return FoundModel(
        "checkpoint", found.name, found.kind, found.outputs, side, found.channels, told.labels, found.residual
    )


def _of_builder(path: Path, builder: Mapping[str, Any]) -> FoundModel:
    match builder.get("kind"):
        case "residual":
            classes, channels = builder.get("classes"), builder.get("in_channels")
            return FoundModel(
                "checkpoint", str(path), "images", classes, channels=channels, residual=builder.get("residual")
            )
        case "timm":
            classes, channels = builder.get("classes"), builder.get("in_channels")
            return FoundModel("checkpoint", str(path), "images", classes, _TIMM_SIDE, channels)
        case "mlp":
            return FoundModel("checkpoint", str(path), "features", builder.get("outputs"))
        case "hf":
            return _of_config("checkpoint", path, builder.get("config") or {})
        case _:
            return FoundModel("checkpoint", str(path))


def _transformers(path: Path) -> FoundModel:
    return _of_config("hf", path, _json(path / "config.json"))


def _of_config(source: Source, path: Path, config: Mapping[str, Any]) -> FoundModel:
    if isinstance(config.get("text_config"), dict) and isinstance(config.get("vision_config"), dict):
        raise ModelError(
            f"{path}: embeds images and texts in one space, and `init` writes pipelines of one network; begin with the "
            "one in docs/towers.md, `task: {cross_modal: {pairs: ...}}` and `model: {hf: FOLDER}`"
        )
    heads = config.get("architectures") or [""]
    kind: Kind | None = None
    if heads[0].endswith("ForImageClassification"):
        kind = "images"
    elif heads[0].endswith("ForSequenceClassification") or (path / "tokenizer.json").is_file():
        kind = "texts"
    names = config.get("id2label")
    labels = tuple(names[key] for key in sorted(names, key=int)) if isinstance(names, dict) else ()
    generic = all(label.startswith("LABEL_") for label in labels)
    side, channels = config.get("image_size"), config.get("num_channels")
    if kind == "images" and not isinstance(side, int):
        side = _TIMM_SIDE
    return FoundModel(source, str(path), kind, len(labels) or None, side if kind == "images" else None, channels,
                      () if generic else labels)  # fmt: skip


def _json(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read as JSON ({error}); write the folder again") from error
    if not isinstance(plain, dict):
        raise ModelError(f"{path}: must hold a JSON object, but holds a {type(plain).__name__}")
    return plain
