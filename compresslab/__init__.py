"""From a trained network to the Pareto-optimal deployment model: distil, prune, quantize, export, measure.

Names are loaded when they are first used, so that `import compresslab` needs no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from compresslab.candidate import Candidate, OnnxModel, Step, TorchModel
    from compresslab.config import dump_pipeline, load_pipeline, pipeline_schema
    from compresslab.distillation import Recipe
    from compresslab.errors import (
        ArtifactError,
        BadInput,
        BenchmarkFailed,
        CompresslabError,
        ConfigError,
        DataError,
        Diverged,
        Interrupted,
        ModelError,
        ParityError,
        StageFailed,
        StoreError,
    )
    from compresslab.measure.artifact import Artifact, load_artifact
    from compresslab.measure.bench import BenchPoint, BenchSettings
    from compresslab.measure.budget import Budget, BudgetResult
    from compresslab.measure.measurement import Measurement
    from compresslab.models import Mlp, ModelSpec, Residual
    from compresslab.pipeline import Pipeline
    from compresslab.progress import Progress
    from compresslab.report import Point, Report
    from compresslab.runner import plan, run
    from compresslab.stage import Context, Stage
    from compresslab.stages import Distill, Mutual, Prune, Quantize, Train
    from compresslab.store import Store
    from compresslab.tasks import (
        EmbeddingTask,
        ImageClassification,
        Regression,
        Task,
        TaskSpec,
        TextClassification,
        TextEmbedding,
        TextRegression,
    )
    from compresslab.teacher import TeacherSpec

_HOMES = {
    "compresslab.candidate": ("Candidate", "OnnxModel", "Step", "TorchModel"),
    "compresslab.config": ("dump_pipeline", "load_pipeline", "pipeline_schema"),
    "compresslab.distillation": ("Recipe",),
    "compresslab.errors": (
        "ArtifactError", "BadInput", "BenchmarkFailed", "CompresslabError", "ConfigError", "DataError", "Diverged",
        "Interrupted", "ModelError", "ParityError", "StageFailed", "StoreError",
    ),
    "compresslab.measure.artifact": ("Artifact", "load_artifact"),
    "compresslab.measure.bench": ("BenchPoint", "BenchSettings"),
    "compresslab.measure.budget": ("Budget", "BudgetResult"),
    "compresslab.measure.measurement": ("Measurement",),
    "compresslab.models": ("Mlp", "ModelSpec", "Residual"),
    "compresslab.pipeline": ("Pipeline",),
    "compresslab.progress": ("Progress",),
    "compresslab.report": ("Point", "Report"),
    "compresslab.runner": ("plan", "run"),
    "compresslab.stage": ("Context", "Stage"),
    "compresslab.stages": ("Distill", "Mutual", "Prune", "Quantize", "Train"),
    "compresslab.store": ("Store",),
    "compresslab.tasks": (
        "EmbeddingTask", "ImageClassification", "Regression", "Task", "TaskSpec", "TextClassification", "TextEmbedding",
        "TextRegression",
    ),
    "compresslab.teacher": ("TeacherSpec",),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Artifact",
    "ArtifactError",
    "BadInput",
    "BenchPoint",
    "BenchSettings",
    "BenchmarkFailed",
    "Budget",
    "BudgetResult",
    "Candidate",
    "CompresslabError",
    "ConfigError",
    "Context",
    "DataError",
    "Distill",
    "Diverged",
    "EmbeddingTask",
    "ImageClassification",
    "Interrupted",
    "Measurement",
    "Mlp",
    "ModelError",
    "ModelSpec",
    "Mutual",
    "OnnxModel",
    "ParityError",
    "Pipeline",
    "Point",
    "Progress",
    "Prune",
    "Quantize",
    "Recipe",
    "Regression",
    "Report",
    "Residual",
    "Stage",
    "StageFailed",
    "Step",
    "Store",
    "StoreError",
    "Task",
    "TaskSpec",
    "TeacherSpec",
    "TextClassification",
    "TextEmbedding",
    "TextRegression",
    "TorchModel",
    "Train",
    "dump_pipeline",
    "load_artifact",
    "load_pipeline",
    "pipeline_schema",
    "plan",
    "run",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module `compresslab` has no `{name}`")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
