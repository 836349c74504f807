"""Networks of transformers': one tensor in, logits or hidden states out, under the names that the library gives.

They are built from their configuration, and their weights come from safetensors alone; no code but the library's own is
run, whatever a configuration names.
"""

from __future__ import annotations

import json
from functools import cache
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from compresslab.errors import ModelError, did_you_mean
from compresslab.hub import reachable
from compresslab.models.hf_towers import (
    EmbeddingOfIds,
    EmbeddingOfImages,
    HfTower,
    is_dual,
    is_tower,
    tower_class,
    tower_config,
)
from compresslab.models.libraries import broken, library, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping

HfTask = Literal["image-classification", "text-classification", "feature-extraction"] | HfTower
"""Reads images, float32 [b, c, h, w]; or ids of tokens, int64 [b, seq]; `feature-extraction` answers with hidden
states, a tower of a dual encoder with embeddings."""

_MAPPINGS = {
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "feature-extraction": "MODEL_MAPPING",
}
# Where a network came from, and how it was kept, is no part of what it is.
_NOT_STRUCTURE = (
    "_name_or_path", "_commit_hash", "transformers_version", "dtype", "torch_dtype", "attn_implementation",
    "_attn_implementation", "_attn_implementation_internal",
)  # fmt: skip
# These would run other code, or fetch weights while the network is built.
_REFUSED = {
    "auto_map": "names code of its own, which is not run; build the network by a `python` function if you trust it",
    "quantization_config": "is of a quantized network; give the one in float that it was made from",
    "use_pretrained_backbone": "would fetch the weights of its backbone; give a configuration that is complete",
}
_SHOWN = 3


class _LogitsOfImages(nn.Module):
    def forward(self, pixel_values: Tensor) -> Tensor:
        logits: Tensor = super().forward(pixel_values=pixel_values, return_dict=True).logits
        return logits


class _LogitsOfIds(nn.Module):
    def forward(self, input_ids: Tensor) -> Tensor:
        padding: int | None = self.config.pad_token_id  # type: ignore[union-attr, assignment]
        mask = None if padding is None else torch.ne(input_ids, padding).long()
        found = super().forward(input_ids=input_ids, attention_mask=mask, return_dict=True)
        logits: Tensor = found.logits
        return logits


class _StatesOfIds(nn.Module):
    def __init__(self, config: Any) -> None:
        # A pooler that BERT has beside its hidden states was trained for another task, and nothing here reads it.
        heads = {"add_pooling_layer": False} if "add_pooling_layer" in _parameters(type(self).__mro__) else {}
        super().__init__(config, **heads)

    def forward(self, input_ids: Tensor) -> Tensor:
        padding: int | None = self.config.pad_token_id  # type: ignore[union-attr, assignment]
        mask = None if padding is None else torch.ne(input_ids, padding).long()
        states: Tensor = super().forward(input_ids=input_ids, attention_mask=mask, return_dict=True).last_hidden_state
        return states


def require_own_code(config: Mapping[str, Any]) -> None:
    """Checks that a configuration is of a network that the library itself can build, without fetching anything.

    Raises:
        ValueError: It is not; the message says why.
    """
    if not isinstance(config.get("model_type"), str):
        raise ValueError("the configuration has no `model_type`, so nothing says which network it is of")
    if config["model_type"] == "timm_wrapper":
        raise ValueError("this is a network of timm's; give its name by `timm`, and its weights by `weights`")
    for key, why in _REFUSED.items():
        if any(one.get(key) for one in _nested(config)):
            raise ValueError(f"the configuration {why} (`{key}`)")


def transformers_version() -> str:
    """The version that is installed.

    Raises:
        ModelError: transformers is not installed, or does not work here.
    """
    return str(library("transformers").__version__)


