"""Labelled data given on the command line, as a model's own preprocessing takes it."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from compresslab.data.arrays import Arrays
from compresslab.data.decoding import Decoding
from compresslab.data.features import load_table_npz
from compresslab.data.grouped import load_grouped_npz
from compresslab.data.image_folder import load_image_folder
from compresslab.data.npz import load_npz
from compresslab.data.pairs import IMAGES, TEXTS, from_tables, require_partners
from compresslab.data.table_rows import table_rows
from compresslab.data.text_groups import no_column, pairs_of_file, scored_pairs_of_file
from compresslab.data.text_rows import read_rows
from compresslab.data.texts import classes, scores
from compresslab.errors import BadInput, DataError, did_you_mean
from compresslab.measure.evaluate import EvalSplit
from compresslab.measure.tower_samples import TowerSamples

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compresslab.measure.artifact import Artifact, Manifest
    from compresslab.measure.preprocessing import ImagePreprocessing, Samples

P = TypeVar("P")
Columns: TypeAlias = "Mapping[str, str]"
"""What columns of a table are called, by what they are: `text`, `label`, `target`, `query`, `document`, `score`."""
AS_THEY_ARE: Columns = {}


def labelled_data(path: Path, artifact: Artifact, columns: Columns = AS_THEY_ARE) -> tuple[EvalSplit, str]:
    """The samples and targets of a file or an image folder; and a note of which part was taken.

    Images and features are in an .npz file or an image folder. Texts are in a table's column `text`, their classes in
    `label`, a number in what it is called or else in `score`. For embeddings of texts a row is a `query` and its
    `document`, and with a `score` a pair that people scored; for two towers it is an `image` and its `text`. Where
    there are several parts, `test` is taken, else `validation`. Labels with names are matched with the model's by name.

    Raises:
        BadInput: `columns` names something that the model has no column for.
        DataError: The data is missing, broken, or not what the model was made for.
    """
    manifest = artifact.manifest
    preprocessing = manifest.preprocessing
    _require_known(columns, manifest)
    if manifest.towers:
        part, split = _pictures_and_texts(path, manifest)
    elif manifest.embedding is not None and preprocessing.kind == "features":
        part, split = _groups(path)
    elif manifest.embedding is not None and preprocessing.kind == "text":
        part, split = _text_pairs(path, columns)
    elif preprocessing.kind == "text":
        part, split = _texts(path, manifest, columns)
    elif preprocessing.kind == "features":
        part, split = _features(path)
    else:
        part, arrays = _images(path, preprocessing)
        split = EvalSplit("data", arrays.inputs, _by_name(path, arrays, manifest.labels))
    note = f"quality on {part} of {path}: {len(split.targets)} examples{_cut(split, manifest)}"
    return split, note


def samples_of(
    path: Path, artifact: Artifact, graph: str | None = None, columns: Columns = AS_THEY_ARE
) -> Samples | TowerSamples:
    """Samples to time a model with: those of `labelled_data`; or texts alone, which need no labels.

    Args:
        path: A file or an image folder; for one graph that reads texts also a .txt file with a text a line.
        artifact: The model.
        graph: Which of its graphs is timed; None for all.
        columns: As `labelled_data`.

    Raises:
        BadInput: As `labelled_data`.
        DataError: As `labelled_data`.
    """
    one = artifact if graph is None else artifact.only(graph)
    if len(one.graphs) == 1 and one.manifest.preprocessing.kind == "text":
        lines = path.suffix.lower() == ".txt"
        if lines or (artifact.manifest.embedding is None and not artifact.manifest.towers):
            return read_rows(path, columns.get("text", "text"), None).texts
    return labelled_data(path, artifact, columns)[0].inputs


def require_same_answers(this: Artifact, other: Artifact, names: tuple[str, str]) -> None:
    """Refuses to compare the quality of models whose answers mean different things.

    Raises:
        BadInput: They do not have the same labels in the same order, or one embeds and the other does not.
    """
    ours, theirs = this.manifest, other.manifest
    if (ours.embedding is None) != (theirs.embedding is None) or bool(ours.towers) != bool(theirs.towers):
        raise BadInput(f"{names[0]} and {names[1]} give answers of different kinds, so their quality does not compare")
    if ours.labels != theirs.labels:
        told = ", but ".join(f"{name} has the labels {', '.join(one.labels)}" for name, one in
                             zip(names, (ours, theirs), strict=True))  # fmt: skip
        raise BadInput(f"{told}; quality compares only between models with the same labels in the same order")


def _known_columns(manifest: Manifest) -> tuple[str, ...]:
    if manifest.towers or manifest.preprocessing.kind != "text":
        return ()
    if manifest.embedding is not None:
        return ("query", "document", "score")
    return ("text", "label" if manifest.labels else "target")


def _require_known(columns: Columns, manifest: Manifest) -> None:
    known = _known_columns(manifest)
    for name in columns:
        if name in known:
            continue
        if not known:
            what = "a table of `image` and `text`" if manifest.towers else "no table"
            raise BadInput(f"--column {name}: data for this model is {what}, whose columns have no other names")
        raise BadInput(f"--column {name}: this model reads {' and '.join(known)}{did_you_mean(name, known)}")


def _cut(split: EvalSplit, manifest: Manifest) -> str:
    """How many of the texts are longer than what the model reads."""
    for graph in manifest.graphs:
        how = manifest.preprocessing_of(graph)
        if how.kind == "text":
            texts: np.ndarray[Any, Any] = (
                split.inputs.parts[graph] if isinstance(split.inputs, TowerSamples) else split.inputs
            )
            long = int((how.lengths(texts) > how.max_length).sum())
            if long:
                return f", {long} of them longer than the {how.max_length} tokens that are read, and cut"
    return ""


def _features(path: Path) -> tuple[str, EvalSplit]:
    if path.is_dir():
        raise DataError(f"{path}: is a folder, but the model reads features; give an .npz file with `features`")
    part, table = _part(load_table_npz(path).parts)
    return part, EvalSplit("data", table.inputs, table.targets)


def _groups(path: Path) -> tuple[str, EvalSplit]:
    part, grouped = _part(load_grouped_npz(path))
    if grouped.targets is None:
        raise DataError(f"{path}: the model gives embeddings; give `groups` or `scores` beside `features`")
    return part, EvalSplit("data", grouped.inputs, grouped.targets)


def _text_pairs(path: Path, columns: Columns) -> tuple[str, EvalSplit]:
    query, document, score = (columns.get(name, name) for name in ("query", "document", "score"))
    _, first = next(iter(table_rows(path, [query, document], no_column)), (0, {}))
    if score in first or "score" in columns:
        pairs, part = scored_pairs_of_file(path, query, document, score), "all scored pairs"
    else:
        pairs, part = pairs_of_file(path, query, document), "all"
    assert pairs.targets is not None, "a file of pairs has groups or scores"
    return part, EvalSplit("data", pairs.inputs, pairs.targets)


def _pictures_and_texts(path: Path, manifest: Manifest) -> tuple[str, EvalSplit]:
    how = manifest.preprocessing_of(IMAGES)
    if how.kind != "image" or manifest.preprocessing_of(TEXTS).kind != "text" or how.height != how.width:
        raise DataError(
            f"{path}: tables are read for a tower of square images and one of texts, but this model takes other inputs"
        )
    decoding = Decoding(how.height, how.channels, how.resize, how.crop)
    with TemporaryDirectory(prefix="compresslab-gate-") as cache:
        part, sides = _part(from_tables(path, {}, decoding, Path(cache)).parts)
        require_partners(str(path), sides)
        # Out of the memory map, which goes with the folder.
        images = np.array(sides[IMAGES].inputs)
    targets = np.concatenate([sides[IMAGES].groups, -(sides[TEXTS].groups + 1)])
    return part, EvalSplit("data", TowerSamples({IMAGES: images, TEXTS: sides[TEXTS].inputs}), targets)


def _texts(path: Path, manifest: Manifest, columns: Columns) -> tuple[str, EvalSplit]:
    value = columns.get("label", "label") if manifest.labels else columns.get("target", manifest.target or "score")
    rows = read_rows(path, columns.get("text", "text"), value)
    if not manifest.labels:
        return "all", EvalSplit("data", rows.texts, scores(rows))
    labels, targets = classes({"data": rows}, manifest.labels)
    arrays = Arrays(np.empty(0, np.uint8), targets["data"], labels)
    return "all", EvalSplit("data", rows.texts, _by_name(path, arrays, manifest.labels))


def _images(path: Path, preprocessing: ImagePreprocessing) -> tuple[str, Arrays]:
    if not path.is_dir():
        return _part(load_npz(path).parts)
    if preprocessing.height != preprocessing.width:
        raise DataError(
            f"{path}: the model takes images of {preprocessing.height} x {preprocessing.width}; folders are read "
            "as squares only, so give an .npz file"
        )
    decoding = Decoding(
        preprocessing.height, preprocessing.channels, preprocessing.resize, preprocessing.crop, preprocessing.fit
    )
    with TemporaryDirectory(prefix="compresslab-gate-") as cache:
        part, arrays = _part(load_image_folder(path, decoding, Path(cache)).parts)
        # Out of the memory map, which goes with the folder.
        return part, Arrays(np.array(arrays.inputs), arrays.targets, arrays.labels)


def _part(parts: Mapping[str, P]) -> tuple[str, P]:
    name = next(name for name in ("test", "validation", "train") if name in parts)
    return ("all" if len(parts) == 1 else f"`{name}`"), parts[name]


def _by_name(path: Path, arrays: Arrays, labels: tuple[str, ...]) -> np.ndarray:
    """The targets as indices of the model's labels. Labels without names are numbers, and indices already."""
    assert arrays.targets is not None, "both loaders refuse images without labels"
    if all(name == str(index) for index, name in enumerate(arrays.labels)):
        return arrays.targets
    unknown = [name for name in arrays.labels if name not in labels]
    if unknown:
        raise DataError(
            f"{path}: the model has no label `{unknown[0]}`{did_you_mean(unknown[0], labels)} "
            f"Its labels are {', '.join(labels)}"
        )
    return np.array([labels.index(name) for name in arrays.labels], np.int64)[arrays.targets]
