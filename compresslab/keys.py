"""What identifies a result in the store: everything that went into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compresslab.digest import code_digest, digest_of, library_versions
from compresslab.pipeline import variants
from compresslab.user_code import source_digest
from compresslab.world import world

if TYPE_CHECKING:
    from compresslab.candidate import Step
    from compresslab.nodes import Node
    from compresslab.pipeline import Pipeline
    from compresslab.pruning import Precision
    from compresslab.stage import Stage
    from compresslab.tasks import Task
    from compresslab.tasks.towers_task import TowersTask

LIBRARIES = ("torch", "torch-pruning", "accelerate", "numpy", "onnx", "onnxscript", "onnxruntime", "safetensors")


def assesses(stage: Stage) -> bool:
    """Whether the stage decides by what is measured, so that replaying it takes what it decided."""
    return getattr(stage, "mode", None) == "auto" or getattr(stage, "assesses", False) or getattr(stage, "timed", False)


def ships(pipeline: Pipeline) -> Precision:
    """The precision that the pipeline ends with."""
    return "int8" if any(stage.kind == "quantize" for stage in pipeline.stages) else "fp32"


@dataclass(frozen=True)
class Keys:
    """The keys of one run.

    Args:
        pipeline: What to do.
        task: The data.
        device: Where networks are trained.
        machine: Where models are measured.
    """

    pipeline: Pipeline
    task: Task | TowersTask
    device: str
    machine: Mapping[str, object]

    def surroundings(self) -> dict[str, Any]:
        """What every stage depends on beside its settings and its input."""
        return {
            "task": self.task.digest,
            "seed": self.pipeline.seed,
            "device": self.device,
            "threads": torch.get_num_threads(),
            "processes": world().size,
            "versions": library_versions(*LIBRARIES),
            "code": code_digest("compresslab.nodes", "compresslab.export"),
        }

    def given(self, step: Step) -> str:
        """Of a network that the pipeline gives; `step` is its only one."""
        return digest_of([step.kind, step.digest, self.surroundings()])

    def stage(self, stage: Stage, parent: Node, teacher: str | None) -> str:
        """Of a stage applied to `parent`; `teacher` is the digest of whom it may learn from."""
        parts = {
            "kind": stage.kind,
            "version": stage.version,
            "settings": stage.model_dump(mode="json"),
            "stage": code_digest(*{type(one).__module__ for one in (stage, *variants(stage))}),
            "parent": parent.digest,
            "teacher": teacher,
            "surroundings": self.surroundings(),
            "own": {name: source_digest(name) for one in variants(stage) for name in getattr(one, "code", ())},
        }
        if getattr(stage, "timed", False):
            parts["ships"] = ships(self.pipeline)
        libraries = sorted({name for one in variants(stage) for name in getattr(one, "libraries", ())})
        if libraries:
            parts["libraries"] = library_versions(*libraries)
        if assesses(stage):  # another budget may need other attempts, another machine may make another choice
            budget = self.pipeline.budget
            parts["assessed"] = {
                "budget": None if budget is None else budget.model_dump(mode="json"),
                "bench": self.pipeline.bench.model_dump(mode="json"),
                "machine": dict(self.machine),
            }
        return digest_of(parts)
