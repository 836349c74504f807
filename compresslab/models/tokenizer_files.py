"""What the files beside a tokenizer.json say of it: by which token texts are padded, and whether all are of one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresslab.errors import ModelError
from compresslab.models.json_file import read_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

_SPECIAL = ("cls_token", "sep_token", "unk_token")
# Some spell a token anew that nothing used; another vocabulary has nearly all ids otherwise.
_ANOTHER = 0.05


def padding_of(tokenizer: Path) -> int | None:
    """The id by which texts are padded, as the files say; None where they do not.

    Raises:
        ModelError: A file is damaged.
    """
    plain = read_keys(tokenizer)
    padding = plain.get("padding")
    padding = padding if isinstance(padding, dict) else {}
    name = _named(tokenizer).get("pad_token", padding.get("pad_token"))
    return _added(plain).get(str(name), padding.get("pad_id"))


def require_own_tokenizer(where: str, tokenizer: Path, pad_id: int | None) -> None:
    """Refuses a tokenizer.json that is another network's, as far as the files beside it tell.

    Args:
        where: What to call the network.
        tokenizer: The file.
        pad_id: By which the network's configuration says that texts are padded; None where it does not.

    Raises:
        ModelError: Padding has another id, a special token is not in it, or vocab.txt numbers the tokens otherwise.
    """
    remedy = "the tokenizer is not this network's; copy both from one place"
    found = padding_of(tokenizer)
    if found is not None and pad_id is not None and found != pad_id:
        raise ModelError(
            f"{where}: its tokenizer pads with id {found}, but config.json says {pad_id} (`pad_token_id`): {remedy}"
        )
    vocabulary = _vocabulary(tokenizer)
    for key, token in _named(tokenizer).items():
        if vocabulary and key in _SPECIAL and token not in vocabulary:
            raise ModelError(
                f"{tokenizer}: has no `{token}`, which tokenizer_config.json beside it names as `{key}`: they are not "
                "of one tokenizer; copy both from where the network is from"
            )
    listed = tokenizer.with_name("vocab.txt")
    if not vocabulary or not listed.is_file():
        return
    lines = listed.read_text(encoding="utf-8", errors="replace").removesuffix("\n").split("\n")
    others = [(token, number) for number, token in enumerate(lines) if vocabulary.get(token) != number]
    if len(others) > _ANOTHER * len(lines):
        token, number = others[0]
        raise ModelError(
            f"{tokenizer}: numbers {len(others)} of {len(lines)} tokens otherwise than vocab.txt beside it (`{token}` "
            f"is {number} there and {vocabulary.get(token, 'missing')} here): they are not of one tokenizer; copy both "
            "from where the network is from, or delete the one that is not its own"
        )


def _vocabulary(tokenizer: Path) -> dict[str, int]:
    """The id of every token; empty of kinds that do not number them by name."""
    plain = read_keys(tokenizer)
    model = plain.get("model")
    vocab = model.get("vocab") if isinstance(model, dict) else None
    return {**vocab, **_added(plain)} if isinstance(vocab, dict) else {}


def _added(plain: Mapping[str, Any]) -> dict[str, int]:
    return {str(token["content"]): int(token["id"]) for token in plain.get("added_tokens") or ()}


def _named(tokenizer: Path) -> dict[str, str]:
    """Special tokens by what tokenizer_config.json calls them."""
    path = tokenizer.with_name("tokenizer_config.json")
    found = read_keys(path) if path.is_file() else {}
    named = {key: one.get("content") if isinstance(one, dict) else one for key, one in found.items()}
    return {key: one for key, one in named.items() if key.endswith("_token") and isinstance(one, str)}
