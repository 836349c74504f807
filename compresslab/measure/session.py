"""How an artifact's graphs are run: the options are part of its manifest, so every measurement uses the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compresslab.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from onnxruntime import InferenceSession


class SessionOptions(Settings):
    """ONNX Runtime's options, by the names it has for them."""

    graph_optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    """How far ONNX Runtime may rewrite the graph."""
    allow_spinning: bool = False
    """Whether idle threads spin. Off: a spinning pool takes the core from the model measured beside it."""
    disabled_optimizers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Names of graph transformers to leave out, such as `SkipLayerNormFusion`."""
    provider: Annotated[str, Field(pattern=r"^[A-Za-z0-9]+ExecutionProvider$")] = "CPUExecutionProvider"
    """The execution provider; one that this ONNX Runtime does not have is refused, not replaced."""

    @property
    def label(self) -> str:
        """`default`, or what differs from it, as results.json names it."""
        changed = self.model_dump(mode="json", exclude_defaults=True, exclude={"provider"})
        return " ".join(f"{name}={value}" for name, value in changed.items()) or "default"


def open_session(
    path: Path, options: SessionOptions, threads: int, optimized: Path | None = None, profile: Path | None = None
) -> InferenceSession:
    """A session on the ONNX file at `path` with `threads` threads inside an operator.

    Args:
        path: The ONNX file.
        options: How to run it.
        threads: Intra-op threads; operators run one after the other.
        optimized: Where to write the graph as ONNX Runtime runs it; None for nowhere.
        profile: What the file with the time of each kernel begins with; None for no profile.

    Raises:
        ArtifactError: The file is missing, broken, or has operators that this ONNX Runtime cannot run.
    """
    # Settings are read by the command line, which need not load ONNX Runtime to print its help.
    from compresslab.measure.runtime import open_graph

    return open_graph(path, threads=threads, optimized=optimized, profile=profile, **options.model_dump())
