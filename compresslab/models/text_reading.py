"""What a model's folder says of how it reads texts: its tokenizer, its padding, its limit, its names of the outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compresslab.errors import ModelError
from compresslab.measure.artifact import MANIFEST, read_manifest
from compresslab.measure.text_preprocessing import TOKENIZER, TextPreprocessing
from compresslab.models.json_file import read_keys
from compresslab.models.tokenizer_files import require_own_tokenizer
from compresslab.wheels import local_folder

if TYPE_CHECKING:
    from compresslab.measure.preprocessing import Preprocessing
    from compresslab.models.spec import ModelSpec

_DEFAULT_LENGTH = 512
# Tokenizers that know of no limit say one that no text has.
_NO_LIMIT = 1_000_000
# Their positions begin behind that of the padding.
_OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "mpnet", "longformer", "data2vec-text", "xlm-roberta-xl")


@dataclass(frozen=True)
class TextReading:
    """What is known of it; None for what is not.

    Args:
        where: What to call the model in errors.
        tokenizer: Its tokenizer.json.
        pad_id: The id that it leaves out of its attention.
        limit: The most tokens of a text that it has positions for.
        labels: The names of its outputs, in order.
    """

    where: str
    tokenizer: Path | None
    pad_id: int | None
    limit: int | None
    labels: tuple[str, ...] | None

    @property
    def max_length(self) -> int:
        """The limit, or 512 where none is known."""
        return self.limit or _DEFAULT_LENGTH

    def preprocessing(self) -> TextPreprocessing | None:
        """How it reads by its own tokenizer; None where it has none, or nothing says what its padding is.

        Raises:
            DataError: The library `tokenizers` is not installed.
            ArtifactError: The file is no tokenizer.
        """
        if self.tokenizer is None or self.pad_id is None:
            return None
        return TextPreprocessing.of(self.tokenizer, pad_id=self.pad_id, max_length=self.max_length)


def text_reading(spec: ModelSpec, *, tower: bool = False) -> TextReading | None:
    """What the folder of an `hf` network or of a `checkpoint` says; None of any other network.

    Args:
        spec: The network.
        tower: Whether it may be half of a dual encoder.

    Raises:
        ModelError: There is no such folder or name, its files are damaged, or it is of a dual encoder.
    """
    if spec.hf is not None:
        source = local_folder(spec.hf)
        return (tower_reading(source) if tower else None) or hf_reading(source)
    if spec.sentence_transformers is not None:
        return sentence_reading(local_folder(spec.sentence_transformers))
    return None if spec.checkpoint is None else checkpoint_reading(Path(spec.checkpoint))


def hf_reading(source: str) -> TextReading:
    """What a folder that `save_pretrained` wrote says, or a name on the hub.

    Raises:
        ModelError: As `read_config`, or the tokenizer is another network's.
    """
    from compresslab.models.hf_net import fetched, label_names, read_config
    from compresslab.models.hf_towers import is_dual

    config = read_config(source)
    if is_dual(config):
        raise ModelError(
            f"{source}: is a `{config['model_type']}`, which embeds images and texts in one space, and this task is "
            "for one network that reads texts; give it to a `cross_modal` task, or another network here"
        )
    known = config.get("pad_token_id")
    pad = known if isinstance(known, int) and known >= 0 else None
    said, tokenizer = fetched(source, "tokenizer_config.json"), fetched(source, TOKENIZER)
    if tokenizer is not None:
        require_own_tokenizer(source, tokenizer, pad)
    return TextReading(
        source,
        tokenizer,
        pad,
        _limit(config, {} if said is None else read_keys(said)),
        label_names(config),
    )


def tower_reading(source: str) -> TextReading | None:
    """The same of the text tower of a dual encoder's folder; None of the folder of one network.

    Raises:
        ModelError: As `read_config`, or the tokenizer is missing or another network's.
    """
    from compresslab.models.hf_net import fetched, read_config
    from compresslab.models.hf_towers import ends_of_texts, is_dual, tower_config

    whole = read_config(source)
    if not is_dual(whole):
        return None
    config, tokenizer = tower_config(source, whole, "text-tower"), fetched(source, TOKENIZER)
    begin, _ = ends_of_texts(source, config, tokenizer)
    said = fetched(source, "tokenizer_config.json")
    return TextReading(source, tokenizer, begin, _limit(config, {} if said is None else read_keys(said)), None)


def sentence_reading(folder: str) -> TextReading:
    """What a directory of sentence-transformers says, whose limit may be below the positions that the network has.

    Raises:
        ModelError: As `open_sentence_transformers`, for what is read of it.
    """
    from compresslab.models.sentence_source import transformer_folder

    path = transformer_folder(Path(folder))
    known = hf_reading(str(path))
    limits = path / "sentence_bert_config.json"
    length = read_keys(limits).get("max_seq_length") if limits.is_file() else None
    return replace(known, where=folder, limit=length if isinstance(length, int) else known.limit, labels=None)


def checkpoint_reading(folder: Path) -> TextReading | None:
    """What a stage's folder says: its own preprocessing, or that of the manifest beside; None for one of no texts.

    Raises:
        ModelError: A file is damaged.
        ArtifactError: The manifest is.
    """
    path = folder / "architecture.json"
    plain = read_keys(path).get("preprocessing") if path.is_file() else None
    labels: tuple[str, ...] = ()
    how, place = None, folder
    if (folder / MANIFEST).is_file():
        manifest = read_manifest(folder / MANIFEST)
        labels = manifest.labels
        how = manifest.preprocessing
    elif (told := told_of_tower(folder)) is not None:
        how, place = told, folder.parent
    if isinstance(plain, dict):
        how, place = TextPreprocessing.model_validate(plain), folder
    if how is None or how.kind != "text":
        return None
    file = place / how.tokenizer
    return TextReading(str(folder), file if file.is_file() else None, how.pad_id, how.max_length, labels or None)


def told_of_tower(folder: Path) -> Preprocessing | None:
    """How a tower reads whose folder a stage of a run left, as the manifest of both says; None of any other folder.

    Raises:
        ArtifactError: The manifest is damaged.
    """
    beside = folder.parent / MANIFEST
    tower = read_manifest(beside).towers.get(folder.name) if beside.is_file() else None
    return None if tower is None else tower.preprocessing


def _limit(config: Mapping[str, Any], said: Mapping[str, Any]) -> int | None:
    limits = []
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and positions > 0:
        offset = config.get("model_type") in _OFFSET_POSITIONS
        limits.append(positions - (int(config.get("pad_token_id") or 0) + 1 if offset else 0))
    length = said.get("model_max_length")
    if isinstance(length, int | float) and 0 < length < _NO_LIMIT:
        limits.append(int(length))
    return min(limits, default=None)
