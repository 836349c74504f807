"""Generated sentences, a tokenizer trained on them, and tiny networks of transformers' that read them; all offline."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np

QUEUES = ("billing", "delivery", "login")
_WORDS = {
    "billing": ("invoice", "charge", "refund", "payment", "receipt", "amount"),
    "delivery": ("parcel", "courier", "shipping", "address", "late", "package"),
    "login": ("password", "account", "locked", "reset", "code", "email"),
}
_OTHERS = ("please", "help", "with", "my", "the", "since", "today", "again", "thanks", "about", "could", "you")


def sentences(count: int, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of 3 to 20 words and their queues; each text has two words of its queue, and no two are the same."""
    random = np.random.default_rng(seed)
    texts, labels = {}, []
    while len(texts) < count:
        queue = QUEUES[len(texts) % len(QUEUES)]
        words = [*random.choice(_WORDS[queue], 2), *random.choice(_OTHERS, random.integers(1, 19))]
        random.shuffle(words)
        text = " ".join(words)
        if text not in texts:
            texts[text] = None
            labels.append(queue)
    return list(texts), labels


def train_tokenizer(folder: Path, vocabulary: int = 300, pad_first: bool = True) -> Path:
    """A WordPiece tokenizer as tokenizer.json; with `pad_first` off, its ids are others."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    order = special if pad_first else special[::-1]
    trainer = trainers.WordPieceTrainer(vocab_size=vocabulary, special_tokens=order, show_progress=False)
    tokenizer.train_from_iterator(sentences(300, seed=9)[0], trainer)
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=list(ids.items())
    )
    # As transformers saves it: our own padding and truncation must not depend on these.
    tokenizer.enable_padding(pad_id=0, length=40)
    tokenizer.enable_truncation(5)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"


def write_csv(path: Path, texts: list[str], labels: list, columns: tuple[str, str] = ("body", "queue")) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *columns])
        writer.writerows([number, *row] for number, row in enumerate(zip(texts, labels, strict=True)))
    return path


def save_distilbert(
    folder: Path,
    labels: tuple[str, ...] | None = QUEUES,
    positions: int = 64,
    seed: int = 0,
    vocabulary: int = 300,
    table: int | None = None,
) -> Path:
    """A tiny DistilBERT with its tokenizer, as `save_pretrained` leaves it.

    Without labels it gives one number. `table` is how many tokens it knows, if not as many as the tokenizer has.
    """
    import torch
    import transformers

    from tests.torchvision_operators import define

    define()
    tokenizer = train_tokenizer(folder, vocabulary)
    size = table or len(json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"])
    names = {"num_labels": 1}
    if labels is not None:
        names = {"id2label": dict(enumerate(labels)), "label2id": {name: index for index, name in enumerate(labels)}}
    config = transformers.DistilBertConfig(
        vocab_size=size, dim=32, hidden_dim=64, n_layers=2, n_heads=2, max_position_embeddings=positions,
        pad_token_id=0, dropout=0.0, attention_dropout=0.0, seq_classif_dropout=0.0, **names,
    )  # fmt: skip
    torch.manual_seed(seed)
    transformers.DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def save_graph(path: Path, names: tuple[str, ...]) -> None:
    """An ONNX file with three outputs of the mean of `ids`, whatever its other inputs are."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axis"], ["mean"], keepdims=1),
        helper.make_node("MatMul", ["mean", "weight"], ["out"]),
    ]
    taken = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"]) for name in names]
    given = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["batch", 3])]
    weights = [
        numpy_helper.from_array(np.ones((1, 3), np.float32), "weight"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    made = helper.make_graph(nodes, "net", taken, given, weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
