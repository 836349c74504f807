"""What tasks on texts have in common: where texts come from, how they are split, and the tokenizer they are read by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from compresslab.data.augmentation import Augmentation
from compresslab.data.hf_saved import is_saved
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.many_texts import texts_of_files
from compresslab.data.splits import prove_disjoint
from compresslab.data.texts import TextSource, from_files, from_hub, from_python, from_saved
from compresslab.errors import DataError, ModelError
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.places import Amount, Place, places
from compresslab.tasks.task import Split, Task, content_digest
from compresslab.tasks.text_notes import split_notes
from compresslab.tasks.tokens import Tokens
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from compresslab.data.arrays import Targets
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store
    from compresslab.tasks.objective import Objective
    from compresslab.tasks.task import Targets as AnyTargets

SOURCES = ("csv", "jsonl", "parquet", "datasets", "hub", "python")
_FILES = ("csv", "jsonl", "parquet")
_ENDS = {"csv": (".csv", ".tsv"), "jsonl": (".jsonl",), "parquet": (".parquet",)}


class TextFile(Settings):
    """A file of texts whose column is called otherwise than in the task."""

    file: FilePath
    """As the others: .txt with a text a line, .csv, .jsonl, .parquet, or a folder that `save_to_disk` wrote."""
    text: str
    """The column, or key, of the texts."""


TextFiles = FilePath | Annotated[tuple[FilePath | TextFile, ...], Field(strict=False, min_length=1)]
"""A file of texts, or a list of files."""


class ReadsTexts(Settings):
    """How texts become tokens."""

    tokenizer: FilePath | None = None
    """A tokenizer.json; null takes the one in the folder of `model`, of two towers that of `text`."""
    max_length: int | None = Field(None, ge=2)
    """The most tokens that are read of a text; null takes what the model has positions for, or 512."""
    too_long: Literal["note", "error"] = "note"
    """What is done about longer texts: `note` cuts them and says how many there are; `error` refuses them."""


class TextSettings(ReadsTexts):
    """How texts are read and split, wherever they come from."""

    text: str = Field("text", min_length=1)
    """The column, or key, of the texts."""
    transfer: TextFiles | None = None
    """Unlabelled texts to distil on as well: a .txt file with a text a line, a .csv, .jsonl or .parquet file with the
    column `text`, or a folder that `save_to_disk` wrote; or a list of these, also as `{file: F, text: COLUMN}`."""
    calibration_data: TextFiles | None = None
    """Unlabelled texts that set quantization ranges, instead of a part of the training data; given as `transfer`."""
    name: str | None = Field(None, pattern=r"^[^/\s]+$")
    """What results call it; null takes the name of the source."""
    validation: Amount | None = None
    """What all decisions are made on. Null takes the source's own, or 10 % of the training data, at most 5,000."""
    calibration: Amount | None = None
    """What sets quantization ranges and importance scores. Null takes 5 % of the training data, at most 1,000."""
    test: Amount | None = None
    """What results are reported on. Null takes the source's own, or 15 % of the training data, at most 10,000."""
    split_seed: int = 0
    """Another one gives other splits."""


class TextData(TextSettings):
    """Exactly one source of texts, each with what belongs to it."""

    csv: FilePath | None = None
    """A .csv file, or .tsv, whose first line names its columns."""
    jsonl: FilePath | None = None
    """A file with a JSON object a line."""
    parquet: FilePath | None = None
    """A Parquet file."""
    datasets: FilePath | None = None
    """A folder written by `save_to_disk` of Hugging Face `datasets`, perhaps with splits."""
    hub: str | None = Field(None, min_length=1)
    """A data set on the Hugging Face hub, `owner/name`, or `owner/name:configuration`."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns `texts` and what belongs to them, and perhaps the same with
    `validation_` and `test_` before their names."""
    validation_data: FilePath | None = None
    """A file like the first, on which all decisions are made, instead of a part of it."""
    test_data: FilePath | None = None
    """A file like the first, on which results are reported, instead of a part of it."""

    @model_validator(mode="after")
    def _check_one_source(self) -> TextData:
        kind = the_one(self, SOURCES)
        if kind not in _FILES and (self.validation_data or self.test_data):
            raise ValueError(
                f"`validation_data` and `test_data` stand beside {', '.join(f'`{one}`' for one in _FILES)}; `{kind}` "
                "has its own splits, or they are taken from its training data"
            )
        if kind in _FILES:
            require_ending(kind, getattr(self, kind))
        return self


