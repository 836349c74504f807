"""Images and texts in one space: where pairs come from, how they are split by group, and what each tower sees."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from compresslab.data.augmentation import Augmentation
from compresslab.data.decoding import Decoding, refit
from compresslab.data.grouping import connected
from compresslab.data.identity import ids_of, sample_hashes
from compresslab.data.image_folder import read_unlabelled
from compresslab.data.many_texts import texts_of_files
from compresslab.data.pairs import IMAGES, TEXTS, PairSource, Side, from_function, from_tables, require_partners
from compresslab.data.splits import carve
from compresslab.digest import digest_of
from compresslab.errors import DataError, ModelError
from compresslab.measure.metric_names import BOTH_WAYS
from compresslab.measure.preprocessing import Fit
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import content_digest, too_few
from compresslab.tasks.image_classification import image_preprocessing
from compresslab.tasks.objective import Embeddings
from compresslab.tasks.places import Amount
from compresslab.tasks.standardising import feature_preprocessing
from compresslab.tasks.task import Split, Task
from compresslab.tasks.text_data import ReadsTexts, preprocessing_of
from compresslab.tasks.text_notes import split_notes, text_notes
from compresslab.tasks.tokens import Tokens
from compresslab.tasks.towers_task import Pairs, TowersTask
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.data.identity import Hashes
    from compresslab.measure.preprocessing import Preprocessing, Samples
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.models.image_reading import ImageReading
    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store

    Rows = npt.NDArray[np.int64]
    Sides = Mapping[str, Side]

SOURCES = ("pairs", "python")
_Name = Annotated[str, Field(pattern=r"^[^/\s]+$")]
# Share of the groups, and at most this many: what a split takes when nothing is said.
_AMOUNTS = {"test": (0.15, 10_000), "validation": (0.1, 5_000), "calibration": (0.05, 1_000)}
# A width before the towers that are there say theirs.
_ANY = 1


class TransferSource(Settings):
    """Unlabelled samples of one tower: a folder of images, or a file of texts."""

    images: FilePath | None = None
    """A folder of images, for the image tower."""
    text: FilePath | None = None
    """A .txt file with a text a line, or a .csv, .jsonl or .parquet file with a column `text`, for the text tower."""

    @model_validator(mode="after")
    def _check_one(self) -> TransferSource:
        the_one(self, ("images", "text"))
        return self


Transfer = Annotated[tuple[TransferSource, ...], Field(strict=False, min_length=1)]


class CrossModal(ReadsTexts):
    """Exactly one source of images and texts that belong together in groups."""

    pairs: FilePath | None = None
    """A .csv, .tsv, .jsonl or .parquet file with the columns `image` (a path, relative to the file) and `text`, and
    perhaps `group` (rows of one belong together; without it, rows that share an image or a text) and `split`."""
    python: CodeReference | None = None
    """`module:function` of your own, which returns `images`, `image_groups`, `texts` and `text_groups`; perhaps the
    same with `validation_` and `test_` before their names, `transfer_images` and `transfer_texts`, and `benchmarks`, by
    name with the four."""
    benchmarks: Annotated[dict[_Name, FilePath], Field(default_factory=dict)]
    """Other tables of pairs that results are reported on, by name. No decision reads them."""
    transfer: Transfer | None = None
    """Images and texts without a partner, to distil on as well: a list of `{images: FOLDER}` and `{text: FILE}`."""
    name: _Name | None = None
    """What results call it; null takes the name of the source."""
    width: int | None = Field(None, ge=1)
    """Of the space; null takes that of a tower that is there already."""
    metric: Literal["recall@1", "recall@5", "recall@10", "ndcg@10"] = "recall@10"
    """What quality means: the mean of what texts find among the images and images among the texts."""
    temperature: float = Field(0.05, gt=0)
    """Of the contrastive loss over cosines."""
    size: int | None = Field(None, ge=1)
    """Height and width of images in pixels; null takes what a dual encoder is for, and else keeps those that they have,
    which must be the same for all."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for RGB; null takes what a dual encoder is for, and else grey if all images are."""
    resize: Literal["bilinear", "bicubic", "nearest"] | None = None
    """The filter by which images are brought to `size`; null takes a dual encoder's, or `bilinear`."""
    crop: float | None = Field(None, gt=0, le=1)
    """The central share of each side that is kept before resizing; null takes a dual encoder's, or all."""
    fit: Fit | None = None
    """Whether images of another shape are stretched (`stretch`), or cut at both ends of their longer side (`cover`);
    null takes a dual encoder's, or `stretch`."""
    augment: Augmentation = Augmentation()
    """Random changes of training images."""
    validation: Amount | None = None
    """Groups on which all decisions are made. Null takes the source's own, or 10 % of the groups, at most 5,000."""
    calibration: Amount | None = None
    """Groups that set quantization ranges and importance scores. Null takes 5 % of the groups, at most 1,000."""
    test: Amount | None = None
    """Groups on which results are reported. Null takes the source's own, or 15 % of the groups, at most 10,000."""
    split_seed: int = 0
    """Another one gives other splits."""

    @model_validator(mode="after")
    def _check_one_source(self) -> CrossModal:
        if the_one(self, SOURCES) == "python" and self.benchmarks:
            raise ValueError("`benchmarks` are tables beside `pairs`; let the `python` function return its own")
        return self

    def load(
        self,
        cache: Path,
        text_tower: TextReading | None = None,
        image_tower: ImageReading | None = None,
        store: Store | None = None,
    ) -> TowersTask:
        """Reads the data, splits it by groups, and proves that the splits share nothing.

        Args:
            cache: Folder for what is decoded.
            text_tower: What the text tower's folder says of reading texts.
            image_tower: What a dual encoder's folder says of reading images.
            store: Where ids of tokens and many texts are kept; None for all in memory.

        Raises:
            DataError: The data is missing, broken, or cannot be split as asked.
            ModelError: The text tower does not fit the tokenizer.
        """
        decoding = self._decoding(image_tower)
        source = self._refitted(self._source(decoding, cache), decoding, cache)
        name = self.name or re.sub(r"[^\w.-]+", "_", source.name)
        if name in source.benchmarks:
            raise DataError(f"`benchmarks.{name}` has the name of the task; rename one of them")
        data = _Split(name, source, self._transfer(source, decoding, cache, store))
        splits = data.splits({key: getattr(self, key) for key in _AMOUNTS}, self.split_seed)
        views: dict[str, Task] = {}
        notes = list(data.notes)
        for side in (IMAGES, TEXTS):
            how = self._preprocessing(side, splits["train"][side].inputs, decoding, text_tower, image_tower)
            tokens = Tokens(store)
            its = {split: sides[side] for split, sides in splits.items() if side in sides}
            if how.kind == "text":
                beside: dict[str, Texts] = {key: one[side].inputs for key, one in source.benchmarks.items()}  # type: ignore[misc]
                notes += [*split_notes(its, how, tokens), *text_notes(beside, how)]
            for split in ("validation", "test"):
                notes += too_few(split, len(splits[split][side].inputs), self.metric, f"{side}s")
            for key, one in source.benchmarks.items():
                notes += too_few(key, len(one[side].inputs), self.metric, f"{side}s")
            views[side] = Task.of(
                name=f"{name}, {side}",
                objective=Embeddings(self.width or _ANY, self.temperature),
                splits=its,
                preprocessing=how,
                augmentation=self.augment if side == IMAGES else Augmentation(),
                metric=self.metric,
                notes=(),
                tokens=tokens,
            )
        return TowersTask.of(
            name=name,
            towers=views,
            splits={split: _pairs(splits[split], self.metric) for split in ("validation", "test")},
            benchmarks={key: data.benchmark(key, sides, self.metric) for key, sides in source.benchmarks.items()},
            metric=self.metric,
            notes=(*notes, *data.seen_before(splits)),
            width=self.width,
        )

    def _decoding(self, tower: ImageReading | None) -> Decoding:
        """As the task says, and where it says nothing as the image tower was trained."""
        if tower is None:
            return Decoding(
                self.size, self.channels, self.resize or "bilinear", self.crop or 1.0, self.fit or "stretch"
            )
        for key, given, needed in (("size", self.size, tower.size), ("channels", self.channels, tower.channels)):
            if given is not None and needed is not None and given != needed:
                raise ModelError(
                    f"`{key}: {given}` is asked for, but {tower.where} reads images of {key} {needed}; leave it out"
                )
        return Decoding(
            tower.size or self.size,
            tower.channels,
            self.resize or tower.resize,
            self.crop or tower.crop,
            self.fit or tower.fit,
        )

    def _source(self, decoding: Decoding, cache: Path) -> PairSource:
        if self.pairs is not None:
            return from_tables(Path(self.pairs), {k: Path(v) for k, v in self.benchmarks.items()}, decoding, cache)
        assert self.python is not None, "exactly one source is given"
        return from_function(self.python)

    def _refitted(self, source: PairSource, decoding: Decoding, cache: Path) -> PairSource:
        """All images of one shape."""

        def fitted(where: str, sides: Sides) -> Sides:
            made = sides[IMAGES].inputs
            if self.pairs is None:  # files were brought to it as they were decoded
                made = refit(np.asarray(made, np.uint8), decoding, cache)
            like = shapes.setdefault("train", made.shape[1:])
            if made.shape[1:] != like:
                raise DataError(
                    f"{source.name}: images are {list(like)} (height, width, channels) in train, but "
                    f"{list(made.shape[1:])} in {where}; give `size` and `channels`"
                )
            return {**sides, IMAGES: Side(made, sides[IMAGES].groups)}

        shapes: dict[str, tuple[int, ...]] = {}
        parts = {part: fitted(part, sides) for part, sides in source.parts.items()}
        benchmarks = {key: fitted(key, sides) for key, sides in source.benchmarks.items()}
        unpaired = dict(source.transfer)
        if IMAGES in unpaired:
            unpaired[IMAGES] = refit(np.asarray(unpaired[IMAGES], np.uint8), decoding, cache)
        return PairSource(source.name, parts, benchmarks, unpaired)

    def _transfer(self, source: PairSource, decoding: Decoding, cache: Path, store: Store | None) -> dict[str, Samples]:
        found: dict[str, list[Samples]] = {side: [] for side in (IMAGES, TEXTS)}
        for side, given in source.transfer.items():
            found[side].append(given)
        _, height, width, channels = source.parts["train"][IMAGES].inputs.shape
        like = replace(decoding, size=height if height == width else None, channels=3 if channels == 3 else 1)
        for one in self.transfer or ():
            if one.images is not None:
                found[IMAGES].append(read_unlabelled(Path(one.images), like, cache))
        texts = [(Path(one.text), "text") for one in self.transfer or () if one.text is not None]
        if texts:
            found[TEXTS].append(texts_of_files(texts, store))
        return {side: parts[0] if len(parts) == 1 else np.concatenate(parts) for side, parts in found.items() if parts}

    def _preprocessing(
        self,
        side: str,
        train: Samples,
        decoding: Decoding,
        text_tower: TextReading | None,
        image_tower: ImageReading | None,
    ) -> Preprocessing:
        if side == IMAGES:
            own = image_preprocessing(train, decoding)  # type: ignore[arg-type]  # images are uint8
            if image_tower is None:
                return own
            return own.model_copy(update={"mean": image_tower.mean, "std": image_tower.std})
        if train.dtype == np.float32:
            return feature_preprocessing(np.asarray(train, np.float32), standardise=True)
        return preprocessing_of(self, text_tower)


