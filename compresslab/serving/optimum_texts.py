"""What transformers needs to know of a tokenizer.json to give the ids that a model was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compresslab.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.text_preprocessing import TextPreprocessing

TOKENIZER_CONFIG = "tokenizer_config.json"
IDS = "input_ids"


def require_padding(folder: Path, how: TextPreprocessing) -> str:
    """The token that texts are padded with, by which AutoTokenizer knows it.

    Raises:
        BadInput: The tokenizer has none of that id.
        DataError: The library `tokenizers` is not installed.
    """
    token: str | None = how.open_tokenizer().id_to_token(how.pad_id)
    if token is None:
        raise BadInput(
            f"{folder}: texts are padded with the id {how.pad_id}, but `{how.tokenizer}` has no token of that id, and "
            "AutoTokenizer pads with a token; use --format onnx"
        )
    return token


def tokenizer_config(folder: Path, how: TextPreprocessing) -> dict[str, Any]:
    """`tokenizer_config.json` that makes AutoTokenizer pad, and cut where it is asked to, as `how` does.

    Raises:
        BadInput: As `require_padding`.
    """
    return {
        # The plain one: those of an architecture add special tokens of their own to what the file says.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": how.max_length,
        "pad_token": require_padding(folder, how),
        # Said, as the padding and the truncation in tokenizer.json would be taken for these otherwise.
        "padding_side": "right",
        "truncation_side": "right",
        "model_input_names": [IDS],
        "clean_up_tokenization_spaces": False,
    }


def text_notes(folder: Path, how: TextPreprocessing) -> list[str]:
    """What AutoTokenizer does otherwise."""
    notes = []
    token = require_padding(folder, how)
    if how.pad_id not in how.open_tokenizer().get_added_tokens_decoder():
        notes.append(
            f"AutoTokenizer takes `{token}` for padding wherever it stands, also inside a text, where "
            f"`{how.tokenizer}` alone reads it as any other"
        )
    if not how.truncate:
        notes.append(
            f"`truncation=True` cuts texts of more than {how.max_length} tokens, which the task refused "
            "(`too_long: error`)"
        )
    return notes
