"""export(): a candidate's model becomes an Artifact, checked against the network it came from."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch

from compresslab.candidate import OnnxModel, TorchModel
from compresslab.digest import digest_file
from compresslab.errors import ArtifactError, DataError
from compresslab.export.compact import compact, to_bytes
from compresslab.export.fidelity import check_fidelity
from compresslab.export.graph_costs import Costs, graph_costs
from compresslab.export.integer_operators import faithful, integer_operators
from compresslab.export.parity import batches_of, check_parity, torch_outputs
from compresslab.export.reading import read_model
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import to_onnx
from compresslab.measure.artifact import Artifact, GraphInfo, Manifest, TensorInfo, write_manifest
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import SessionOptions, open_session

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from compresslab.measure.preprocessing import Preprocessing

GRAPH = "model"
FILE = "model.onnx"
LOGITS, SCORE, EMBEDDING = "logits", "score", "embedding"
_DEFAULT_SESSION = SessionOptions()


def export(
    model: TorchModel | OnnxModel,
    folder: Path,
    *,
    preprocessing: Preprocessing,
    labels: Sequence[str],
    inputs: npt.NDArray[Any],
    provenance: Mapping[str, Any],
    target: str | None = None,
    embedding: bool = False,
    targets: npt.NDArray[Any] | None = None,
    metric: str | None = None,
    session: SessionOptions = _DEFAULT_SESSION,
    tolerance: float = 1e-4,
) -> Artifact:
    """Writes `model.onnx` and `manifest.json` into `folder`; the same model gives the same bytes.

    The graph takes `input` [batch, ...], or `input_ids` [batch, sequence] where it reads ids of tokens, and gives
    `logits` [batch, classes], `embedding` [batch, width], or `score` [batch, 1] where it is neither; an ONNX file keeps
    the names it has. A tokenizer is copied beside it.
    Parameters and multiply-adds are those of the network, before it is rewritten for ONNX Runtime's kernels.

    Args:
        model: Left unchanged. An ONNX file is copied without its debug metadata, and has no parity to check.
        folder: Made if it is not there.
        preprocessing: How samples become inputs.
        labels: Names of the outputs, in order; empty where they are no classes.
        inputs: Real inputs, float32 [n, ...], or int64 [n, seq] of a network that reads texts, n >= 2, on which ONNX
            Runtime and torch must agree.
        provenance: Where the model comes from; plain data.
        target: What the one number of a regression is.
        embedding: Whether the output is an embedding.
        targets: Of the inputs, and
        metric: the name of the task's metric, by which a fake-quantized network is held against its ONNX file; see
            `fidelity.check_fidelity`. Left out, only parity is checked.
        session: How it will be run; decides which kernels are counted as integer. Where the graph has layers in float
            between quantized values, ONNX Runtime is kept from quantizing them by itself.
        tolerance: Largest difference allowed, relative to the scale of the outputs; see `parity.check_parity` for
            quantized networks.

    Raises:
        ModelError: torch's exporter cannot follow the network.
        ParityError: ONNX Runtime and torch disagree; the worst examples are named.
        ArtifactError: An ONNX file that cannot be read or run.
        DataError: Fewer than two inputs.
    """
    if len(inputs) < 2:
        raise DataError(f"export checks the graph on real inputs and needs at least two, but got {len(inputs)}")
    if isinstance(model, OnnxModel):
        network, graph = None, ir.from_proto(read_model(model.path))
    else:
        network = copy.deepcopy(model.module).cpu().eval()
        graph = to_onnx(network, torch.from_numpy(inputs[:2]), output_name(labels, embedding))
    pad_id = preprocessing.pad_id if preprocessing.kind == "text" else None
    costs = _costs(graph, inputs, pad_id)
    if network is not None:
        rewrite(graph)
    compact(graph)
    folder.mkdir(parents=True, exist_ok=True)
    path = _write(folder / FILE, to_bytes(graph))
    session = faithful(path, session)
    kernels = integer_operators(path, session)
    parity = fidelity = None
    if network is not None:
        given = _run(path, inputs, session, pad_id)
        parity = check_parity(
            torch_outputs(network, inputs, pad_id), given, tolerance,
            quantized=kernels.eligible > 0, embedding=embedding,
        )  # fmt: skip
        simulated = model.simulated if isinstance(model, TorchModel) else None
        if simulated is not None and targets is not None and metric is not None:
            simulated = copy.deepcopy(simulated).cpu().eval()
            fidelity = check_fidelity(torch_outputs(simulated, inputs, pad_id), given, targets, metric)
    files = {}
    if preprocessing.kind == "text":
        tokenizer = _write(folder / preprocessing.tokenizer, preprocessing.file.read_bytes())
        files[tokenizer.name] = preprocessing.sha256
        preprocessing = preprocessing.in_folder(folder)
    info = _describe(path, graph)
    manifest = Manifest(
        graphs={GRAPH: info},
        preprocessing=preprocessing,
        labels=tuple(labels),
        target=target,
        embedding=_width(path, info) if embedding else None,
        session=session,
        params=costs.params,
        macs=costs.macs,
        parity=parity,
        fidelity=fidelity,
        integer_operators=kernels,
        files=files,
        provenance=dict(provenance),
    )
    write_manifest(folder, manifest)
    return Artifact(folder, {GRAPH: path}, manifest)


def output_name(labels: Sequence[str], embedding: bool) -> str:
    """What a graph's output is called, by what it is."""
    return LOGITS if labels else EMBEDDING if embedding else SCORE


def _width(path: Path, info: GraphInfo) -> int:
    width = info.outputs[0].shape[-1]
    if not isinstance(width, int):
        raise ArtifactError(
            f"{path}: the width of the embedding is not fixed in the graph ({list(info.outputs[0].shape)}); export it "
            "with a fixed last dimension"
        )
    return width


def _costs(graph: ir.Model, inputs: npt.NDArray[Any], pad_id: int | None) -> Costs:
    """Of one example; of texts one that has as many tokens as these have on average."""
    if pad_id is None:
        return graph_costs(ir.to_proto(graph))
    return graph_costs(ir.to_proto(graph), length=max(1, round(float((inputs != pad_id).sum(axis=1).mean()))))


def _run(path: Path, inputs: npt.NDArray[Any], options: SessionOptions, pad_id: int | None) -> npt.NDArray[np.float32]:
    """float32 [n, ...]: what ONNX Runtime gives."""
    running = open_session(path, options, threads=1)
    (name,) = (value.name for value in running.get_inputs())
    try:
        return np.concatenate([np.asarray(running.run(None, {name: batch})[0]) for batch in batches_of(inputs, pad_id)])
    except RUNTIME_ERRORS as error:
        raise ArtifactError(f"{path}: ONNX Runtime opens the exported graph but cannot run it: {error}") from error


def _write(path: Path, content: bytes) -> Path:
    """Whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(content)
    draft.replace(path)
    return path


def _describe(path: Path, graph: ir.Model) -> GraphInfo:
    return GraphInfo(
        file=path.name,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        opset=graph.opset_imports[""],
        inputs=tuple(_tensor(value) for value in graph.graph.inputs),
        outputs=tuple(_tensor(value) for value in graph.graph.outputs),
    )


def _tensor(value: ir.Value) -> TensorInfo:
    assert value.shape is not None
    assert value.dtype is not None
    shape = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return TensorInfo(name=str(value.name), dtype=value.dtype.numpy().name, shape=shape)
