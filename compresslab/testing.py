"""For people who write stages: a tiny task, a context to call `apply` with, and the contract every stage keeps.

Derive a class from `StageContract` in a test file and give it your stage:
`class TestMine(StageContract): stage = Mine()`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from compresslab.candidate import Candidate, Step, TorchModel, Towers
from compresslab.digest import digest_of
from compresslab.export import export
from compresslab.measure.budget import BudgetResult
from compresslab.measure.measurement import Estimate, Measurement
from compresslab.models import Mlp, ModelSpec, Residual, Signature
from compresslab.models.architecture import digest
from compresslab.progress import Silent
from compresslab.pruning import Timing, layers_of
from compresslab.pruning.costs import Beside
from compresslab.stage import Assessment, Context, Stage
from compresslab.store import Store
from compresslab.tasks import EmbeddingTask, ImageClassification, Task
from compresslab.teacher import NetworkTeacher

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from compresslab.pruning import Precision
    from compresslab.pruning.geometry import Sized

CLASSES = 3


def stripes(samples: int = 480, size: int = 12, seed: int = 0) -> dict[str, np.ndarray]:
    """Images of horizontal, vertical and diagonal stripes with noise: a task that a tiny network learns in seconds.

    The names are those of an .npz file for `ImageClassification(npz=...)`.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(samples, dtype=np.int64) % CLASSES
    y, x = np.mgrid[:size, :size]
    along = np.stack([y, x, x + y])[labels]
    phase = random.integers(0, 4, (samples, 1, 1))
    lines = ((along + phase) // 2 % 2) * 120 + 60
    images = np.clip(lines + random.normal(0, 40, lines.shape), 0, 255).astype(np.uint8)
    names = np.array(["horizontal", "vertical", "diagonal"])
    return {"images": images[..., None], "labels": labels, "label_names": names}


def grouped(groups: int = 160, size: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Rows of features of which four are alike in a group, and twelve are noise: what a network must learn to tell.

    The first of each group is its query. The names are those of an .npz file for `EmbeddingTask(npz=...)`.
    """
    random = np.random.default_rng(seed)
    alike = np.repeat(random.normal(size=(groups, 4)), size, axis=0) + random.normal(0, 0.15, (groups * size, 4))
    rows = np.concatenate([alike, random.normal(0, 1.5, (groups * size, 12))], axis=1)
    # Another order of the axes, and mixed: no single feature says anything.
    mixed = rows @ np.linalg.qr(np.random.default_rng(99).normal(size=(16, 16)))[0]
    number = np.repeat(np.arange(groups), size)
    is_query = np.arange(groups * size) % size == 0
    return {"features": mixed.astype(np.float32), "groups": np.where(is_query, -(number + 1), number)}


def tiny_task(folder: Path) -> Task:
    """A task on `stripes`, its file written to `folder`."""
    path = folder / "stripes.npz"
    np.savez(path, allow_pickle=False, **stripes())
    return ImageClassification(npz=str(path), name="stripes").load(folder)


def tiny_candidate(widths: tuple[int, ...] = (8, 16), seed: int = 0) -> Candidate:
    """A residual network with fresh weights, as the root of a pipeline on `tiny_task`."""
    model = ModelSpec(residual=Residual(widths=widths)).build(Signature("images", 1, CLASSES), seed)
    return Candidate(model, (Step("baseline", {}, {}, digest(model)),))


def tiny_grouped_task(folder: Path) -> Task:
    """A task of embeddings on `grouped`, its file written to `folder`."""
    path = folder / "grouped.npz"
    np.savez(path, allow_pickle=False, **grouped())
    return EmbeddingTask(npz=str(path), name="grouped", width=8, benchmarks={}).load()


def tiny_embedder(width: int = 8, seed: int = 0) -> Candidate:
    """A network of fresh weights that gives embeddings, as the root of a pipeline on `tiny_grouped_task`."""
    signature = Signature("features", 16, width, any_width=True)
    model = ModelSpec(mlp=Mlp(widths=(16, 16))).build(signature, seed)
    return Candidate(model, (Step("baseline", {}, {}, digest(model)),))


class CountingClock:
    """A clock for tests, the same on every machine: a picosecond a multiply-add, and a nanosecond a call."""

    call_ms = 1e-6
    digest = "counted"

    def __init__(self, task: Task) -> None:
        self._task = task

    def table(self, precision: Precision) -> CountingClock:  # noqa: ARG002 - what a clock is asked
        """Itself; int8 is as fast as fp32."""
        return self

    def ms(self, layers: Iterable[Sized]) -> dict[Sized, float]:
        """By their multiply-adds."""
        return {layer: 1e-9 * layer.inputs * layer.outputs * math.prod(layer.geometry.size) for layer in layers}

    def beside(self, model: TorchModel, precision: Precision) -> Beside:  # noqa: ARG002 - what a clock is asked
        """A call."""
        return Beside(call_ms=self.call_ms)

    def measure(self, models: Sequence[TorchModel]) -> tuple[Timing, ...]:
        """By their layers."""
        times = []
        example = torch.from_numpy(self._task.first("calibration"))
        for model in models:
            layers = [layer.sized for layer in layers_of(model.module, example)]
            times.append(self.call_ms + sum(self.ms(layers)[layer] for layer in layers))
        shares = [time / times[0] for time in times]
        return tuple(Timing(ms, Estimate(share, share, share)) for ms, share in zip(times, shares, strict=True))


def context(folder: Path, task: Task, teacher: TorchModel | None = None, seed: int = 0) -> Context:
    """A context whose budget is always met, so that `assess` measures nothing."""

    def assess(_: Candidate) -> Assessment:
        return Assessment(Measurement({}, (), 0.0, {}), BudgetResult("pass"))

    store = Store(folder / "store")
    return Context(
        task=task,
        teacher=None
        if teacher is None
        else NetworkTeacher(teacher.module, digest(teacher), task, store, builder=teacher.builder),
        seed=seed,
        device="cpu",
        scratch=folder / "scratch",
        progress=Silent(),
        assess=assess,
        key=digest_of(["testing", seed]),
        clock=CountingClock(task),
    )


class StageContract:
    """What every stage promises. Derive a test class from it and set `stage`, an instance with valid settings."""

    stage: Stage
    answers: Literal["classes", "embeddings"] = "classes"
    """What the tiny task asks for: `embeddings` tries the stage on queries and documents."""

    def _applied(self, folder: Path, seed: int = 0) -> tuple[Candidate, tuple[Candidate, ...], Task]:
        folder.mkdir(parents=True, exist_ok=True)
        classes = self.answers == "classes"
        task = tiny_task(folder) if classes else tiny_grouped_task(folder)
        start = self._start()
        teacher = tiny_candidate((16, 16), seed=1).network if classes else tiny_embedder(12, seed=1).network
        return start, self.stage.apply(start, context(folder, task, teacher, seed)), task

    def _start(self) -> Candidate:
        return tiny_candidate() if self.answers == "classes" else tiny_embedder()

    def test_argument_is_unchanged(self, tmp_path: Path) -> None:
        """Candidates are shared between branches of a pipeline, so a stage that edits its argument corrupts others."""
        start, _, _ = self._applied(tmp_path)
        assert digest(start.network) == digest(self._start().network)

    def test_lineage_grows_by_one_step_of_its_kind(self, tmp_path: Path) -> None:
        """The lineage is what cache keys and reports are made of."""
        start, made, _ = self._applied(tmp_path)
        assert made
        for candidate in made:
            assert candidate.lineage[:-1] == start.lineage
            assert candidate.lineage[-1].kind == self.stage.kind
        assert len({candidate.digest for candidate in made}) == len(made)

    def test_decisions_and_settings_are_plain_data(self, tmp_path: Path) -> None:
        """They go into JSON and YAML."""
        _, made, _ = self._applied(tmp_path)
        for candidate in made:
            digest_of([dict(candidate.lineage[-1].settings), dict(candidate.lineage[-1].decisions)])

    def test_settings_round_trip(self) -> None:
        """What a lock file keeps must mean the same when it is read again."""
        again = type(self.stage).model_validate_json(self.stage.model_dump_json())  # type: ignore[attr-defined]
        assert again == self.stage

    def test_exports_with_the_output_shape_kept_and_same_seed_same_bytes(self, tmp_path: Path) -> None:
        """Twice the same seed gives the same ONNX files, which ONNX Runtime runs with one row of logits a sample."""
        from compresslab.measure.evaluate import predict

        files = []
        for run in ("first", "second"):
            _, made, task = self._applied(tmp_path / run)
            for index, candidate in enumerate(made):
                folder = tmp_path / run / str(index)
                assert not isinstance(candidate.model, Towers), "a stage is tried on one network"
                folder.mkdir()
                artifact = export(
                    candidate.model, folder,
                    preprocessing=task.preprocessing, labels=task.labels, embedding=task.any_width,
                    inputs=task.batch("validation", np.arange(16), None), provenance={},
                )  # fmt: skip
                assert predict(artifact, task.splits["validation"].inputs[:5]).shape == (5, task.outputs)
                files.append((run, index, dict(artifact.sha256)))
        first = [entry[1:] for entry in files if entry[0] == "first"]
        second = [entry[1:] for entry in files if entry[0] == "second"]
        assert first == second
