"""export_bundle(): from a bundle to what a server loads."""

from __future__ import annotations

import json
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal

from compresslab.bundle.folder import new_folder
from compresslab.bundle.sealing import CARD_FILE, seal
from compresslab.errors import BadInput
from compresslab.measure.artifact import copy_tokenizer
from compresslab.serving.mlserver_layout import MODEL_SETTINGS, SETTINGS, server_settings, write_mlserver
from compresslab.serving.naming import served_names
from compresslab.serving.optimum_kinds import optimum_kind
from compresslab.serving.optimum_layout import write_optimum
from compresslab.serving.part import Part
from compresslab.serving.plan import ServingPlan, plan
from compresslab.serving.server_card import server_card
from compresslab.serving.texts import AT_MLSERVER, at_triton, reads_texts
from compresslab.serving.triton_layout import CONFIG, Backend, write_triton
from compresslab.store import storage_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from compresslab.measure.artifact import Artifact
    from compresslab.measure.measurement import Latency
    from compresslab.measure.preprocessing import PixelInput

Format = Literal["triton", "mlserver", "onnx", "optimum"]


@dataclass(frozen=True)
class Exported:
    """What was written: each served model's folder by its name, how it is to run, and what the user must know of it.

    Of `onnx` it is one bundle, and of `optimum` one a graph; no server is set up then.

    Attributes:
        folder: The bundle, or what the models' folders are in.
        models: Each served model's folder, by its name.
        plans: How each is to run.
        folded_difference: The largest difference of an output with the normalization in the graph; None without.
        notes: What the user must know.
        loaded_by: Of `optimum` the class that loads each folder.
    """

    folder: Path
    models: dict[str, Path]
    plans: dict[str, ServingPlan]
    folded_difference: float | None
    notes: tuple[str, ...] = ()
    loaded_by: Mapping[Path, str] = field(default_factory=dict)


def export_bundle(
    artifact: Artifact,
    out: Path,
    to: Format,
    *,
    name: str | None = None,
    backend: Backend = "onnxruntime",
    fold: PixelInput | None = None,
    latencies: Sequence[Latency] | None = None,
    cores: int = 1,
    max_batch: int = 64,
) -> Exported:
    """Writes a bundle in the layout of a server.

    Every model's folder appears whole, and replaces an earlier export of that model and nothing else: a repository may
    hold other models.

    Args:
        artifact: The bundle, or any exported model; was checked against its hashes when it was loaded.
        out: Triton's model repository, the folder that MLServer starts in, or else the new bundle.
        to: The layout.
        name: What servers call the model; default the pipeline's. Of several graphs each has its own behind a hyphen.
        backend: Triton's.
        fold: Puts the normalization into the graph, which takes such pixels then; None leaves it with the client.
        latencies: What the server is set up from; None for what the bundle has.
        cores: Of the machine that serves.
        max_batch: Examples that one request may have.

    Raises:
        BadInput: The name does not do, `out` holds something else, or the format cannot have what is asked for.
        ArtifactError: A tensor has a type that is not served.
        ParityError: Folding would change the outputs.
        StoreError: The disk is full, or may not be written.
    """
    names = served_names(artifact, name)
    if to == "optimum":
        if fold is not None:
            raise BadInput("`--fold-preprocessing` is for servers: transformers' processors normalize by themselves")
        return _export_optimum(artifact, out, names)
    with _perhaps_folded(artifact, fold) as (source, difference):
        known = source.manifest.latency if latencies is None else latencies
        plans = {graph: plan(graph, known, cores, max_batch) for graph in names}
        parts = [Part(source, graph, served, plans[graph]) for graph, served in names.items()]
        if to == "onnx":
            _write_onnx(source, out, name or next(iter(names.values())), folded=fold is not None)
            return Exported(out, {}, {}, difference)
        for part in parts:
            if to == "triton":
                with new_folder(out / part.name, sign=CONFIG, what="Triton model") as draft:
                    write_triton(part, draft, backend)
            else:
                with new_folder(out / part.name, sign=MODEL_SETTINGS, what="MLServer model") as draft:
                    write_mlserver(part, draft)
        if to == "mlserver":
            _write_settings(out)
    models = {part.name: out / part.name for part in parts}
    notes = tuple(f"{part.name}: {AT_MLSERVER if to == 'mlserver' else at_triton(source.manifest, part.graph)}"
                  for part in parts if reads_texts(source.manifest, part.graph))  # fmt: skip
    return Exported(out, models, {part.name: part.plan for part in parts}, difference, notes)


def _export_optimum(artifact: Artifact, out: Path, names: Mapping[str, str]) -> Exported:
    """One folder, or of two towers one each: Optimum's classes run one graph, and one space is all they share."""
    if artifact.manifest.towers and len(names) > 1:
        parts = {out / served: (artifact.only(graph), served) for graph, served in names.items()}
    else:
        parts = {out: (artifact, next(iter(names.values())))}
    kinds = {folder: optimum_kind(part) for folder, (part, _) in parts.items()}
    notes: list[str] = []
    for folder, (part, served) in parts.items():
        with new_folder(folder) as draft:
            found = write_optimum(part, draft, served, kinds[folder])
        notes += found if folder == out else [f"{served}: {one}" for one in found]
    return Exported(out, {}, {}, None, tuple(notes), {folder: kind.loader for folder, kind in kinds.items()})


@contextmanager
def _perhaps_folded(artifact: Artifact, pixels: PixelInput | None) -> Iterator[tuple[Artifact, float | None]]:
    if pixels is None:
        yield artifact, None
        return
    try:
        from compresslab.serving.fold import fold
    except ModuleNotFoundError as error:
        raise BadInput(
            f"`--fold-preprocessing` rewrites the graph with the package {error.name}, which is not installed: "
            "`pip install onnx`"
        ) from error
    with TemporaryDirectory(prefix="compresslab-fold-") as folder:
        yield fold(artifact, pixels, Path(folder))


def _write_onnx(artifact: Artifact, out: Path, name: str, *, folded: bool) -> None:
    """The bundle as it is, model card and all; of a folded graph with a card of its own, as it was not measured."""
    manifest = artifact.manifest
    with new_folder(out) as draft:
        for graph, source in artifact.graphs.items():
            shutil.copyfile(source, draft / manifest.graphs[graph].file)
        copy_tokenizer(artifact, draft)
        card = None if folded else artifact.folder / CARD_FILE
        told = server_card(name, manifest) if card is None or not card.is_file() else card.read_text(encoding="utf-8")
        seal(draft, manifest, told)


def _write_settings(out: Path) -> None:
    """The server's settings are the user's as soon as they are there: another export leaves them."""
    path = out / SETTINGS
    with storage_errors(out):
        if not path.exists():
            path.write_text(json.dumps(server_settings(), indent=2) + "\n", encoding="utf-8")