def require_ending(kind: str, path: str) -> None:
    """Refuses a file given as another kind than its name says, which is how it will be read.

    Raises:
        ValueError: It is called otherwise.
    """
    if not path.lower().endswith(_ENDS[kind]):
        raise ValueError(f"`{kind}` must be a file that ends in {' or '.join(_ENDS[kind])}")


def source_of(data: TextData, value: str, python: str, cache: Path, store: Store | None) -> TextSource:
    """The source that was given.

    Args:
        data: What the pipeline says.
        value: The column of what belongs to each text.
        python: What a function of the user's calls it, `labels` or `targets`.
        cache: Where what is fetched is kept.
        store: Where many texts are kept; None for all in memory.

    Raises:
        DataError: It is missing or broken.
    """
    if data.datasets is not None:
        return from_saved(Path(data.datasets), data.text, value, store)
    if data.hub is not None:
        return from_hub(data.hub, data.text, value, cache, store)
    if data.python is not None:
        return from_python(data.python, python)
    path = data.csv or data.jsonl or data.parquet
    assert path is not None, "exactly one source is given"
    validation, test = (None if one is None else Path(one) for one in (data.validation_data, data.test_data))
    return from_files(Path(path), validation, test, data.text, value, store)


def unlabelled(data: TextSettings, store: Store | None) -> dict[str, Texts]:
    """The texts of `transfer` and `calibration_data`, by the split they are of; empty where none are given.

    Args:
        data: What the pipeline says.
        store: Where many texts are kept; None for all in memory.

    Raises:
        DataError: A file is missing or broken.
    """
    found = {}
    for split, given in (("transfer", data.transfer), ("calibration", data.calibration_data)):
        if given is not None:
            files = (given,) if isinstance(given, str) else given
            found[split] = texts_of_files([_file_of(data, one) for one in files], store)
    return found


def _file_of(data: TextSettings, given: str | TextFile) -> tuple[Path, str]:
    path, column = (Path(given), data.text) if isinstance(given, str) else (Path(given.file), given.text)
    if path.is_dir() and not is_saved(path):
        raise DataError(f"{path}: is a folder; give its files one by one, or one that `save_to_disk` wrote")
    return path, column


def text_splits(
    name: str,
    texts: Mapping[str, Texts],
    targets: Mapping[str, AnyTargets],
    strata: Targets,
    data: TextData,
) -> tuple[dict[str, Split], tuple[str, ...], np.ndarray]:
    """The splits, no text in two of them; notes on what was left out; and which training rows are left.

    Args:
        name: What to call the source in errors.
        texts: Of each part of the source, and of `transfer` and `calibration` where they were given.
        targets: Of the labelled parts.
        strata: Groups of the training texts, of which every split gets its share.
        data: What the pipeline says.

    Raises:
        DataError: They cannot be split as asked, or share texts.
    """
    hashes = {part: sample_hashes(inputs) for part, inputs in texts.items()}
    wanted = {"validation": data.validation, "calibration": data.calibration, "test": data.test}
    ids = {part: ids_of(one) for part, one in hashes.items()}
    found, notes = places(name, ids, strata, wanted, data.split_seed, "texts")

    def made(split: str, place: Place) -> Split:
        whole = targets.get(place.part)
        inputs, own = texts[place.part][place.rows], ids[place.part][place.rows]
        if split not in ("train", "transfer"):  # they may be on disk, but are measured with, by functions of numpy's
            inputs = as_texts(inputs)
        beside = None if whole is None else whole[place.rows]
        digest = content_digest(inputs, beside, hashes[place.part], place.rows)
        return Split(split, inputs, beside, own, digest, place.part, place.rows, place.size)

    splits = {split: made(split, place) for split, place in found.items()}
    prove_disjoint({split: part.ids for split, part in splits.items()}, "texts")
    return splits, (*notes, *_copies(splits["train"])), found["train"].rows


def _copies(train: Split) -> list[str]:
    """Notes on texts that come again: with the same answer they count twice, with another they contradict."""
    assert train.targets is not None, "training texts have labels or targets"
    distinct = len(np.unique(train.ids))
    _, answers = np.unique(train.targets, return_inverse=True)
    _, texts = np.unique(train.ids, return_inverse=True)
    contradicting = len(np.unique(texts * (int(answers.max()) + 1) + answers)) - distinct
    copies = len(train.ids) - distinct
    told = f", and {contradicting} of these with another label or target" if contradicting else ""
    return [f"{copies} of {len(train.ids)} train texts are copies of others{told}"] if copies else []