class _Split:
    """Groups into splits, no image and no text in two of them."""

    def __init__(self, name: str, source: PairSource, transfer: Mapping[str, Samples]) -> None:
        self._name, self._transfer = name, transfer
        self._hashes = {part: _hashed(sides) for part, sides in source.parts.items()}
        self.notes: list[str] = []
        self._parts = {part: self._merged(part, sides) for part, sides in source.parts.items()}
        self._benchmarks = source.benchmarks

    def splits(self, wanted: Mapping[str, Amount | None], seed: int) -> dict[str, dict[str, Split]]:
        """By name and side."""
        kept = self._without_held_out()
        groups = np.unique(self._parts["train"][IMAGES].groups[kept[IMAGES]])
        groups = groups[np.isin(groups, self._parts["train"][TEXTS].groups[kept[TEXTS]])]
        if not len(groups):
            raise DataError(f"{self._name}: every training pair is also in the validation or test split")
        amounts = {}
        for split, (share, most) in _AMOUNTS.items():
            given = wanted[split]
            if split in self._parts and given is not None:
                raise DataError(
                    f"`{split}: {given}` asks to take it from the training data, but {self._name} has a {split} split "
                    f"of its own; leave `{split}` out"
                )
            if split not in self._parts:
                amounts[split] = given if isinstance(given, int) else max(1, round(len(groups) * (given or share)))
                amounts[split] = amounts[split] if given is not None else min(amounts[split], most)
        carved = carve(self._first_ids(groups), np.zeros(len(groups), np.int64), amounts, seed)
        made = {
            split: {side: self._made(split, "train", side, np.isin(self._groups("train", side), groups[rows])
                                     & kept[side]) for side in (IMAGES, TEXTS)}
            for split, rows in carved.items()
        }  # fmt: skip
        for split in ("validation", "test"):
            if split in self._parts:
                made[split] = {side: self._made(split, split, side, None) for side in (IMAGES, TEXTS)}
        for side, samples in self._transfer.items():
            made.setdefault("transfer", {})[side] = self._unpaired(side, samples, made)
        return made

    def benchmark(self, key: str, sides: Sides, metric: str) -> Pairs:
        require_partners(f"`benchmarks.{key}`", sides)
        hashes = _hashed(sides)
        digest = digest_of([content_digest(one.inputs, one.groups, hashes[side]) for side, one in sides.items()])
        numbered = _numbered({side: one.groups for side, one in sides.items()})
        return Pairs.of({s: one.inputs for s, one in sides.items()}, numbered, f"{BOTH_WAYS}{metric}", digest)

    def seen_before(self, splits: Mapping[str, Mapping[str, Split]]) -> list[str]:
        """Notes on benchmarks whose samples are also trained on."""
        notes = []
        for key, sides in self._benchmarks.items():
            for side, one in sides.items():
                shared = int(np.isin(ids_of(sample_hashes(one.inputs)), splits["train"][side].ids).sum())
                if shared:
                    notes.append(f"`{key}`: {shared} of {len(one.inputs)} {side}s are also in the training split")
        return notes

    def _groups(self, part: str, side: str) -> Rows:
        return self._parts[part][side].groups

    def _merged(self, part: str, sides: Sides) -> Sides:
        """Groups that share an image or a text are one: no split may have what another has."""
        groups = np.concatenate([one.groups for one in sides.values()])
        hashes = np.concatenate([self._hashes[part][side] for side in sides])
        _, content = np.unique(hashes, axis=0, return_inverse=True)
        _, number = np.unique(groups, return_inverse=True)
        found = connected(number.ravel().tolist(), content.ravel().tolist())
        fewer = len(np.unique(groups)) - len(np.unique(found))
        if not fewer:
            return sides
        self.notes.append(
            f"{fewer} {part} groups share an image or a text with others, and were taken for one with them"
        )
        ends = np.cumsum([len(one.groups) for one in sides.values()])[:-1]
        return {
            side: Side(one.inputs, its) for (side, one), its in zip(sides.items(), np.split(found, ends), strict=True)
        }

    def _without_held_out(self) -> dict[str, npt.NDArray[np.bool_]]:
        """Which training samples are in no split that the source has apart."""
        kept = {}
        for side in (IMAGES, TEXTS):
            own = ids_of(self._hashes["train"][side])
            held = [ids_of(self._hashes[part][side]) for part in ("validation", "test") if part in self._parts]
            kept[side] = ~np.isin(own, np.concatenate(held)) if held else np.ones(len(own), np.bool_)
            dropped = int((~kept[side]).sum())
            if dropped:
                self.notes.append(f"{dropped} of {len(own)} training {side}s are also held out, and were left out")
        return kept

    def _first_ids(self, groups: Rows) -> npt.NDArray[np.uint64]:
        """For each group a number that depends on its content alone."""
        ids, own = ids_of(self._hashes["train"][IMAGES]), self._groups("train", IMAGES)
        order = np.lexsort((ids, own))
        first = np.searchsorted(own[order], groups)
        return np.asarray(ids[order][first], np.uint64)

    def _made(self, split: str, part: str, side: str, chosen: npt.NDArray[np.bool_] | None) -> Split:
        whole, hashes = self._parts[part][side], self._hashes[part][side]
        rows = np.arange(len(whole.inputs)) if chosen is None else np.flatnonzero(chosen)
        # In a random order that content alone decides, so that any first part is a fair sample.
        rows = rows[np.lexsort((rows, ids_of(hashes[rows])))]
        inputs, groups, own = whole.inputs[rows], whole.groups[rows], hashes[rows]
        digest = content_digest(inputs, groups, own)
        return Split(split, inputs, groups, ids_of(own), digest, part, rows, len(whole.inputs))

    def _unpaired(self, side: str, samples: Samples, made: Mapping[str, Mapping[str, Split]]) -> Split:
        hashes = sample_hashes(samples)
        ids = ids_of(hashes)
        _, first = np.unique(ids, return_index=True)
        rows = np.sort(first)
        held = np.concatenate([one[side].ids for split, one in made.items() if split != "transfer"])
        rows = rows[~np.isin(ids[rows], held)]
        if len(rows) < len(samples):
            self.notes.append(
                f"{len(samples) - len(rows)} of {len(samples)} unpaired {side}s are copies of others or in other "
                "splits, and were left out"
            )
        if not len(rows):
            raise DataError(f"`transfer`: every {side} is in another split already; leave it out")
        inputs = samples[rows]
        digest = content_digest(inputs, None, hashes, rows)
        return Split("transfer", inputs, None, ids[rows], digest, "transfer", rows, len(samples))


def _hashed(sides: Sides) -> dict[str, Hashes]:
    return {side: sample_hashes(one.inputs) for side, one in sides.items()}


def _pairs(sides: Mapping[str, Split], metric: str) -> Pairs:
    groups = {side: split.targets for side, split in sides.items()}
    numbered = _numbered({side: np.asarray(one, np.int64) for side, one in groups.items()})
    digest = digest_of([split.digest for split in sides.values()])
    return Pairs.of({side: split.inputs for side, split in sides.items()}, numbered, f"{BOTH_WAYS}{metric}", digest)


def _numbered(groups: Mapping[str, Rows]) -> dict[str, Rows]:
    """Numbers from 0, the same ones on both sides."""
    known = np.unique(np.concatenate(list(groups.values())))
    return {side: np.searchsorted(known, one).astype(np.int64) for side, one in groups.items()}
