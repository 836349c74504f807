"""Which of Optimum's classes runs a model, and what that feeds and reads by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compresslab.errors import BadInput
from compresslab.serving.optimum_images import IMAGES
from compresslab.serving.optimum_texts import IDS, require_padding

if TYPE_CHECKING:
    from compresslab.measure.artifact import Artifact, Manifest

LOGITS, STATES = "logits", "last_hidden_state"


@dataclass(frozen=True)
class OptimumKind:
    """Which class loads a model.

    Attributes:
        loader: Its name in `optimum.onnxruntime`.
        input: What it feeds.
        output: What the graph's output is called.
        sequence: What the class reads instead, where that must have an axis of tokens; None where it reads the output.
        model_type: A kind of network that transformers knows, and
        architecture: its class, of which nothing else is said.
    """

    loader: str
    input: str
    output: str
    sequence: str | None
    model_type: str
    architecture: str


def optimum_kind(artifact: Artifact) -> OptimumKind:
    """How Optimum takes a model with one graph.

    Raises:
        BadInput: No class of Optimum's does: it takes something else than its preprocessing makes of images or texts,
            or gives neither classes nor an embedding, nor a number for a text.
        DataError: It reads texts, and the library `tokenizers` is not installed.
    """
    manifest, folder = artifact.manifest, artifact.folder
    if len(manifest.graphs) > 1:
        raise BadInput(
            f"{folder}: Optimum's classes run one graph, but it has {', '.join(manifest.graphs)}, and nothing says how "
            "each takes its samples; use --format onnx"
        )
    ((graph, info),) = manifest.graphs.items()
    how = manifest.preprocessing
    if how.kind == "features":
        raise BadInput(
            f"{folder}: Optimum has classes for images and texts, but `{info.file}` takes {how.kind}; use --format onnx"
        )
    if how.kind == "image" and how.folded is not None:
        raise BadInput(
            f"{folder}: its graph takes raw pixels ({how.folded}), and transformers' processors give normalized ones; "
            "export the bundle that it was made from"
        )
    kind = _kind(manifest)
    if kind is None or len(info.outputs) != 1 or not manifest.prepares(graph):
        wanted = "images to classes or" if how.kind == "image" else "texts to classes, a number or"
        raise BadInput(
            f"{folder}: Optimum's classes feed one tensor and read one, from {wanted} an embedding, but `{info.file}` "
            f"has {len(info.inputs)} inputs, {len(info.outputs)} outputs and {len(manifest.labels)} labels; use "
            "--format onnx"
        )
    if how.kind == "text":
        require_padding(folder, how)
    return kind


def _kind(manifest: Manifest) -> OptimumKind | None:
    texts = manifest.preprocessing.kind == "text"
    if manifest.embedding is not None:
        return _TEXT_EMBEDDING if texts else _IMAGE_EMBEDDING
    if texts:
        return _TEXT_SCORES if manifest.labels or manifest.target is not None else None
    return _IMAGE_CLASSES if manifest.labels else None


# The class for embeddings reads hidden states and nothing else; what the output is, the graph says beside them.
_IMAGE_CLASSES = OptimumKind(
    "ORTModelForImageClassification", IMAGES, LOGITS, None, "resnet", "ResNetForImageClassification"
)
_TEXT_SCORES = OptimumKind(
    "ORTModelForSequenceClassification", IDS, LOGITS, None, "bert", "BertForSequenceClassification"
)
_IMAGE_EMBEDDING = OptimumKind("ORTModelForFeatureExtraction", IMAGES, "image_embeds", STATES, "resnet", "ResNetModel")
_TEXT_EMBEDDING = OptimumKind("ORTModelForFeatureExtraction", IDS, "sentence_embedding", STATES, "bert", "BertModel")