def text_task(
    data: TextData,
    how: TextPreprocessing,
    source: TextSource,
    targets: Mapping[str, AnyTargets],
    strata: Targets,
    metric: str,
    asked: Callable[[Mapping[str, Split], np.ndarray], Objective],
    store: Store | None,
) -> Task:
    """The task on a source's texts, once it is known what belongs to each.

    Args:
        data: What the pipeline says.
        how: How texts are read.
        source: The texts.
        targets: Of each part of the source.
        strata: Groups of the training texts, of which every split gets its share.
        metric: What quality means.
        asked: From the splits, and which training rows are left, to what is asked of the outputs; it refuses splits of
            which nothing can be learned.
        store: Where ids of tokens and many texts are kept; None for all in memory.

    Raises:
        DataError: The texts cannot be split or read as asked.
    """
    texts = {**{part: rows.texts for part, rows in source.parts.items()}, **unlabelled(data, store)}
    splits, notes, rows = text_splits(source.name, texts, targets, strata, data)
    objective = asked(splits, rows)
    tokens = Tokens(store)
    return Task.of(
        name=task_name(data, source.name),
        objective=objective,
        splits=splits,
        preprocessing=how,
        augmentation=Augmentation(),
        metric=metric,
        notes=(*notes, *split_notes(splits, how, tokens, {part: rows.place for part, rows in source.parts.items()})),
        tokens=tokens,
    )


def task_name(data: TextSettings, source: str) -> str:
    """What results call the task."""
    return data.name or re.sub(r"[^\w.-]+", "_", source)


def preprocessing_of(data: ReadsTexts, model: TextReading | None) -> TextPreprocessing:
    """How the task's texts are read: by the tokenizer that is given, or by the model's own.

    Raises:
        DataError: There is neither, or the one that is given has other ids than the model's own.
        ModelError: Nothing says what the model's padding is, or it has fewer positions than `max_length`.
    """
    file = Path(data.tokenizer) if data.tokenizer is not None else None if model is None else model.tokenizer
    if file is None:
        where = "`model` is no folder with a tokenizer" if model is None else f"{model.where}: has no tokenizer.json"
        raise DataError(
            f"{where}, so nothing says how texts become tokens; give `tokenizer: FILE` in the task, or write one "
            "beside the model: `AutoTokenizer.from_pretrained(...).save_pretrained(FOLDER)` of transformers"
        )
    limit = 512 if model is None else model.max_length
    if data.max_length is not None and model is not None and model.limit is not None and data.max_length > model.limit:
        raise ModelError(
            f"`max_length: {data.max_length}` is more than the {model.limit} tokens that {model.where} reads at most; "
            f"give {model.limit} or fewer"
        )
    pad_id = None if model is None else model.pad_id
    if pad_id is None and model is not None:
        raise ModelError(
            f"{model.where}: its configuration has no `pad_token_id`, so nothing says which tokens are padding; set it "
            "in its config.json"
        )
    how = TextPreprocessing.of(
        file, pad_id=_own_padding(file) if pad_id is None else pad_id, max_length=data.max_length or limit,
        truncate=data.too_long == "note",
    )  # fmt: skip
    if data.tokenizer is not None and model is not None:
        own = model.preprocessing()
        if own is not None:
            _require_same_ids(how, own, model.where)
    return how


def _own_padding(file: Path) -> int:
    """The padding that a tokenizer's own file names."""
    tokenizer = TextPreprocessing.of(file, pad_id=0, max_length=2).open_tokenizer()
    for name in ("[PAD]", "<pad>"):
        found = tokenizer.token_to_id(name)
        if found is not None:
            return int(found)
    raise DataError(f"{file}: has neither `[PAD]` nor `<pad>`, so nothing says which id is padding; add such a token")


def _require_same_ids(given: TextPreprocessing, own: TextPreprocessing, model: str) -> None:
    ours, theirs = given.open_tokenizer().get_vocab(), own.open_tokenizer().get_vocab()
    differing = sorted(token for token, number in theirs.items() if ours.get(token) != number)
    if differing:
        first = differing[0]
        found = ours.get(first)
        raise DataError(
            f"{given.file}: is not the tokenizer of {model}, which has other ids for {len(differing)} of "
            f"{len(theirs)} tokens (`{first}` is {theirs[first]} there and {'missing' if found is None else found} "
            "here); leave `tokenizer` out, to read with the model's own"
        )
