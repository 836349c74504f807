"""The reference client: from files to answers, by the bundle alone, with numpy, Pillow and ONNX Runtime."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os.path import isfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image

from compresslab.errors import ArtifactError, BadInput, DataError, did_you_mean
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import open_session
from compresslab.measure.text_preprocessing import as_texts

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from compresslab.measure.artifact import Artifact, GraphInfo, TensorInfo

Tensors = Mapping[str, npt.NDArray[Any]]

_ROWS = 64
"""At once, of a file that has many."""
_UNREADABLE = (OSError, ValueError, EOFError, MemoryError, BadZipFile, zlib.error)
"""What numpy raises for files that are cut off, that lie about their size, or that hold objects."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one example.

    Attributes:
        source: The file that it comes from.
        row: Its place in a file of many; None for an image.
        outputs: What the graph gave, by the output's name, without the batch axis.
        labels: Each label with its probability, the most probable first; empty for a graph that does not classify.
        score: What the one number of the output is, and its value; None for a graph that gives something else.
    """

    source: str
    row: int | None
    outputs: Tensors
    labels: tuple[tuple[str, float], ...] = ()
    score: tuple[str, float] | None = None

    def plain(self, top: int) -> dict[str, Any]:
        """For `json.dumps`: the most probable labels, or the score, or the outputs where there is neither."""
        found: dict[str, Any] = {"input": self.source} | ({} if self.row is None else {"row": self.row})
        if self.labels:
            best = [{"label": label, "probability": round(share, 6)} for label, share in self.labels[:top]]
            return {**found, "labels": best}
        if self.score is not None:
            return {**found, "target": self.score[0], "value": self.score[1]}
        return {**found, "outputs": {name: output.tolist() for name, output in self.outputs.items()}}


def choose_graph(artifact: Artifact, name: str | None) -> str:
    """The graph of this name, or the only one.

    Raises:
        BadInput: There is none of this name, or there are several and none is named.
    """
    graphs = list(artifact.graphs)
    if name is None and len(graphs) == 1:
        return graphs[0]
    if name is None:
        raise BadInput(f"{artifact.folder}: it has several graphs, so name one: --graph {' or '.join(graphs)}")
    if name not in graphs:
        raise BadInput(
            f"{artifact.folder}: there is no graph `{name}`{did_you_mean(name, graphs)}; it has {', '.join(graphs)}"
        )
    return name


def predictions(
    artifact: Artifact, graph: str, sources: Sequence[Path | str], threads: int = 1
) -> Iterator[Prediction]:
    """One answer an example, in order.

    Args:
        artifact: A bundle, or any exported model.
        graph: Which of its graphs.
        sources: What the preprocessing takes: images or folders of them, or `.npy` with pixels (uint8) or with rows of
            features; a text itself, or `.txt` with one a line; or what the graph itself takes: `.npy` of an image
            model's input, or `.npz` with an array for each input, by its name.
        threads: Inside an operator.

    Raises:
        DataError: A file is missing, broken, or not what the graph takes.
        ArtifactError: The graph does not run on what its manifest says that it takes, or gives NaN or infinity.
    """
    artifact = artifact.only(graph)
    info = artifact.manifest.graphs[graph]
    session = open_session(artifact.graphs[graph], artifact.manifest.session, threads)
    names = [output.name for output in info.outputs]
    how = artifact.manifest.preprocessing
    for given in _listed(sources) if how.kind == "image" else sources:
        if how.kind == "text" and (texts := _texts(str(given))) is not None:
            yield from _of_texts(artifact, info, session, str(given), texts)
            continue
        source = Path(given)
        many, tensors = _read(artifact, info, source)
        count = len(next(iter(tensors.values())))
        for start in range(0, count, _at_once(info, count, source)):
            part = {name: array[start : start + _at_once(info, count, source)] for name, array in tensors.items()}
            try:
                outputs = dict(zip(names, session.run(names, part), strict=True))
            except RUNTIME_ERRORS as error:
                raise ArtifactError(f"{source}: `{info.file}` does not run on it ({error})") from error
            rows = len(next(iter(part.values())))
            for row in range(rows):
                answer = {
                    name: np.asarray(output[row] if output.shape[:1] == (rows,) else output)
                    for name, output in outputs.items()
                }
                yield _prediction(artifact, str(source), start + row if many else None, answer)


def _listed(sources: Sequence[Path | str]) -> Iterator[Path | str]:
    """The sources, a folder as the images directly in it, by name."""
    for source in sources:
        folder = Path(source)
        if not folder.is_dir():
            yield source
            continue
        suffixes = Image.registered_extensions()
        images = sorted(one for one in folder.iterdir() if one.is_file() and one.suffix.lower() in suffixes)
        if not images:
            raise DataError(f"{folder}: has no images")
        yield from images


def reading_notes(artifact: Artifact, sources: Sequence[Path | str]) -> tuple[str, ...]:
    """What the user should know of the texts given: what is cut off them, and what the model does not know in them.

    Raises:
        DataError: A file cannot be read.
    """
    how = artifact.manifest.preprocessing
    if how.kind != "text":
        return ()
    given = [text for source in sources for text in _texts(str(source)) or ()]
    texts, notes = as_texts(given), []
    long = int((how.lengths(texts) > how.max_length).sum())
    if long:
        notes.append(f"{long} of {len(given)} texts are longer than what the model reads, and were cut")
    strange, share = how.unknown(how.model_copy(update={"truncate": True}).encode(texts))
    if strange:
        notes.append(
            f"{strange} of {len(given)} texts have parts that the model's vocabulary does not have, "
            f"{100 * share:.1f} % of all tokens, and those say nothing to it"
        )
    return tuple(notes)


def _texts(given: str) -> list[str] | None:
    """The lines of a .txt file, or what was given as the one text; None for a file of tensors."""
    path = Path(given)
    if path.suffix.lower() in (".npy", ".npz"):
        return None
    if path.suffix.lower() != ".txt":
        if path.suffix and isfile(given):  # noqa: PTH113  a text that is too long to be a path is no error to it
            raise DataError(
                f"{given}: is a file, not a text; give a text itself, or a .txt file with one a line; of a table take "
                "the column of its texts"
            )
        try:
            given.encode()
        except UnicodeEncodeError as error:  # bytes of a command line that are no UTF-8, or what JSON spelled
            raise DataError(f"{given!a}: is not UTF-8; give the text as UTF-8, or in a .txt file") from error
        return [given]
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{given}: cannot be read as lines of UTF-8 text ({error})") from error
    if not any(line.strip() for line in lines):
        raise DataError(f"{given}: has no text")
    return [line for line in lines if line.strip()]


def _of_texts(
    artifact: Artifact, info: GraphInfo, session: InferenceSession, source: str, texts: list[str]
) -> Iterator[Prediction]:
    how = artifact.manifest.preprocessing
    assert how.kind == "text", "asked for by the caller"
    for row, length in enumerate(how.lengths(as_texts(texts))):
        if length <= how.around:
            raise DataError(
                f"{texts[row]!r} is empty, or nothing in it is read, so it has no answer; give a text with words, or a "
                ".txt file with a text a line"
            )
    names = [output.name for output in info.outputs]
    many = Path(source).suffix.lower() == ".txt"
    for start in range(0, len(texts), _ROWS):
        part = texts[start : start + _ROWS]
        try:
            outputs = session.run(names, {_only_input(info, Path(source)).name: how.graph_input(as_texts(part))})
        except RUNTIME_ERRORS as error:
            raise ArtifactError(f"{source}: `{info.file}` does not run on it ({error})") from error
        for row in range(len(part)):
            answer = {name: np.asarray(output[row]) for name, output in zip(names, outputs, strict=True)}
            yield _prediction(artifact, source, start + row if many else None, answer)


def _prediction(artifact: Artifact, source: str, row: int | None, outputs: Tensors) -> Prediction:
    for name, output in outputs.items():
        if np.issubdtype(output.dtype, np.floating) and not np.isfinite(output).all():
            raise ArtifactError(f"{source}: the output `{name}` is NaN or infinite; check the input, and the bundle")
    labels, scores, target = artifact.manifest.labels, next(iter(outputs.values())), artifact.manifest.target
    if target is not None and scores.size == 1:
        return Prediction(source, row, outputs, score=(target, float(scores.item())))
    if not labels or scores.shape != (len(labels),):
        return Prediction(source, row, outputs)
    shares = np.exp(scores.astype(np.float64) - scores.max())
    shares /= shares.sum()
    best = np.argsort(-shares, kind="stable")
    return Prediction(source, row, outputs, tuple((labels[index], float(shares[index])) for index in best))


def _read(artifact: Artifact, info: GraphInfo, source: Path) -> tuple[bool, Tensors]:
    """Whether the file may hold several examples, and what the graph is fed."""
    match source.suffix.lower():
        case ".npy":
            return True, {info.inputs[0].name: _of_array(artifact, info, source, _array(source))}
        case ".npz":
            return True, _of_arrays(info, source)
        case _:
            how = artifact.manifest.preprocessing
            if how.kind == "features":
                raise DataError(f"{source}: the model takes {how.width} {how.kind}; give rows of them as an .npy file")
            assert how.kind == "image", "texts were read before"
            return False, {_only_input(info, source).name: how.graph_input(how.open(source)[np.newaxis])}


def _of_array(artifact: Artifact, info: GraphInfo, source: Path, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    taken, how = _only_input(info, source), artifact.manifest.preprocessing
    if how.kind == "features":
        try:
            return how.graph_input(array[np.newaxis] if array.ndim == 1 else array)
        except DataError as error:
            raise DataError(f"{source}: {error}") from error
    if how.kind == "image" and array.dtype == np.uint8:
        sides = (how.height, how.width)
        if how.channels == 1 and array.shape[-2:] == sides:
            array = array[..., np.newaxis]
        if array.shape == (*sides, how.channels):
            array = array[np.newaxis]
        if array.ndim == 4 and array.shape[1:] == (*sides, how.channels):
            return how.graph_input(array)
    _require(source, taken, array)
    return array


def _of_arrays(info: GraphInfo, source: Path) -> Tensors:
    try:
        # Opened here: numpy leaves a file open that it cannot read.
        with source.open("rb") as opened:
            file = np.load(opened, allow_pickle=False)
            arrays = {} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except _UNREADABLE as error:
        raise DataError(f"{source}: cannot be read as an .npz file of plain arrays ({error})") from error
    names = [tensor.name for tensor in info.inputs]
    if sorted(arrays) != sorted(names):
        raise DataError(
            f"{source}: it has the arrays {', '.join(arrays) or '(none)'}, but the graph takes {', '.join(names)}"
        )
    for tensor in info.inputs:
        _require(source, tensor, arrays[tensor.name])
    if len({len(array) for array in arrays.values()}) != 1:
        raise DataError(f"{source}: its arrays have different numbers of rows")
    return arrays


def _array(source: Path) -> npt.NDArray[Any]:
    try:
        with source.open("rb") as opened:
            loaded = np.load(opened, allow_pickle=False)
    except _UNREADABLE as error:
        raise DataError(f"{source}: cannot be read as an .npy file of a plain array ({error})") from error
    if not isinstance(loaded, np.ndarray):
        raise DataError(f"{source}: this is an archive of arrays; name it .npz")
    return loaded


def _require(source: Path, taken: TensorInfo, array: npt.NDArray[Any]) -> None:
    fits = array.ndim == len(taken.shape) > 0 and all(
        isinstance(size, str) or size == found for size, found in zip(taken.shape[1:], array.shape[1:], strict=True)
    )
    if not fits or array.dtype != np.dtype(taken.dtype) or len(array) == 0:
        raise DataError(
            f"{source}: `{taken.name}` must be {taken.dtype} {list(taken.shape)}, or an image model's pixels as uint8, "
            f"but got {array.dtype} {list(array.shape)}"
        )
    if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
        raise DataError(f"{source}: it has NaN or infinity; no answer would mean anything")


def _only_input(info: GraphInfo, source: Path) -> TensorInfo:
    if len(info.inputs) != 1:
        names = ", ".join(tensor.name for tensor in info.inputs)
        raise DataError(f"{source}: the graph takes several inputs, {names}; give an .npz file with an array for each")
    return info.inputs[0]


def _at_once(info: GraphInfo, count: int, source: Path) -> int:
    size = info.inputs[0].shape[0]
    if isinstance(size, str):
        return _ROWS
    if count % size:
        raise DataError(f"{source}: the graph takes {size} examples a call, but there are {count}; give a multiple")
    return size
