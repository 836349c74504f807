"""A folder that Optimum's ORTModelFor... classes load, with what transformers' processors need. Needs neither.

The graph's tensors have the names that these classes feed and read. The folder is a bundle all the same.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from compresslab.bundle.sealing import seal
from compresslab.errors import BadInput
from compresslab.measure.artifact import copy_tokenizer
from compresslab.measure.subject import made_up_samples
from compresslab.report.markdown_syntax import bullets
from compresslab.serving.optimum_card import how_to_use
from compresslab.serving.optimum_images import PREPROCESSOR, image_notes, image_processor
from compresslab.serving.optimum_texts import TOKENIZER_CONFIG, text_notes, tokenizer_config
from compresslab.serving.server_card import server_card

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.measure.artifact import Artifact, Manifest
    from compresslab.serving.optimum_kinds import OptimumKind

CONFIG = "config.json"
_FILE = "model.onnx"


def write_optimum(artifact: Artifact, draft: Path, name: str, kind: OptimumKind) -> tuple[str, ...]:
    """Fills an empty folder, and returns what a user must know.

    Args:
        artifact: The bundle.
        draft: The folder.
        name: What the card calls the model.
        kind: What `optimum_kind` said of it.

    Raises:
        BadInput: The package onnx, which rewrites the graph, is not installed.
        ParityError: The graph with other names gives other numbers.
    """
    try:
        from compresslab.serving.renaming import renamed
    except ModuleNotFoundError as error:
        raise BadInput(
            f"`--format optimum` renames the graph's tensors with the package {error.name}, which is not installed: "
            "`pip install onnx`"
        ) from error
    (info,) = artifact.manifest.graphs.values()
    how = artifact.manifest.preprocessing
    names = {info.inputs[0].name: kind.input, info.outputs[0].name: kind.output}
    made = renamed(artifact, names, draft, made_up_samples(how), sequence=kind.sequence)
    manifest = made.manifest
    if info.file != _FILE:  # which is what these classes look for
        shutil.move(draft / info.file, draft / _FILE)
        ((graph, written),) = manifest.graphs.items()
        manifest = manifest.model_copy(update={"graphs": {graph: written.model_copy(update={"file": _FILE})}})
    _write(draft / CONFIG, config(manifest, kind))
    processor: dict[str, Any] | None = None
    if how.kind == "text":
        copy_tokenizer(artifact, draft)
        _write(draft / TOKENIZER_CONFIG, tokenizer_config(artifact.folder, how))
        notes = text_notes(artifact.folder, how)
    else:
        assert how.kind == "image", "nothing else is let through"
        processor = image_processor(how)
        if processor is not None:
            _write(draft / PREPROCESSOR, processor)
        notes = image_notes(how)
    notes += _unsaid_session(manifest)
    left_out = manifest.session.disabled_optimizers
    use = how_to_use(kind, texts=how.kind == "text", processor=processor is not None, left_out=left_out)
    told = [server_card(name, manifest).rstrip("\n"), "## With Optimum", *use]
    seal(draft, manifest, "\n\n".join([*told, *([bullets(notes)] if notes else [])]) + "\n")
    return tuple(notes)


def config(manifest: Manifest, kind: OptimumKind) -> dict[str, Any]:
    """`config.json`: what is true of the model, and a kind of network that transformers knows.

    AutoConfig refuses kinds that it does not know, and fills in that kind's defaults for what is not said; the graph is
    what is run, whatever network it was.
    """
    how = manifest.preprocessing
    plain: dict[str, Any] = {"model_type": kind.model_type, "architectures": [kind.architecture]}
    if how.kind == "text":
        plain |= {
            "vocab_size": how.vocabulary, "pad_token_id": how.pad_id, "max_position_embeddings": how.max_length
        }  # fmt: skip
    elif how.kind == "image":
        plain |= {"num_channels": how.channels}
    if manifest.embedding is not None:
        plain |= {"hidden_size": manifest.embedding}
    else:
        names = manifest.labels or (manifest.target or "",)
        plain |= {
            "id2label": {str(index): label for index, label in enumerate(names)},
            "label2id": {label: index for index, label in enumerate(names)},
            "problem_type": "single_label_classification" if manifest.labels else "regression",
        }
    return plain | {"compresslab": {"graph": _FILE, "params": manifest.params, "macs": manifest.macs}}


def _unsaid_session(manifest: Manifest) -> list[str]:
    left_out = manifest.session.disabled_optimizers
    if not left_out:
        return []
    return [
        f"measured without ONNX Runtime's {', '.join(left_out)}: open it with the `session_options` that the card "
        "shows, or layers that were kept in float are rounded"
    ]


def _write(path: Path, plain: dict[str, Any]) -> None:
    path.write_text(json.dumps(plain, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
