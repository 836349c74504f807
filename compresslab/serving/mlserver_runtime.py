"""The runtime that MLServer loads for a bundle; importable with the `serve` extra only.

MLServer calls it for REST and gRPC alike; whatever does not fit the manifest exactly is refused with status 400.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from mlserver import MLModel
from mlserver.errors import InferenceError
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from mlserver.utils import get_model_uri
from pydantic import Field, ValidationError

from compresslab.errors import ArtifactError, DataError
from compresslab.measure.artifact import load_artifact
from compresslab.measure.runtime import RUNTIME_ERRORS
from compresslab.measure.session import open_session
from compresslab.measure.subject import made_up_samples
from compresslab.serving.incoming import feed, outputs_wanted
from compresslab.serving.tensors import datatype, takes_batches
from compresslab.serving.texts import reads_texts, texts_of
from compresslab.settings import Ints, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from mlserver.types import RequestInput

    from compresslab.measure.text_preprocessing import Texts


class RuntimeSettings(Settings):
    """`parameters.extra` of model-settings.json."""

    threads: Annotated[int, Field(ge=1)] = 1
    """Inside an operator, of one call."""
    instances: Annotated[int, Field(ge=1)] = 1
    """Calls at the same time; others wait."""
    max_batch: Annotated[int, Field(ge=1)] = 64
    """Examples that one request may have."""
    warm_up: Annotated[tuple[Ints, ...], Field(strict=False)] = ()
    """(batch, calls) to run before the model is ready."""


class OnnxRuntime(MLModel):  # type: ignore[misc]
    """Serves the one graph of a bundle by ONNX Runtime, opened as its manifest says."""

    _pool: ThreadPoolExecutor | None = None

    async def load(self) -> bool:
        """Checks the bundle's hashes, opens its graph and warms it up.

        Raises:
            ArtifactError: A file is missing or changed, or `parameters.extra` is not what `RuntimeSettings` takes.
        """
        parameters = self._settings.parameters
        try:
            self._how = RuntimeSettings.model_validate(dict(parameters.extra or {}) if parameters else {})
        except ValidationError as error:
            raise ArtifactError(f"{self.name}: parameters.extra: {error}") from error
        folder = Path(await get_model_uri(self._settings))
        artifact = load_artifact(folder, verify=True)
        if len(artifact.graphs) != 1:
            raise ArtifactError(
                f"{folder}: one model is one graph, but it has {', '.join(artifact.graphs)}; "
                "`compresslab export --format mlserver` makes a model of each"
            )
        ((graph, self._info),) = artifact.manifest.graphs.items()
        how = artifact.manifest.preprocessing
        self._texts = how if how.kind == "text" and reads_texts(artifact.manifest, graph) else None
        self._session = open_session(artifact.graphs[graph], artifact.manifest.session, self._how.threads)
        self._pool = ThreadPoolExecutor(self._how.instances, thread_name_prefix=self.name)
        await asyncio.get_running_loop().run_in_executor(self._pool, self._warm_up)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Answers one request.

        Raises:
            InferenceError: Status 400; an input or an output that is asked for does not fit the manifest.
        """
        try:
            given = [_Given(one) for one in payload.inputs]
            names = outputs_wanted([output.name for output in payload.outputs or []], self._info)
            running = asyncio.get_running_loop()
            if self._texts is None:
                fed = feed(given, self._info, self._how.max_batch)
                answers = await running.run_in_executor(self._pool, self._session.run, names, fed)
            else:
                texts = texts_of(given, self._how.max_batch)
                answers = await running.run_in_executor(self._pool, self._read, names, texts)
        except (DataError, *RUNTIME_ERRORS) as error:
            raise InferenceError(f"{self.name}: {error}") from error
        types = {tensor.name: datatype(tensor) for tensor in self._info.outputs}
        return InferenceResponse(
            id=payload.id,
            model_name=self.name,
            model_version=self.version,
            outputs=[
                ResponseOutput(name=name, shape=list(output.shape), datatype=types[name], data=output.ravel().tolist())
                for name, output in zip(names, answers, strict=True)
            ],
        )

    async def unload(self) -> bool:
        """Ends the threads; MLServer also unloads what it could not load."""
        if self._pool is not None:
            self._pool.shutdown()
        return True

    def _read(self, names: Sequence[str], texts: Texts) -> list[npt.NDArray[Any]]:
        """The outputs for texts, which become ids in the thread that runs them: a long one would hold up the server."""
        assert self._texts is not None, "asked of models of texts"
        fed = {self._info.inputs[0].name: self._texts.graph_input(texts)}
        answers: list[npt.NDArray[Any]] = self._session.run(names, fed)
        return answers

    def _warm_up(self) -> None:
        for batch, calls in self._how.warm_up:
            fed = self._zeros(batch)
            for _ in range(calls if fed is not None else 0):
                self._session.run(None, fed)

    def _zeros(self, batch: int) -> Mapping[str, npt.NDArray[Any]] | None:
        """A batch of nothing, or of made-up texts; None where an axis of unknown length leaves open what to feed."""
        if self._texts is not None:
            texts = made_up_samples(self._texts)
            return {self._info.inputs[0].name: self._texts.graph_input(texts[np.arange(batch) % len(texts)])}
        rows = [batch] if takes_batches(self._info) else []
        made = {}
        for tensor in self._info.inputs:
            sizes = [size for size in tensor.shape[len(rows) :] if isinstance(size, int)]
            if len(rows) + len(sizes) != len(tensor.shape):
                return None
            made[tensor.name] = np.zeros([*rows, *sizes], tensor.dtype)
        return made


class _Given:
    """An input as MLServer parsed it: REST gives lists, gRPC also bytes."""

    def __init__(self, tensor: RequestInput) -> None:
        self.name: str = tensor.name
        self.datatype = str(getattr(tensor.datatype, "value", tensor.datatype))
        self.shape: list[int] = list(tensor.shape)
        self.data: Any = getattr(tensor.data, "root", tensor.data)
