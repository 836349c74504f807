"""One graph of a bundle as a bundle of its own: what a server loads as one model."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresslab.bundle.sealing import seal
from compresslab.measure.artifact import copy_tokenizer
from compresslab.serving.server_card import server_card

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from compresslab.measure.artifact import Artifact
    from compresslab.serving.plan import ServingPlan

GRAPH_FILE = "model.onnx"
"""The name that Triton's onnxruntime backend looks for."""


@dataclass(frozen=True)
class Part:
    """One graph of `artifact`, what the server calls it, and how it is to be run."""

    artifact: Artifact
    graph: str
    name: str
    plan: ServingPlan

    def write(self, folder: Path, told: Sequence[str] = ()) -> Artifact:
        """Writes the graph, its labels and a manifest with every hash into `folder`, which is there and empty.

        `told` is what the card says beside of how the server takes it.
        """
        manifest = self.artifact.manifest.only(self.graph)
        info = manifest.graphs[self.graph].model_copy(update={"file": GRAPH_FILE})
        shutil.copyfile(self.artifact.graphs[self.graph], folder / GRAPH_FILE)
        copy_tokenizer(self.artifact.only(self.graph), folder)
        latency = tuple(latency for latency in manifest.latency if latency.graph == self.graph)
        alone = manifest.model_copy(update={"graphs": {self.graph: info}, "latency": latency})
        return seal(folder, alone, server_card(self.name, alone, self.plan, told))
