"""The two towers of a dual encoder that transformers keeps in one folder, each as a network of its own.

What a folder calls its own is not always so: OpenAI's have ids of the end and of the padding in their configuration
that their tokenizer does not have. Texts are therefore read as the tokenizer beside the weights reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeGuard, get_args

from torch import Tensor, nn
from torch.nn import functional

from compresslab.errors import ModelError
from compresslab.models.libraries import library, quiet

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

HfTower = Literal["image-tower", "text-tower"]
"""Reads images, float32 [b, c, h, w], or ids of tokens, int64 [b, seq]; answers with embeddings of length one."""

# Of each type: where the configuration of a tower is, what its type is by itself, and the class that embeds with it.
_SPLIT: Mapping[str, Mapping[HfTower, tuple[str, str, str]]] = {
    "clip": {
        "image-tower": ("vision_config", "clip_vision_model", "CLIPVisionModelWithProjection"),
        "text-tower": ("text_config", "clip_text_model", "CLIPTextModelWithProjection"),
    }
}
_CLASSES = {kind: name for towers in _SPLIT.values() for _, kind, name in towers.values()}
# Configurations from before transformers 4.31 say so whatever the end is, and mean the largest id of a text.
_LARGEST = 2


class EmbeddingOfImages(nn.Module):
    """The image tower of CLIP: its first hidden state, projected."""

    def forward(self, pixel_values: Tensor) -> Tensor:
        """float32 [b, width] of images [b, c, h, w]."""
        return functional.normalize(super().forward(pixel_values=pixel_values, return_dict=True).image_embeds, dim=-1)


class EmbeddingOfIds(nn.Module):
    """The text tower of CLIP: the hidden state at the end of a text, projected.

    No token sees those behind it, so what stands behind the end of a text changes nothing, and needs no mask.
    """

    def forward(self, input_ids: Tensor) -> Tensor:
        """float32 [b, width] of ids [b, seq]."""
        return functional.normalize(super().forward(input_ids=input_ids, return_dict=True).text_embeds, dim=-1)


def is_tower(task: str) -> TypeGuard[HfTower]:
    """Whether a task of a network of transformers' is that of a tower."""
    return task in get_args(HfTower)


def is_dual(config: Mapping[str, Any]) -> bool:
    """Whether a configuration, as `hf_net.read_config` gives it, is of a network for texts and images."""
    return isinstance(config.get("text_config"), dict) and isinstance(config.get("vision_config"), dict)


def tower_config(source: str, config: Mapping[str, Any], tower: HfTower) -> dict[str, Any]:
    """The configuration that builds one tower by itself.

    Args:
        source: What to call the folder in errors.
        config: Of the whole.
        tower: Which.

    Raises:
        ModelError: It is of one network, or of a kind whose towers are not known.
    """
    kind = str(config["model_type"])
    if not is_dual(config):
        raise ModelError(
            f"{source}: is a `{kind}`, one network, and images and texts in one space need two; give the folder of a "
            f"{_names()}, or a network for each: `model: {{image: ..., text: ...}}`"
        )
    if kind not in _SPLIT:
        raise ModelError(
            f"{source}: is a `{kind}`, and only the towers of {_names()} are taken apart: others pool, tokenise or "
            "mask in ways of their own; give each tower by a `python` function, as `model: {image: ..., text: ...}`"
        )
    place, own_kind, _ = _SPLIT[kind][tower]
    inner: dict[str, Any] = dict(config[place])
    # What the whole says holds for both; towers saved with it repeat a default there.
    return {**inner, "model_type": own_kind, "projection_dim": config["projection_dim"]}


def tower_class(config: Any) -> Any:
    """The class of the library for a tower's configuration."""
    with quiet():  # the modules of networks are imported now
        return getattr(library("transformers"), _CLASSES[config.model_type])


def ends_of_texts(source: str, config: Mapping[str, Any], tokenizer: Path | None) -> tuple[int, int]:
    """The ids that begin and end every text.

    The one that begins them is also what shorter texts are filled up with here: it stands nowhere else in a text, where
    the end, which CLIP's tokenizer pads with, could not be told from padding.

    Args:
        source: What to call the folder in errors.
        config: Of the text tower.
        tokenizer: The tokenizer.json beside it.

    Raises:
        ModelError: There is none, or it is another network's: the embedding is what the network says at the end.
    """
    if tokenizer is None:
        raise ModelError(
            f"{source}: has no tokenizer.json, which says where a text ends, and there the network's answer is; write "
            f'it: `CLIPTokenizerFast.from_pretrained("{source}").save_pretrained("{source}")` of transformers'
        )
    from tokenizers import Tokenizer

    try:
        opened = Tokenizer.from_file(str(tokenizer))
    except ValueError as error:
        raise ModelError(f"{tokenizer}: cannot be read as a tokenizer ({error}); copy it again") from error
    opened.no_padding()
    around = opened.encode("").ids
    if len(around) != 2:
        raise ModelError(
            f"{tokenizer}: puts {len(around)} tokens around a text where CLIP's puts one before and one behind it; "
            "copy it from where the weights are from"
        )
    begin, end = around
    wanted = config.get("eos_token_id")
    largest = max(opened.get_vocab(with_added_tokens=True).values())
    if end != (largest if wanted == _LARGEST else wanted):
        asked = f"the largest id, {largest}" if wanted == _LARGEST else f"{wanted} (`eos_token_id`)"
        raise ModelError(
            f"{tokenizer}: ends texts with id {end}, but the network looks for {asked}: it is not this network's "
            "tokenizer; copy both from one place"
        )
    return begin, end


def renumbered(builder: Mapping[str, Any], module: nn.Module, kept: Sequence[int]) -> Mapping[str, Any]:
    """What builds a text tower whose table has rows `kept` alone: its end and its padding have other ids then.

    Args:
        builder: What built it; of any other network it comes back as it is.
        module: The tower, which is told its end in place.
        kept: For each new id the old one, in ascending order.
    """
    if builder.get("task") != "text-tower":
        return builder
    config = dict(builder["config"])
    names = ["pad_token_id"]
    if config["eos_token_id"] != _LARGEST:  # the largest of all stays that
        names.append("eos_token_id")
    for name in names:
        config[name] = kept.index(config[name])
    inside: Any = module.get_submodule("text_model")
    inside.eos_token_id = config["eos_token_id"]
    return {**builder, "config": config}


def _names() -> str:
    return ", ".join(f"`{kind}`" for kind in _SPLIT)
