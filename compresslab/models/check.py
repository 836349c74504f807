"""Whether a network fits a task, tried on real inputs before anything is spent on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from compresslab.digest import digest_file
from compresslab.errors import ModelError
from compresslab.measure.artifact import MANIFEST, read_manifest
from compresslab.models.hf_net import label_names

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from compresslab.candidate import TorchModel
    from compresslab.measure.preprocessing import Preprocessing

# Inputs may be off by this share of their deviation: another split of the same data gives slightly other means, which
# no network minds, but other data's are much further away.
_SAME_SCALE = 0.05
_SHOWN = 5

Floats: TypeAlias = "npt.NDArray[np.float64]"


def require_vocabulary(model: TorchModel, how: Preprocessing) -> None:
    """Checks that a network that reads texts has a row of its table for each id, and knows which is padding.

    Args:
        model: The network; of other samples than texts it is passed.
        how: How it reads.

    Raises:
        ModelError: The tokenizer is another network's.
    """
    if how.kind != "text":
        return
    table = embedding_table(model.module)
    remedy = "give the tokenizer that the network was trained with (`tokenizer`, or the tokenizer.json in its folder)"
    if table is not None and how.vocabulary > table.num_embeddings:
        raise ModelError(
            f"{type(model.module).__name__} knows {table.num_embeddings} tokens, but the tokenizer {how.file} has ids "
            f"up to {how.vocabulary - 1}; {remedy}"
        )
    config = None if model.builder is None else model.builder.get("config")
    padding = config.get("pad_token_id") if isinstance(config, dict) else how.pad_id
    if padding != how.pad_id:
        raise ModelError(
            f"{type(model.module).__name__} takes {padding} for padding, but texts are padded with {how.pad_id}; "
            f"{remedy}"
        )


def embedding_table(module: nn.Module) -> nn.Embedding | None:
    """The table of a network's tokens, where it can be told from others."""
    getter = getattr(module, "get_input_embeddings", None)
    found = getter() if callable(getter) else next((m for m in module.modules() if isinstance(m, nn.Embedding)), None)
    return found if isinstance(found, nn.Embedding) else None


def require_fit(model: TorchModel, inputs: npt.NDArray[Any], outputs: int | None) -> None:
    """Runs the network, in eval mode, on inputs [b, ...] of the task, which asks for so many outputs.

    None are embeddings, of any width.

    Raises:
        ModelError: It fails on them, or gives something else than finite numbers [b, outputs].
    """
    name = type(model.module).__name__
    was_training = model.module.training
    model.module.eval()
    try:
        with torch.inference_mode():
            answers = model.module(torch.from_numpy(inputs))
    except (
        RuntimeError,
        TypeError,
        ValueError,
        AttributeError,
        LookupError,
        AssertionError,
    ) as error:
        raise ModelError(f"{name} fails on inputs of shape {list(inputs.shape)}: {error}") from error
    finally:
        model.module.train(was_training)
    expected = (len(inputs), outputs or "width")
    if not isinstance(answers, Tensor):
        raise ModelError(f"{name} returns a {type(answers).__name__}; it must return one tensor {_shape(expected)}")
    if outputs is None:
        if answers.ndim != 2 or len(answers) != len(inputs):
            raise ModelError(
                f"{name} returns shape {list(answers.shape)} for {len(inputs)} inputs, but the task asks for an "
                f"embedding of each and needs {_shape(expected)}; pool the tokens or places of a sample"
            )
    elif tuple(answers.shape) != expected:
        asked = "asks for one number a sample" if outputs == 1 else f"has {outputs} labels"
        raise ModelError(
            f"{name} returns shape {list(answers.shape)} for {len(inputs)} inputs, but the task {asked} and needs "
            f"{_shape(expected)}{'; add `.unsqueeze(1)`' if outputs == 1 and answers.ndim == 1 else ''}"
        )
    if not torch.isfinite(answers).all():
        raise ModelError(f"{name} returns NaN or infinity on the task's own inputs; its weights are damaged")


def _shape(expected: Sequence[int | str]) -> str:
    return f"[{', '.join(map(str, expected))}]"


