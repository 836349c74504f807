"""The first pipeline for a model and data: a YAML file whose comments say why each line is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from compresslab.cli.found_data import FoundData
    from compresslab.cli.found_model import FoundModel

_STUDENT = "mobilenetv3_small_100"
# Its last layers see one position of anything smaller than this.
_SMALLEST_FOR_STUDENT = 64
_STEP, _SMALL = 32, 200
_TOLD = 12


def first_pipeline(model: FoundModel, data: FoundData, data_path: Path, out: Path) -> str:
    """The file's text.

    Args:
        model: What was found of the model.
        data: What was found of the data.
        data_path: Where that is.
        out: Where the file will be, from whose folder its paths start.

    Raises:
        ModelError: The model is not for such data.
    """
    _require_match(model, data, data_path)
    folder = out.absolute().parent
    metric = _metric(data)
    lines = [
        f"# compresslab run {out.name} --plan    tells what will run;  compresslab run {out.name}    runs it",
        *_task(model, data, _path(str(data_path), folder), metric),
        *_tokenizer(model, data, folder),
        "",
        *_model(model, folder),
        "",
        "stages:",
        *_stages(model, data),
        "",
        "# Latency of what: change it to how the model will be called. It is measured on this machine.",
        f"bench: {{points: [{{batch: 1, threads: 1}}]}}{_REAL_LENGTHS if data.kind == 'texts' else ''}",
        "",
        f"# What the model that is handed back must keep: at most one point of {metric} lost. Others: p90_ms: 5,",
        "# bytes: 2000000, speedup: 3; `compresslab schema` lists all.",
        f"budget: {{{metric}_drop: 0.01}}",
    ]
    return "\n".join(lines) + "\n"


def _require_match(model: FoundModel, data: FoundData, path: Path) -> None:
    if model.kind is not None and model.kind != data.kind:
        raise ModelError(f"{model.name}: it reads {model.kind}, but {path} holds {data.kind}; give data for it, or "
                         "another model")  # fmt: skip
    wanted = 1 if data.kind == "features" else len(data.counts)
    if model.outputs is not None and wanted and model.outputs != wanted:
        raise ModelError(
            f"{model.name}: it gives {model.outputs} outputs, but {path} has {wanted} labels; give the data that it "
            "was trained on, or a model for this"
        )


def _metric(data: FoundData) -> str:
    if data.kind == "features":
        return "spearman"
    return "f1_macro" if data.uneven else "accuracy"


# -- the task --------------------------------------------------------------------------------------------------------


def _task(model: FoundModel, data: FoundData, source: str, metric: str) -> list[str]:
    kind = {"images": "image_classification", "features": "regression", "texts": "text_classification"}[data.kind]
    lines = ["task:", f"  {kind}:", f"    {data.source}: {_flow(source)}{_counted(data)}"]
    if data.columns is not None:
        text, label = data.columns
        lines += [f"    text: {_flow(text)}", f"    label: {_flow(label)}"]
    if data.kind == "images":
        lines += _image_lines(model, data)
    why = {
        "f1_macro": "the labels are unevenly common, and accuracy would overlook the rare ones",
        "accuracy": "f1_macro weighs rare labels as much as common ones",
        "spearman": "or pearson, or r2",
    }[metric]
    return [*lines, f"    metric: {metric}  # {why}"]


def _tokenizer(model: FoundModel, data: FoundData, folder: Path) -> list[str]:
    """Of an ONNX file the tokenizer beside it; other networks have theirs in their folder."""
    if model.source != "onnx" or data.kind != "texts":
        return []
    file = Path(model.name).with_name("tokenizer.json")
    if not file.is_file():
        raise ModelError(
            f"{model.name}: reads texts, and there is no {file.name} beside it, so nothing says how texts become ids; "
            "put the one there that the network was trained with"
        )
    return [f"    tokenizer: {_flow(_path(str(file), folder))}  # the one that the network was trained with"]


def _counted(data: FoundData) -> str:
    if data.kind == "features":
        return f"  # {data.width} features a sample"
    if not data.counts:
        return "  # saved by `datasets`: one image column and one label column"
    shown = ", ".join(f"{_said(label)} {count}" for label, count in list(data.counts.items())[:_TOLD])
    more = f" and {len(data.counts) - _TOLD} more" if len(data.counts) > _TOLD else ""
    return f"  # {len(data.counts)} labels: {shown}{more}"


def _image_lines(model: FoundModel, data: FoundData) -> list[str]:
    lines = []
    size = None if data.one_size and model.side in (None, data.sides[0][0], data.sides[0][1]) else _size(model, data)
    if size is not None:
        seen = f"images are about {data.shorter_side} pixels on their shorter side" if data.sides else "pixels"
        why = "what the model reads" if model.source != "timm" and model.side is not None else seen
        lines.append(f"    size: {size}  # {why}")
    if model.channels in (1, 3) and (model.channels == 1) != data.grey:
        lines.append(f"    channels: {model.channels}  # what the model reads")
    return lines


def _size(model: FoundModel, data: FoundData) -> int:
    if model.source != "timm" and model.side is not None:
        return model.side
    if not data.sides or data.shorter_side >= _SMALL or _has_patches(model.name):
        return model.side or 224
    return max(_STEP, data.shorter_side // _STEP * _STEP)


def _has_patches(name: str) -> bool:
    """Whether a timm network has one size that it takes, as transformers do."""
    return any(part in name for part in ("vit", "deit", "swin", "beit", "mixer", "patch"))


# -- the model and the stages ----------------------------------------------------------------------------------------


def _model(model: FoundModel, folder: Path) -> list[str]:
    name = model.name if model.source == "timm" else _path(model.name, folder)
    lines = [f"model: {{{model.source}: {_flow(name)}}}"]
    if model.source == "timm":
        lines.insert(0, "# With trained weights: {timm: ..., weights: best.safetensors}; then leave `train` out below.")
    if model.source == "onnx":
        lines.insert(0, "# An ONNX file can be quantized; to distil or prune give the network itself.")
    return lines


def _stages(model: FoundModel, data: FoundData) -> list[str]:
    if model.source == "onnx":
        if data.kind == "images":
            return [
                "  # Static ranges, found on the calibration split. `dynamic` is for matrix products: transformers.",
                "  - quantize: {backend: onnxruntime}",
            ]
        return [
            "  # Both are made and measured; the fastest within the budget stays.",
            "  - quantize: {backend: {tune: [onnxruntime, dynamic]}}",
        ]
    if data.kind == "texts":
        return [
            "  # Quantizing alone keeps most; distilling into fewer layers comes next if it is not enough.",
            "  - quantize: {mode: ptq, backend: {tune: [own, onnxruntime, dynamic]}}",
        ]
    lines = []
    if model.source == "timm":
        lines.append("  - train: {epochs: 30}  # it has no weights yet")
    lines += _distill(model, data)
    lines += [
        "  # To 60 % of the time it took before, measured here; `recover` trains what is left.",
        "  - prune: {latency: 0.6, recover: {epochs: 5}}",
        "  # Calibrates; keeps what suffers in float, or trains, only while the budget is missed.",
        "  - quantize: {mode: auto}",
    ]
    return lines


def _distill(model: FoundModel, data: FoundData) -> list[str]:
    told = "  # A smaller network learns from `model`; another teacher can be given as `teacher:`."
    if model.residual is not None:
        student: dict[str, Any] = {
            **model.residual, "widths": [max(8, int(width) // 2) for width in model.residual["widths"]],
        }  # fmt: skip
        return [told, f"  - distill: {{student: {{residual: {_flow(student)}}}, epochs: 30}}"]
    size = _size(model, data) if not data.one_size else min(data.sides[0])
    if data.kind == "images" and size >= _SMALLEST_FOR_STUDENT and (model.source in ("timm", "hf") or model.side):
        return [told, f"  - distill: {{student: {{timm: {_STUDENT}}}, epochs: 30}}"]
    return [
        "  # To distil into a smaller network, name it here; which one is sensible the files do not tell:",
        "  # - distill: {student: {...}, epochs: 30}",
    ]


_REAL_LENGTHS = "  # `inputs: data` measures at the lengths that your texts have"


def _path(given: str, folder: Path) -> str:
    """A path from the file's folder, where it is below that or beside it; else the whole path."""
    if Path(given).is_absolute():
        return given
    return os.path.relpath(Path(given).absolute(), folder)


def _flow(value: Any) -> str:
    """Plain data as YAML on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("...").rstrip("\n")


def _said(label: str) -> str:
    """A label in a comment, which ends with its line; whatever else YAML cannot hold is escaped."""
    return _flow(" ".join(label.split()))
