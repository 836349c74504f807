"""A tower of a dual encoder that is there, as a model: its network, and how it reads texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compresslab.candidate import TorchModel
from compresslab.models.builder import HfBuilder
from compresslab.models.hf_net import open_hf, read_config, transformers_version
from compresslab.models.hf_towers import HfTower, is_dual
from compresslab.models.text_reading import tower_reading

if TYPE_CHECKING:
    from compresslab.models.signature import Signature


def is_dual_encoder(source: str) -> bool:
    """Whether the folder, or name on the hub, is of a network for images and texts.

    Raises:
        ModelError: As `read_config`.
    """
    return is_dual(read_config(source))


def open_tower(source: str, signature: Signature) -> TorchModel:
    """The tower that reads what the task has, with its projection, in eval mode; its embeddings have length one.

    Args:
        source: A folder that `save_pretrained` wrote, or a name on the hub.
        signature: Of the task.

    Raises:
        ModelError: As `open_hf`; the folder is of one network, or of a kind that is not known; or its tokenizer is
            missing, or another network's.
    """
    tower: HfTower = "image-tower" if signature.reads == "images" else "text-tower"
    module, config = open_hf(source, tower)
    own = None
    if tower == "text-tower":
        reading = tower_reading(source)
        assert reading is not None, "it was opened as one"
        config["pad_token_id"] = reading.pad_id
        own = reading.preprocessing()
    builder = HfBuilder(task=tower, config=config, version=transformers_version())
    return TorchModel(module.eval(), builder.plain(), preprocessing=own)
