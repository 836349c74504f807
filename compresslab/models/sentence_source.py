"""Sentence encoders that are there: directories of sentence-transformers, and bare networks of transformers'."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.measure.text_preprocessing import TOKENIZER, TextPreprocessing
from compresslab.models.builder import SentenceBuilder
from compresslab.models.hf_net import fetched, open_hf, transformers_version
from compresslab.models.json_file import read_json
from compresslab.models.sentence_net import Activation, DenseLayer, Pooling, SentenceEncoder
from compresslab.models.tokenizer_files import padding_of, require_own_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

_MODULES = "modules.json"
_DEFAULT_LENGTH = 512
_KNOWN = ("Transformer", "Pooling", "Dense", "Normalize")
_POOLINGS: Mapping[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max",
}  # fmt: skip
_ACTIVATIONS: Mapping[str, Activation] = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu"}


@dataclass(frozen=True)
class OpenedEncoder:
    """A sentence encoder with its weights, and what it reads by.

    Args:
        module: In eval mode.
        config: Of its transformer.
        dense: The layers behind its pooling.
        tokenizer: The tokenizer.json that it was trained with; None where there is none beside it.
        max_length: Tokens that it reads of a text, those that every text gets included; None where nothing says.
    """

    module: SentenceEncoder
    config: dict[str, Any]
    dense: tuple[DenseLayer, ...]
    tokenizer: Path | None
    max_length: int | None

    def model(self) -> TorchModel:
        """The encoder as a model that is built again, which reads by its own tokenizer where it has one.

        Raises:
            DataError: The library `tokenizers` is not installed.
            ArtifactError: The tokenizer cannot be read.
        """
        builder = SentenceBuilder(
            config=self.config, pooling=self.module.pooling, dense=self.dense, normalize=self.module.normalize,
            version=transformers_version(),
        )  # fmt: skip
        own = None if self.tokenizer is None else TextPreprocessing.of(
            self.tokenizer, pad_id=self.module.pad_id, max_length=self.max_length or _DEFAULT_LENGTH
        )  # fmt: skip
        return TorchModel(self.module, builder.plain(), preprocessing=own)


def open_sentence_transformers(folder: str) -> OpenedEncoder:
    """An encoder from a directory that sentence-transformers wrote: Transformer, Pooling, Dense, Normalize.

    Weights come from safetensors alone, and no code that the directory names is run.

    Raises:
        ModelError: A file is missing or damaged, or the directory has a module that is not one of the four, a pooling
            that is not mean, cls or max, or a prompt that it puts before every text.
    """
    root = Path(folder)
    parts = _parts(root)
    kinds = [kind for kind, _ in parts]
    dense_first, last = 2, len(parts) - (kinds[-1] == "Normalize")
    if kinds[:dense_first] != ["Transformer", "Pooling"] or set(kinds[dense_first:last]) - {"Dense"}:
        raise ModelError(
            f"{root / _MODULES}: has {', '.join(f'`{kind}`' for kind in kinds)}; it must have a `Transformer`, then a "
            "`Pooling`, then any number of `Dense`, then perhaps `Normalize`"
        )
    _require_no_prompt(root)
    transformer = parts[0][1]
    dense = [_dense(path) for _, path in parts[dense_first:last]]
    limits = _json(transformer / "sentence_bert_config.json", {})
    opened = _opened(
        str(transformer), _pooling(parts[1][1]), [layer for layer, _ in dense], kinds[-1] == "Normalize",
        limits.get("max_seq_length"),
    )  # fmt: skip
    if limits.get("do_lower_case") and not _lowers(opened.tokenizer):
        raise ModelError(
            f"{transformer}: its texts are put in lower case (`do_lower_case`) before its {TOKENIZER} sees them; put a "
            "`Lowercase` normalizer into that file instead"
        )
    for index, (_, tensors) in enumerate(dense):
        _load(opened.module.dense[index][0], tensors, parts[dense_first + index][1])  # type: ignore[index]
    return opened


def open_encoder(source: str, pooling: Pooling = "mean", normalize: bool = True) -> OpenedEncoder:
    """An encoder of a bare network of transformers', whose hidden states are pooled.

    Args:
        source: A folder that `save_pretrained` wrote, or a name on the hub.
        pooling: `mean`, `cls` or `max`.
        normalize: Whether embeddings have length one.

    Raises:
        ModelError: As `open_hf`.
    """
    return _opened(source, pooling, (), normalize, None)


def _opened(
    source: str, pooling: Pooling, dense: Sequence[DenseLayer], normalize: bool, max_length: int | None
) -> OpenedEncoder:
    transformer, config = open_hf(source, "feature-extraction")
    tokenizer = fetched(source, TOKENIZER)
    config["pad_token_id"] = _pad_id(source, config, tokenizer)
    transformer.config.pad_token_id = config["pad_token_id"]  # type: ignore[union-attr]
    module = SentenceEncoder(
        transformer, pad_id=config["pad_token_id"], pooling=pooling, dense=dense, normalize=normalize
    )
    positions = config.get("max_position_embeddings")
    if max_length is None and isinstance(positions, int):
        # RoBERTa's kind counts positions from behind the padding's id.
        offset = config["pad_token_id"] + 1 if _counts_from_padding(transformer) else 0
        max_length = positions - offset
    return OpenedEncoder(module.eval(), config, tuple(dense), tokenizer, max_length)


def _counts_from_padding(transformer: Any) -> bool:
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    return getattr(table, "padding_idx", None) is not None


def _pad_id(source: str, config: Mapping[str, Any], tokenizer: Path | None) -> int:
    """The id of padding, on which the configuration and the tokenizer must agree."""
    said = config.get("pad_token_id")
    if tokenizer is None:
        if said is None:
            raise ModelError(f"{source}: config.json has no `pad_token_id`, so nothing says where a text ends")
        return int(said)
    require_own_tokenizer(source, tokenizer, None if said is None else int(said))
    found = padding_of(tokenizer)
    if found is None and said is None:
        raise ModelError(f"{source}: neither config.json nor {TOKENIZER} says by which token texts are padded")
    return int(found or 0) if said is None else int(said)


def transformer_folder(root: Path) -> Path:
    """Where the transformer lies in a directory of sentence-transformers, and its tokenizer.

    Raises:
        ModelError: modules.json is missing or damaged, or its first module is none.
    """
    kind, path = _parts(root)[0]
    if kind != "Transformer":
        raise ModelError(f"{root / _MODULES}: begins with `{kind}`, and must begin with a `Transformer`")
    return path


def _parts(root: Path) -> list[tuple[str, Path]]:
    if not root.is_dir():
        raise ModelError(
            f"{root}: there is no such folder; give one that sentence-transformers wrote, with {_MODULES} (a name on "
            f"the Hugging Face hub is not fetched: `hf download {root} --local-dir FOLDER`)"
        )
    listed = _json(root / _MODULES)
    if not isinstance(listed, list) or not listed:
        raise ModelError(f"{root / _MODULES}: must be a list of modules")
    parts = []
    for one in sorted(listed, key=lambda one: int(one.get("idx", 0))):
        named = str(one.get("type"))
        kind = named.rpartition(".")[2]
        if not named.startswith("sentence_transformers.") or kind not in _KNOWN:
            raise ModelError(
                f"{root / _MODULES}: `{named}` is no module that is known here; those are "
                f"{', '.join(f'`{known}`' for known in _KNOWN)} of sentence-transformers; build the network by a "
                "`python` function instead"
            )
        path = (root / str(one.get("path", ""))).resolve()
        if not path.is_relative_to(root.resolve()):
            raise ModelError(f"{root / _MODULES}: `{one['path']}` lies outside the directory")
        parts.append((kind, path))
    return parts


def _pooling(path: Path) -> Pooling:
    plain = _json(path / "config.json")
    modes = [name for name, on in plain.items() if name.startswith("pooling_mode_") and on is True]
    if isinstance(plain.get("pooling_mode"), str):
        modes.append(f"pooling_mode_{plain['pooling_mode']}")
    named = {**_POOLINGS, "pooling_mode_mean": "mean", "pooling_mode_cls": "cls", "pooling_mode_max": "max"}
    if len(modes) != 1 or modes[0] not in named:
        raise ModelError(
            f"{path / 'config.json'}: pools by {' and '.join(f'`{mode}`' for mode in modes) or 'nothing'}; one of "
            f"{', '.join(f'`{mode}`' for mode in _POOLINGS)} alone is known here"
        )
    return named[modes[0]]


def _dense(path: Path) -> tuple[DenseLayer, dict[str, Tensor]]:
    plain = _json(path / "config.json")
    named = str(plain.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = _ACTIVATIONS.get(named.rpartition(".")[2]) if named.startswith("torch.nn.modules.") else None
    if activation is None:
        raise ModelError(
            f"{path / 'config.json'}: `{named}` is no activation that is known here; those are "
            f"{', '.join(f'`{known}`' for known in _ACTIVATIONS)} of torch"
        )
    try:
        layer = DenseLayer(
            inputs=plain["in_features"], outputs=plain["out_features"], bias=plain.get("bias", True),
            activation=activation,
        )  # fmt: skip
    except (KeyError, ValueError) as error:
        raise ModelError(f"{path / 'config.json'}: does not say what a Dense layer is: {error}") from error
    file = path / "model.safetensors"
    try:
        return layer, safetensors.torch.load(file.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{file}: cannot be read: {error.strerror}; weights are read from safetensors alone (save the model again "
            "with `safe_serialization=True`)"
        ) from error
    except SafetensorError as error:
        raise ModelError(f"{file}: is damaged or truncated ({error}); copy it again") from error


def _load(linear: Any, tensors: Mapping[str, Tensor], path: Path) -> None:
    try:
        linear.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in tensors.items()}, strict=True)
    except RuntimeError as error:
        told = " ".join(str(error).split())
        raise ModelError(f"{path / 'model.safetensors'}: does not fit its config.json: {told}") from error


def _require_no_prompt(root: Path) -> None:
    name = _json(root / "config_sentence_transformers.json", {}).get("default_prompt_name")
    if name:
        raise ModelError(
            f"{root}: puts its prompt `{name}` before every text (`default_prompt_name`), which is no part of the "
            "network; write the prompt into the data, and set it to null"
        )


def _lowers(tokenizer: Path | None) -> bool:
    if tokenizer is None:
        return False
    text = json.dumps(_json(tokenizer).get("normalizer"))
    return '"lowercase": true' in text or '"Lowercase"' in text


def _json(path: Path, missing: Any = None) -> Any:
    """What the file holds; `missing` where there is none, unless that is None."""
    if path.exists():
        return read_json(path)
    if missing is not None:
        return missing
    raise ModelError(f"{path}: there is no such file; copy the whole directory")
