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
from compresslab.data.image_folder import read_unlabelled
from compresslab.data.many_texts import texts_of_files
from compresslab.data.pairs import IMAGES, TEXTS, PairSource, Side, from_function, from_tables
from compresslab.errors import DataError, ModelError
from compresslab.measure.preprocessing import Fit
from compresslab.one_of import the_one
from compresslab.settings import FilePath, Settings
from compresslab.tasks.benchmark import too_few
from compresslab.tasks.image_classification import image_preprocessing
from compresslab.tasks.objective import Embeddings
from compresslab.tasks.paired_splits import AMOUNTS, PairedSplits, pairs_of
from compresslab.tasks.places import Amount
from compresslab.tasks.standardising import feature_preprocessing
from compresslab.tasks.task import Task
from compresslab.tasks.text_data import ReadsTexts, preprocessing_of
from compresslab.tasks.text_notes import split_notes, text_notes
from compresslab.tasks.tokens import Tokens
from compresslab.tasks.towers_task import TowersTask
from compresslab.user_code import CodeReference

if TYPE_CHECKING:
    import numpy.typing as npt

    from compresslab.measure.preprocessing import Preprocessing, Samples
    from compresslab.measure.text_preprocessing import Texts
    from compresslab.models.image_reading import ImageReading
    from compresslab.models.text_reading import TextReading
    from compresslab.store import Store

    Rows = npt.NDArray[np.int64]
    Sides = Mapping[str, Side]

SOURCES = ("pairs", "python")
_Name = Annotated[str, Field(pattern=r"^[^/\s]+$")]
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
        data = PairedSplits(name, source, self._transfer(source, decoding, cache, store))
        splits = data.splits({key: getattr(self, key) for key in AMOUNTS}, self.split_seed)
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
            splits={split: pairs_of(splits[split], self.metric) for split in ("validation", "test")},
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
