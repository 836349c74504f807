"""Several exported networks that embed in one space as one artifact: a graph each, and one manifest."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from compresslab.errors import ArtifactError
from compresslab.measure.artifact import Artifact, Manifest, TowerInfo, write_manifest
from compresslab.measure.measurement import IntegerOperators, Parity
from compresslab.measure.session import SessionOptions

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def join_towers(parts: Mapping[str, Artifact], folder: Path, provenance: Mapping[str, Any]) -> Artifact:
    """Writes `NAME.onnx` for each part, their other files, and `manifest.json` into `folder`.

    Figures of the whole are sums, and the parity is that of the worst; each graph's own are in `manifest.towers`. What
    keeps one graph faithful (see `export.integer_operators`) holds for all, as they are opened alike.

    Args:
        parts: By name, each with one graph.
        folder: Made if it is not there.
        provenance: Where they come from; plain data.

    Raises:
        ArtifactError: Two parts have different files of one name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graphs, towers = {}, {}
    files: dict[str, str] = {}
    for name, part in parts.items():
        ((inner, path),) = part.graphs.items()
        shutil.copyfile(path, folder / f"{name}.onnx")
        graphs[name] = part.manifest.graphs[inner].model_copy(update={"file": f"{name}.onnx"})
        how = part.manifest.preprocessing
        towers[name] = TowerInfo(
            preprocessing=how.in_folder(folder) if how.kind == "text" else how,
            params=part.manifest.params,
            macs=part.manifest.macs,
            parity=part.manifest.parity,
            fidelity=part.manifest.fidelity,
            integer_operators=part.manifest.integer_operators,
        )
        for file, sha256 in part.manifest.files.items():
            if files.setdefault(file, sha256) != sha256:
                raise ArtifactError(f"`{file}` of `{name}` is not that of another tower; name one of them otherwise")
            shutil.copyfile(part.folder / file, folder / file)
    manifest = Manifest(
        graphs=graphs,
        preprocessing=next(iter(towers.values())).preprocessing,
        towers=towers,
        labels=(),
        embedding=_width(parts),
        session=_session([part.manifest.session for part in parts.values()]),
        params=sum(one.params for one in towers.values()),
        macs=sum(one.macs for one in towers.values()),
        parity=_worst([one.parity for one in towers.values()]),
        integer_operators=summed({name: one.integer_operators for name, one in towers.items()}),
        files=files,
        provenance=dict(provenance),
    )
    write_manifest(folder, manifest)
    return Artifact(folder, {name: folder / info.file for name, info in graphs.items()}, manifest)


def _width(parts: Mapping[str, Artifact]) -> int | None:
    widths = {part.manifest.embedding for part in parts.values()}
    return widths.pop() if len(widths) == 1 else None


def _session(options: Sequence[SessionOptions]) -> SessionOptions:
    disabled = dict.fromkeys(name for one in options for name in one.disabled_optimizers)
    return options[0].model_copy(update={"disabled_optimizers": tuple(disabled)})


def _worst(parities: Sequence[Parity | None]) -> Parity | None:
    known = [one for one in parities if one is not None]
    if not known:
        return None
    return Parity(max(one.max_abs_diff for one in known), min(one.n for one in known))


def summed(found: Mapping[str, IntegerOperators]) -> IntegerOperators:
    """Of several graphs together, each line with the name of its own."""
    return IntegerOperators(
        sum(one.eligible for one in found.values()),
        sum(one.integer for one in found.values()),
        tuple(f"{name}: {line}" for name, one in found.items() for line in one.floating),
    )
