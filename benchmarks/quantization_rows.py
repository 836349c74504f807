"""The networks of `quantization_backends`, each in float and in every way of quantizing it, and what they get right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.document import of_one_network
from benchmarks.minilm import minilm, package_texts, tokenized
from compresslab.candidate import Candidate, OnnxModel, Step, TorchModel
from compresslab.config import load_pipeline
from compresslab.digest import code_digest, digest_of
from compresslab.distillation import Recipe
from compresslab.export import export
from compresslab.export.compact import compact, to_bytes
from compresslab.export.reading import read_model
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import IDS, to_onnx
from compresslab.measure.artifact import load_artifact
from compresslab.measure.evaluate import predict
from compresslab.measure.session import SessionOptions, open_session
from compresslab.measure.subject import EXAMPLES, Subject, subject_of
from compresslab.models import ModelSpec, Residual, architecture
from compresslab.quantization import (
    QuantizerSettings,
    calibrate,
    convert,
    prepare,
    quantize_dynamic,
    quantize_pt2e,
    quantize_static,
)  # fmt: skip
from compresslab.stage import Context, Stage
from compresslab.stages import Distill, Prune, Quantize, Train
from compresslab.store import Store
from compresslab.tasks import Task
from compresslab.teacher import NetworkTeacher
from compresslab.testing import context

FLOAT, PTQ, QAT = "fp32", "own", "own, QAT"
CELLS = (FLOAT, PTQ, QAT, "onnxruntime", "neural_compressor", "dynamic")
RIVALS = tuple(cell for cell in CELLS if cell not in (FLOAT, QAT))
"""What `backend: {tune: [...]}` would try."""
FILE = "model.onnx"
_PIPELINE = Path(__file__).parent.parent / "pipelines" / "fashion_mnist.yaml"
_NETS = "benchmarks.quantization_nets"


class Row(Protocol):
    """A network of the table."""

    @property
    def trained_for(self) -> str:
        """What its quality is a share of."""

    def build(self, cell: str, seed: int, folder: Path) -> None:
        """Writes `model.onnx` in `folder`; a CompresslabError says why there is none."""

    def hits(self, folder: Path, split: str) -> np.ndarray:
        """Which examples of `validation` or `test` it answers rightly, bool [n]."""

    def subject(self, folder: Path, largest_batch: int) -> Subject:
        """It, as it is timed."""


# -- on images -----------------------------------------------------------------------------------------------------


def images(cache: Path, quick: bool) -> Task:
    """Fashion-MNIST as the main job has it; less of it for a quick run."""
    task = of_one_network(load_pipeline(_PIPELINE).task.load(cache))
    if not quick:
        return task
    splits = dict(task.splits)
    for name, size in (("train", 4096), ("calibration", 256), ("validation", 1000), ("test", 1000)):
        part = splits[name]
        assert part.targets is not None, "all are labelled"
        splits[name] = replace(
            part, inputs=part.inputs[:size], targets=part.targets[:size], ids=part.ids[:size], rows=part.rows[:size]
        )
    return replace(task, splits=splits, digest=digest_of([task.digest, "quick"]))


@dataclass(frozen=True)
class ImageRow:
    """A network on Fashion-MNIST.

    Args:
        name: Of its folder too.
        root: The network before `stages`.
        stages: What makes it what it is; the last one's first candidate is quantized.
        qat: How its QAT is trained, with itself in float as the teacher.
        task: The data.
        folder: What is finished is kept here.
    """

    name: str
    root: ModelSpec
    stages: tuple[Stage, ...]
    qat: Recipe
    task: Task
    folder: Path
    trained_for: str = "images classified"

    @cached_property
    def candidate(self) -> Candidate:
        """The float network, trained once."""
        place = self.folder / "networks" / self.name.replace(" ", "_")
        if not (place / architecture.WEIGHTS).is_file():
            root = self.root.build(self.task.signature, 0)
            made = self._rooted(root)
            for stage in self.stages:
                made = stage.apply(made, self._context("made", 0, root))[0]
            architecture.save(made.network, place)
        return self._rooted(architecture.load(place, self.root.trusted))

    def build(self, cell: str, seed: int, folder: Path) -> None:
        """As `Row` says."""
        network = self.candidate
        if cell != FLOAT:
            stage = self._stage(cell)
            network = stage.apply(network, self._context(cell, seed, network.network))[-1]
        made = network.model
        assert isinstance(made, TorchModel | OnnxModel), "it is one network"
        export(
            made, folder, preprocessing=self.task.preprocessing, labels=self.task.labels,
            inputs=self.task.batch("validation", np.arange(64), None), provenance={},
        )  # fmt: skip

    def hits(self, folder: Path, split: str) -> np.ndarray:
        """As `Row` says."""
        part = self.task.splits[split]
        return np.asarray(predict(load_artifact(folder), part.inputs).argmax(axis=1) == part.targets)

    def subject(self, folder: Path, largest_batch: int) -> Subject:
        """As `Row` says."""
        return subject_of(load_artifact(folder), self.task.splits["validation"].inputs, largest_batch)

    def _stage(self, cell: str) -> Quantize:
        if cell == QAT:
            return Quantize(mode="qat", qat=self.qat)
        return Quantize.model_validate({"backend": cell})

    def _rooted(self, model: TorchModel) -> Candidate:
        return Candidate(model, (Step("baseline", {}, {}, architecture.digest(model)),))

    def _context(self, what: str, seed: int, teacher: TorchModel) -> Context:
        # A training that was cut short must not go on under other code.
        code = code_digest("compresslab.stages.quantize")
        scratch = self.folder / "scratch" / digest_of([self.name, what, seed, architecture.digest(teacher), code])[:16]
        taught = NetworkTeacher(teacher.module, architecture.digest(teacher), self.task, Store(self.folder / ".store"))
        key = digest_of([self.name, what, seed])
        return replace(context(scratch, self.task, seed=seed), teacher=taught, key=key)


def image_rows(folder: Path, quick: bool) -> dict[str, Callable[[], Row]]:
    """The networks on images, by name."""
    task = images(folder / "data", quick)
    teacher = load_pipeline(_PIPELINE).model

    def epochs(count: int) -> int:
        return 1 if quick else count

    def row(name: str, root: ModelSpec, *stages: Stage, **qat: object) -> Callable[[], Row]:
        recipe = Recipe.model_validate({"epochs": epochs(2), "learning_rate": 0.01, "precision": "fp32", **qat})
        return lambda: ImageRow(name, root, stages, recipe, task, folder)

    student = ModelSpec(residual=Residual(widths=(16, 32, 64), strides=(2, 2, 2), blocks=1))
    net = {name: ModelSpec(python=f"{_NETS}:{name}") for name in ("mobilenet", "vision_transformer")}
    adam = {"optimizer": "adamw", "weight_decay": 0.05}
    if quick:
        net["vision_transformer"] = ModelSpec(python=f"{_NETS}:vision_transformer", arguments={"width": 48, "depth": 2})
    rows = {
        "teacher": row("teacher", teacher),
        "pruned teacher": row(
            "pruned teacher", teacher,
            Prune(ratio=0.4, recover=Recipe(epochs=epochs(2), learning_rate=0.03, kd_weight=1.0, task_weight=0.0)),
        ),
        "distilled student": row(
            "distilled student", teacher,
            Distill(student=student, epochs=epochs(8), learning_rate=0.2, kd_weight=1.0, task_weight=0.0),
        ),
        "MobileNetV2-like": row(
            "MobileNetV2-like", net["mobilenet"], Train(epochs=epochs(8), learning_rate=0.1), learning_rate=0.005
        ),
        "ViT-like": row(
            "ViT-like", net["vision_transformer"],
            Train(epochs=epochs(10), learning_rate=1e-3, optimizer="adamw", weight_decay=0.05),
            learning_rate=1e-4, **adam,
        ),
    }  # fmt: skip
    return {name: rows[name] for name in ("distilled student", "ViT-like")} if quick else rows


# -- on sentences --------------------------------------------------------------------------------------------------

_PAIRS: Mapping[str, int] = {"validation": 500, "test": 1000, "calibration": 128, "train": 1600}
_STEPS, _BATCH = 100, 32
# Not `embedding`: the exporter calls a value inside the graph so.
_OUTPUT = "sentence"


@dataclass(frozen=True)
class SentenceRow:
    """MiniLM, judged by whether the synopsis of a package finds its description among all of the split."""

    trained_for: str = "synopses that find their description (recall@1)"
    _texts: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @cached_property
    def network(self) -> nn.Module:
        """In float."""
        return minilm()

    def ids(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Of synopses and descriptions, int64 [n, length] each."""
        if not self._texts:
            pairs, start = package_texts(), 0
            for name, size in _PAIRS.items():
                chosen = pairs[start : start + size]
                start += size
                queries, answers = (tokenized([one[side] for one in chosen]) for side in (0, 1))
                self._texts[name] = queries, answers
        return self._texts[split]

    def build(self, cell: str, seed: int, folder: Path) -> None:
        """As `Row` says."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / FILE
        batches = [torch.from_numpy(rows) for rows in np.split(self._mixed("calibration"), 8)]
        if cell == FLOAT:
            _write(self.network, batches[0], path)
        elif cell in (PTQ, QAT):
            prepared = prepare(self.network, batches[0], QuantizerSettings())
            calibrate(prepared, batches)
            if cell == QAT:
                self._train(prepared, seed)
            _write(convert(prepared), batches[0], path)
        elif cell == "neural_compressor":
            quantize_pt2e(self.network, path, batches, _OUTPUT)
        else:
            floating = folder / "float.onnx"
            _write(self.network, batches[0], floating)
            if cell == "dynamic":
                made = quantize_dynamic(floating, path)
            else:
                made = quantize_static(floating, path, [batch.numpy() for batch in batches])
            floating.unlink()
            _compacted(made)

    def hits(self, folder: Path, split: str) -> np.ndarray:
        """As `Row` says."""
        queries, answers = (self._embedded(folder / FILE, ids) for ids in self.ids(split))
        return np.asarray((queries @ answers.T).argmax(axis=1) == np.arange(len(queries)))

    def subject(self, folder: Path, largest_batch: int) -> Subject:
        """As `Row` says."""
        rows = np.arange(max(EXAMPLES, largest_batch))
        return Subject(
            "MiniLM", {"model": folder / FILE}, SessionOptions(), {"model": {IDS: self._mixed("validation")[rows]}}
        )

    def _mixed(self, split: str) -> np.ndarray:
        return np.stack(self.ids(split), 1).reshape(-1, self.ids(split)[0].shape[1])

    def _embedded(self, path: Path, ids: np.ndarray) -> np.ndarray:
        session = open_session(path, SessionOptions(), threads=torch.get_num_threads())
        return np.concatenate([session.run(None, {IDS: ids[at : at + 16]})[0] for at in range(0, len(ids), 16)])

    def _train(self, prepared: nn.Module, seed: int) -> None:
        """Quantization-aware, towards the embeddings in float."""
        ids = torch.from_numpy(self._mixed("train"))
        generator = torch.Generator().manual_seed(seed)
        parameters = [one for one in prepared.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=2e-5)
        for _ in range(_STEPS):
            chosen = ids[torch.randint(len(ids), (_BATCH,), generator=generator)]
            with torch.no_grad():
                wanted = self.network(chosen)
            loss: Tensor = 1 - functional.cosine_similarity(prepared(chosen), wanted).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def _write(module: nn.Module, example: Tensor, path: Path) -> None:
    graph = to_onnx(module, example[:2], _OUTPUT)
    rewrite(graph)
    compact(graph)
    path.write_bytes(to_bytes(graph))


def _compacted(made: OnnxModel) -> None:
    """As `export` does with graphs of others."""
    graph = ir.from_proto(read_model(made.path))
    compact(graph)
    made.path.write_bytes(to_bytes(graph))
