"""A tokenizer with fewer tokens, which can still spell whatever the whole one could."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from compresslab.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Counts = npt.NDArray[np.int64]

_CHUNK = 4096

_TRIMMED = ("WordPiece", "BPE", "Unigram")


@dataclass(frozen=True)
class Trimmed:
    """What is left of a vocabulary.

    Args:
        tokenizer: The new tokenizer.json.
        kept: For each new id, the old one [n]; in ascending order.
    """

    tokenizer: str
    kept: Counts


def counted(tokens: Iterable[Sequence[int] | npt.NDArray[np.integer[Any]]], size: int) -> Counts:
    """How often each id occurs [size].

    Args:
        tokens: The ids of each text.
        size: How many ids there are.

    Raises:
        ModelError: An id is not below `size`: the tokenizer is another network's.
    """
    counts = np.zeros(size, np.int64)
    given = iter(tokens)
    # Not text by text: every count is as long as the vocabulary.
    while part := list(islice(given, _CHUNK)):
        found = np.bincount(np.concatenate(part).astype(np.int64), minlength=size)
        if len(found) > size:
            raise ModelError(
                f"the tokenizer gives id {len(found) - 1}, but the network has {size} embeddings: it is not this "
                "network's tokenizer"
            )
        counts += found
    return counts


def trim(tokenizer: str, counts: Counts, min_count: int) -> Trimmed:
    """Keeps the tokens that occur often enough, special ones, and all single characters.

    A text all of whose tokens stay is tokenised as before. Of WordPiece: a word whose token is gone is spelled by
    longest pieces that are left. Of BPE a token stays with all that it is merged from, so that no merge which a kept
    token needs is lost; of Unigram the best path through kept pieces is the best one still.

    Args:
        tokenizer: A tokenizer.json.
        counts: How often each of its ids occurs.
        min_count: What is often enough.

    Raises:
        ModelError: It is no tokenizer, or of a model whose vocabulary cannot be cut.
    """
    try:
        plain: dict[str, Any] = json.loads(tokenizer)
        model: dict[str, Any] = plain["model"]
        kind = model.get("type") or ("BPE" if "merges" in model else None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"this is no tokenizer.json: {error}") from error
    if kind not in _TRIMMED:
        raise ModelError(
            f"the vocabulary of a `{kind}` tokenizer cannot be trimmed, only that of {', '.join(_TRIMMED)}; leave "
            "`vocabulary` out"
        )
    special = {str(token["content"]): int(token["id"]) for token in plain.get("added_tokens") or ()}
    vocab = _vocabulary(model, kind)
    always = {*special, str(model.get("unk_token")), *_spelling(model, kind, vocab)}
    often = {token for token, index in vocab.items() if index < len(counts) and counts[index] >= min_count}
    staying = often | (always & set(vocab))
    if kind == "BPE":
        staying = _with_parts(staying, vocab, model.get("merges") or (), _joined(model))
    kept = sorted({vocab[token] for token in staying} | set(special.values()))
    new = {old: index for index, old in enumerate(kept)}
    _renumber(plain, model, kind, staying, vocab, new)
    return Trimmed(json.dumps(plain, ensure_ascii=False, separators=(",", ":")), np.array(kept, np.int64))


def _vocabulary(model: Mapping[str, Any], kind: str) -> dict[str, int]:
    if kind == "Unigram":
        return {piece: index for index, (piece, _) in enumerate(model["vocab"])}
    return {str(token): int(index) for token, index in model["vocab"].items()}


def _spelling(model: Mapping[str, Any], kind: str, vocab: Iterable[str]) -> set[str]:
    """Tokens of one character, at the start of a word and inside it; and those of single bytes."""
    before = str(model.get("continuing_subword_prefix") or ("##" if kind == "WordPiece" else ""))
    behind = str(model.get("end_of_word_suffix") or "")
    found = {token for token in vocab if len(token.removeprefix(before).removesuffix(behind)) <= 1}
    if model.get("byte_fallback"):
        found |= {f"<0x{byte:02X}>" for byte in range(256)}
    return found


def _joined(model: Mapping[str, Any]) -> Callable[[str, str], str]:
    prefix = str(model.get("continuing_subword_prefix") or "")
    return lambda left, right: left + right.removeprefix(prefix)


def _pair(merge: Any) -> tuple[str, str]:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _with_parts(
    staying: set[str], vocab: Mapping[str, int], merges: Sequence[Any], joined: Callable[[str, str], str]
) -> set[str]:
    """These tokens and all that they may be merged from."""
    parts: dict[str, list[str]] = {}
    for left, right in map(_pair, merges):
        parts.setdefault(joined(left, right), []).extend((left, right))
    closed, waiting = set(staying), list(staying)
    while waiting:
        for part in parts.get(waiting.pop(), ()):
            if part in vocab and part not in closed:
                closed.add(part)
                waiting.append(part)
    return closed


def _renumber(
    plain: dict[str, Any], model: dict[str, Any], kind: str, staying: set[str], vocab: Mapping[str, int],
    new: Mapping[int, int],
) -> None:  # fmt: skip
    """Gives every place that names a token or its id the new one, in place."""
    if kind == "Unigram":
        order = sorted(new)
        if order[-1] >= len(model["vocab"]):
            order = [old for old in order if old < len(model["vocab"])]
        model["vocab"] = [model["vocab"][old] for old in order]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[int(model["unk_id"])]
    else:
        model["vocab"] = {token: new[vocab[token]] for token in sorted(staying, key=vocab.__getitem__)}
    if kind == "BPE":
        joined = _joined(model)
        model["merges"] = [
            merge for merge in model.get("merges") or ()
            if {*_pair(merge), joined(*_pair(merge))} <= staying
        ]  # fmt: skip
    for token in plain.get("added_tokens") or ():
        token["id"] = new[int(token["id"])]
    if isinstance(plain.get("padding"), dict) and int(plain["padding"]["pad_id"]) in new:
        plain["padding"]["pad_id"] = new[int(plain["padding"]["pad_id"])]
    _renumber_processor(plain.get("post_processor"), new)


def _renumber_processor(processor: Any, new: Mapping[int, int]) -> None:
    """[CLS] and its kin are written into the post-processor by id."""
    if not isinstance(processor, dict):
        return
    for inner in processor.get("processors") or ():
        _renumber_processor(inner, new)
    for end in ("sep", "cls"):
        if isinstance(processor.get(end), list):
            name, old = processor[end]
            processor[end] = [name, new[int(old)]]
    if isinstance(processor.get("special_tokens"), dict):
        for token in processor["special_tokens"].values():
            token["ids"] = [new[int(old)] for old in token["ids"]]
