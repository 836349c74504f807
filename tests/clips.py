"""Tiny CLIPs with weights of their own, and a tokenizer of CLIP's kind that is trained on the spot; all offline."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def save_clip_tokenizer(folder: Path, texts: Iterable[str], merges: int = 120) -> int:
    """As `CLIPTokenizerFast.save_pretrained` leaves it; returns how many tokens there are, the last of them the end."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = None
    trained.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(alphabet) + merges, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    learned = json.loads(trained.to_str())["model"]["merges"]
    pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in learned]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet), *("".join(pair) for pair in pairs), BEGIN, END]
    folder.mkdir(parents=True, exist_ok=True)
    numbered = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    transformers.CLIPTokenizerFast(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=24
    ).save_pretrained(folder)
    return len(numbered)


def save_clip(
    folder: Path,
    texts: Iterable[str],
    *,
    layers: int = 2,
    side: int = 32,
    legacy: bool = False,
    seed: int = 0,
    hidden: int = 32,
) -> Path:
    """A folder as `save_pretrained` leaves it: weights, tokenizer, image processor.

    Args:
        folder: Made if it is not there.
        texts: The tokenizer is trained on them.
        layers: Of each tower; that of images has no more than three.
        side: Of its images.
        legacy: Whether the configuration has the ids that OpenAI's have, which their tokenizer does not.
        seed: Of the weights.
        hidden: Width of the hidden states; embeddings have half of it.
    """
    import torch
    import transformers

    from tests.torchvision_operators import define

    define()
    tokens = save_clip_tokenizer(folder, texts)
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    if not legacy:
        ids = {"bos_token_id": tokens - 2, "eos_token_id": tokens - 1, "pad_token_id": tokens - 1}
    sizes = {
        "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "num_attention_heads": 4,
    }  # fmt: skip
    config = transformers.CLIPConfig(
        text_config={**sizes, **ids, "vocab_size": tokens, "max_position_embeddings": 24},
        vision_config={**sizes, "num_hidden_layers": min(layers, 3), "image_size": side, "patch_size": side // 4},
        projection_dim=hidden // 2,
    )
    torch.manual_seed(seed)
    network = transformers.CLIPModel(config)
    # As they are drawn, all texts and all images come out nearly alike.
    for name, weight in network.named_parameters():
        if weight.ndim == 2:
            weight.data.mul_(4 if "projection" not in name else 1)
    network.save_pretrained(folder)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}
    ).save_pretrained(folder)
    return folder