def build_hf(task: HfTask, config: Mapping[str, Any]) -> nn.Module:
    """A network with new weights, float32. Padding is left out of the attention where ids are read.

    Args:
        task: What it reads.
        config: What `read_config` returned.

    Raises:
        ModelError: transformers is missing, cannot build it, or knows no such network for the task.
    """
    settings = _configuration(config)
    kind = _answering(_class_of(task, settings), task)
    try:
        with quiet():
            module = kind._from_config(settings)
    except (TypeError, ValueError, RuntimeError, AttributeError, LookupError, ImportError) as error:
        raise ModelError(f"transformers cannot build {kind.__name__} from its configuration: {error}") from error
    assert isinstance(module, nn.Module)
    return module.float()


def open_hf(source: str, task: HfTask, new_outputs: int | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """A network with its weights, float32, and the configuration that builds it again.

    Args:
        source: A folder that `save_pretrained` wrote, or a name on the hub.
        task: What it reads.
        new_outputs: So many outputs get a new head, drawn from torch's generator, whatever the network had before;
            None keeps its own.

    Raises:
        ModelError: It cannot be found or fetched, has no safetensors, lacks weights, or is for another task.
    """
    config = read_config(source)
    if is_tower(task):
        config = _structure(tower_config(source, config, task))
    if new_outputs is not None:
        names = {str(index): f"LABEL_{index}" for index in range(new_outputs)}
        config |= {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}
    kind = _answering(_class_of(task, _configuration(config)), task)
    try:
        with quiet():
            module, found = kind.from_pretrained(
                source, config=_configuration(config), use_safetensors=True, trust_remote_code=False,
                output_loading_info=True, ignore_mismatched_sizes=new_outputs is not None,
                local_files_only=_is_local(source),
            )  # fmt: skip
    except OSError as error:
        raise _unreadable(source, error, "with its weights as model.safetensors, as no other format is read") from error
    except SafetensorError as error:
        raise ModelError(f"{source}: its weights are damaged or truncated ({error}); copy them again") from error
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{source}: its weights do not fit its configuration: {_line(error)}") from error
    lacking = sorted(found["missing_keys"])
    if new_outputs is not None:
        lacking = [name for name in lacking if name.startswith(f"{kind.base_model_prefix}.")]
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        remedy = f"train it for {task.replace('-', ' ')} first"
        if is_dual(config):
            remedy = (
                "it embeds images and texts in one space: give it to a `cross_modal` task, or give it a head for this "
                "one with `head: new` and a `train` stage"
            )
        raise ModelError(
            f"{source}: has no weights for {', '.join(f'`{name}`' for name in lacking[:_SHOWN])}{more}, which "
            f"{kind.__name__} needs; {remedy}"
        )
    return module.float(), config


def read_config(source: str) -> dict[str, Any]:
    """The configuration as plain data.

    Args:
        source: A folder that `save_pretrained` wrote, or a name on the hub.

    Raises:
        ModelError: There is none, or `require_own_code` refuses it.
    """
    transformers = library("transformers")
    if _is_path(source) and not Path(source).is_dir():
        raise ModelError(f"{source}: there is no such folder; give one that `save_pretrained` wrote")
    try:
        # As it lies there, and not as a class of the library reads it, which would drop what it does not know.
        plain, _ = transformers.PretrainedConfig.get_config_dict(source, local_files_only=_is_local(source))
        if not plain:
            raise _unreadable(source, OSError("it has no config.json"), "with a config.json")
        require_own_code(plain)
    except OSError as error:
        raise _unreadable(source, error, "with a config.json") from error
    except ValueError as error:
        raise ModelError(f"{source}: {error}") from error
    return _structure(json.loads(_configuration(plain).to_json_string(use_diff=False)))


def fetched(source: str, name: str) -> Path | None:
    """A file of a folder that `save_pretrained` wrote, or of a name on the hub; None where there is none."""
    if Path(source).is_dir():
        file = Path(source, name)
        return file if file.is_file() else None
    library("transformers")
    from transformers.utils.hub import cached_file

    try:
        found = cached_file(
            source, name, _raise_exceptions_for_missing_entries=False, local_files_only=_is_local(source)
        )
    except OSError as error:
        raise _unreadable(source, error, f"with its {name}") from error
    return None if found is None else Path(found)


def label_names(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The names of the outputs, in order; None where the configuration only has placeholders."""
    names = config.get("id2label")
    if not isinstance(names, dict) or sorted(map(str, names)) != sorted(str(index) for index in range(len(names))):
        return None
    ordered = {int(index): str(name) for index, name in names.items()}
    if all(name == f"LABEL_{index}" for index, name in ordered.items()):
        return None
    return tuple(ordered[index] for index in range(len(ordered)))


def _structure(config: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in _NOT_STRUCTURE}


def _configuration(plain: Mapping[str, Any]) -> Any:
    transformers = library("transformers")
    known = transformers.CONFIG_MAPPING
    kind = plain["model_type"]
    if kind not in known:
        raise ModelError(
            f"transformers {transformers.__version__} knows no network of the type `{kind}`"
            f"{did_you_mean(kind, list(known.keys()))}; install a version that does, or, where the network has code of "
            "its own that you trust, build it by a `python` function"
        )
    try:
        return known[kind].from_dict({key: value for key, value in plain.items() if key not in _NOT_STRUCTURE})
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ModelError(f"transformers cannot read this configuration of the type `{kind}`: {error}") from error
    except (ImportError, RuntimeError) as error:
        raise broken("transformers", error) from error


def _class_of(task: HfTask, config: Any) -> Any:
    """The class of the library that does the task with such a configuration."""
    transformers = library("transformers")
    try:
        if is_tower(task):
            return tower_class(config)
        with quiet():  # the modules of networks are imported now
            found = getattr(transformers, _MAPPINGS[task])[type(config)]
    except KeyError as error:
        raise ModelError(
            f"transformers has no network of the type `{config.model_type}` for {task.replace('-', ' ')}"
        ) from error
    except (ImportError, RuntimeError) as error:
        raise broken("transformers", error) from error
    kinds = found if isinstance(found, tuple) else (found,)
    named = config.architectures or ()
    return next((kind for kind in kinds if kind.__name__ in named), kinds[0])


@cache
def _answering(kind: Any, task: HfTask) -> Any:
    """The class, answering with logits alone. Derived, as a module around it would change the names of all layers."""
    answers = {
        "image-classification": _LogitsOfImages,
        "text-classification": _LogitsOfIds,
        "feature-extraction": _StatesOfIds,
        "image-tower": EmbeddingOfImages,
        "text-tower": EmbeddingOfIds,
    }[task]
    return type(kind.__name__, (answers, kind), {"__module__": __name__})


def _parameters(bases: tuple[type, ...]) -> set[str]:
    """Of the library's own constructor, which comes right behind ours."""
    own = next(index for index, base in enumerate(bases) if base is _StatesOfIds)
    return set(signature(bases[own + 1].__init__).parameters)  # type: ignore[misc]


def _nested(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inner = [value for value in config.values() if isinstance(value, dict)]
    return [config, *(one for value in inner for one in _nested(value))]


def _is_path(source: str) -> bool:
    return source.startswith((".", "/", "~")) or source.count("/") > 1


def _is_local(source: str) -> bool:
    """Whether only this machine is asked: of a folder, and where the hub cannot be reached."""
    return Path(source).is_dir() or not reachable()


def _unreadable(source: str, error: OSError, what: str) -> ModelError:
    if Path(source).is_dir():
        return ModelError(
            f"{source}: cannot be read: {_line(error)}; give a folder that `save_pretrained` wrote, {what}"
        )
    return ModelError(
        f"{source}: there is no such folder, and it cannot be had from the Hugging Face hub: {_line(error)}; where "
        f"there is no network, fetch it elsewhere (`hf download {source} --local-dir FOLDER`) and give the folder, "
        f"{what}"
    )


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