def require_same_task(checkpoint: Path, labels: Sequence[str], preprocessing: Preprocessing) -> None:
    """Compares what a checkpoint was trained for, as the manifest.json beside it says, with the task at hand.

    A network's outputs have the right shape whatever their order means, and it answers whatever it is fed: only the
    manifest tells that its answers are of something else. Without one there is nothing to compare.

    Args:
        checkpoint: The folder.
        labels: The task's, in order; empty where outputs are no classes.
        preprocessing: The task's.

    Raises:
        ModelError: Its labels, their order, or its preprocessing are not the task's.
        ArtifactError: The manifest is broken.
    """
    path = checkpoint / MANIFEST
    if not path.is_file():
        return
    manifest = read_manifest(path)
    _require_same_labels(checkpoint, manifest.labels, tuple(labels))
    differences = _differences(manifest.preprocessing.model_dump(), preprocessing.model_dump())
    if differences:
        raise ModelError(
            f"{checkpoint}: this network was trained on inputs that were prepared in another way: "
            f"{'; '.join(differences)}; set the task accordingly, or give a network that was trained for this task. To "
            "train this one anew on these inputs, give its weights.safetensors as `weights` instead of `checkpoint`"
        )


def require_same_export(file: Path, labels: Sequence[str], preprocessing: Preprocessing) -> None:
    """The same of an ONNX file, where the manifest beside it is of this very file.

    Raises:
        ModelError: As `require_same_task`.
        ArtifactError: The manifest is broken.
    """
    path = file.with_name(MANIFEST)
    if path.is_file() and any(info.sha256 == digest_file(file) for info in read_manifest(path).graphs.values()):
        require_same_task(file.parent, labels, preprocessing)


def require_same_names(model: TorchModel, labels: Sequence[str]) -> None:
    """Compares what a network of transformers' calls its outputs with the task's labels, where both have names.

    Args:
        model: The network; of any other library it is passed.
        labels: The task's, in order; their numbers alone are no names.

    Raises:
        ModelError: They are others, or in another order, apart from how they are written: `T-shirt` is `t_shirt`.
    """
    config = None if model.builder is None else model.builder.get("config")
    theirs = label_names(config) if isinstance(config, dict) else None
    if theirs is None or not labels or all(label == str(index) for index, label in enumerate(labels)):
        return
    if [_spelled(name) for name in theirs] == [_spelled(name) for name in labels]:
        return
    _require_same_labels("`id2label` of its configuration", theirs, tuple(labels))


def _spelled(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _require_same_labels(checkpoint: Path | str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    if tuple(theirs) == tuple(ours):
        return
    what = f"{checkpoint}: this network was trained for other labels than the task has"
    remedy = "give one that was trained for this task, or data with the same labels in the same order"
    if sorted(theirs) == sorted(ours):
        first = next(index for index, pair in enumerate(zip(theirs, ours, strict=True)) if pair[0] != pair[1])
        raise ModelError(
            f"{what}: they are the same in another order, in which output {first} is `{theirs[first]}`, but the task "
            f"has `{ours[first]}` there; {remedy}"
        )
    found = [f"{verb} {_named(names)}" for verb, names in (
        ("it has", [name for name in theirs if name not in ours]),
        ("it lacks", [name for name in ours if name not in theirs]),
    ) if names]  # fmt: skip
    raise ModelError(f"{what}: {' and '.join(found)}; {remedy}")


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """What sets two preprocessings apart, in words."""
    if theirs["kind"] != ours["kind"]:
        return [f"it reads {theirs['kind']}, but the task has {ours['kind']}"]
    scale = ("mean", "std")
    if ours["kind"] == "text":  # how much is read of a long text is not what a network was trained for
        words = {"sha256": "the tokenizer is another one", "pad_id": "texts are padded with another id"}
        return [said for name, said in words.items() if theirs[name] != ours[name]]
    told = [
        f"`{name}` was {theirs[name]}, but is {ours[name]}"
        for name in ours
        if name not in scale and theirs[name] != ours[name]
    ]
    if not told and not _same_scale(*(np.asarray(one[name], np.float64) for name in scale for one in (theirs, ours))):
        told = [
            f"`{name}` was {_short(theirs[name])}, but is {_short(ours[name])}"
            for name in scale
            if theirs[name] != ours[name]
        ]
    return told


def _same_scale(mean: Floats, our_mean: Floats, std: Floats, our_std: Floats) -> bool:
    """Whether inputs come out nearly alike, on average over channels or features."""
    if mean.shape != our_mean.shape:
        return False
    if not mean.size:
        return True
    shift, stretch = np.abs(mean - our_mean) / our_std, np.abs(np.log(std / our_std))
    return bool(shift.mean() <= _SAME_SCALE and stretch.mean() <= _SAME_SCALE)


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _short(values: Sequence[float]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:_SHOWN])
    return f"[{shown}{', ...' if len(values) > _SHOWN else ''}]"
