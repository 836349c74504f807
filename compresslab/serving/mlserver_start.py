"""Starts MLServer on an exported folder, or on a bundle as it is; needs the `serve` extra.

    python -P -m compresslab.serving.mlserver_start FOLDER_OR_BUNDLE

`mlserver start FOLDER` does too, but runs whatever Python files lie there under the name of a module, takes requests
of any length, and lets whoever reaches it unload models. (`-P` is for what lies in the current folder.)
Ports and address are MLServer's own settings: MLSERVER_HTTP_PORT, MLSERVER_GRPC_PORT, MLSERVER_HOST.
"""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NoReturn

from mlserver import MLServer
from mlserver.errors import MLServerError
from mlserver.handlers import ModelRepositoryHandlers
from mlserver.repository.load import load_model_settings
from mlserver.settings import Settings
from mlserver.utils import get_model_uri, install_uvloop_event_loop

from compresslab.errors import BadInput, CompresslabError
from compresslab.measure.artifact import load_artifact
from compresslab.measure.machine import usable_cores
from compresslab.serving.exporting import export_bundle
from compresslab.serving.mlserver_layout import MODEL_SETTINGS, RUNTIME, SETTINGS
from compresslab.serving.mlserver_runtime import OnnxRuntime
from compresslab.serving.request_limit import RequestLimit
from compresslab.serving.texts import BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mlserver.registry import MultiModelRegistry
    from mlserver.settings import ModelSettings
    from mlserver.types import MetadataTensor

_BYTES_A_NUMBER = 32
"""The longest a number is in JSON, with its comma and a space."""
_DYNAMIC = 512
"""What an axis of any length counts as."""
_SLACK = 1 << 20


class BundleServer(MLServer):  # type: ignore[misc]
    """MLServer with a limit on requests, and with the models that it has started with.

    Args:
        settings: The server's.
        longest: The largest request, in bytes.
    """

    def __init__(self, settings: Settings, longest: int) -> None:
        self._longest = longest
        self._loading: asyncio.Task[None] | None = None
        super().__init__(settings)

    async def start(self, models: Sequence[ModelSettings]) -> None:
        """Loads, then answers until a signal ends it.

        MLServer answers first: it says that it is ready while it stops for a model that it could not load, of which
        its caller learns nothing.

        Raises:
            CompresslabError: A model could not be loaded.
        """
        self._loading = asyncio.create_task(self._load(models))
        try:
            await self._loading
        except asyncio.CancelledError:
            return
        await super().start([])

    async def stop(self, sig: int | None = None) -> None:
        """Ends the loading, or the servers."""
        if self._loading is not None and not self._loading.done():
            self._loading.cancel()
            return
        await super().stop(sig)

    async def _load(self, models: Sequence[ModelSettings]) -> None:
        for model in models:
            await self._model_registry.load(model)

    def _create_model_registry(self) -> MultiModelRegistry:
        """MLServer would import the runtime by its name once more, with the model's folder first on `sys.path`."""
        registry = super()._create_model_registry()
        registry._model_initialiser = OnnxRuntime
        return registry

    def _create_servers(self) -> None:
        self._model_repository_handlers = _FixedModels(self._model_repository, self._model_registry)
        super()._create_servers()
        self._rest_server._app.add_middleware(RequestLimit, limit=self._longest)


class _FixedModels(ModelRepositoryHandlers):  # type: ignore[misc]
    async def load(self, name: str) -> NoReturn:
        raise MLServerError(f"{name}: models are loaded when the server starts, and not by requests", 403)

    async def unload(self, name: str) -> NoReturn:
        raise MLServerError(f"{name}: models are not unloaded by requests", 403)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until a signal ends it; returns the exit code."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if len(given) != 1 or given[0].startswith("-"):
        print(__doc__, file=sys.stderr)  # noqa: T201
        return BadInput.exit_code
    try:
        with served_folder(Path(given[0])) as folder:
            install_uvloop_event_loop()
            asyncio.run(_serve(folder))
    except CompresslabError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


@contextmanager
def served_folder(path: Path) -> Iterator[Path]:
    """The folder itself, if it was exported for MLServer; of a bundle or a run, an export that goes again.

    Raises:
        BadInput: It is neither, or a bundle's files are not what its manifest says.
    """
    if path.is_dir() and any(path.glob(f"*/{MODEL_SETTINGS}")):
        yield path
        return
    artifact = load_artifact(path)
    with TemporaryDirectory(prefix="compresslab-serve-") as made:
        export_bundle(artifact, Path(made), "mlserver", cores=usable_cores())
        yield Path(made)


async def _serve(folder: Path) -> None:
    settings, models = await read_settings(folder)
    settings.parallel_workers = 0
    longest = longest_request(models)
    settings.grpc_max_message_length = longest
    await BundleServer(settings, longest).start(models)


async def read_settings(folder: Path) -> tuple[Settings, list[ModelSettings]]:
    """What MLServer's `load_settings` gives, for models of ours alone.

    That puts the folder and the current one first on `sys.path`, and goes on without a model whose settings it cannot
    read.

    Raises:
        BadInput: Settings that MLServer does not take, or a model with another runtime.
        ArtifactError: A model's files are not what its manifest says.
    """
    path, models = folder / SETTINGS, []
    try:
        settings = Settings.model_validate(json.loads(path.read_bytes())) if path.is_file() else Settings()
        for path in sorted(folder.glob(f"*/{MODEL_SETTINGS}")):
            model = load_model_settings(str(path))
            if model.implementation_ != RUNTIME:
                raise BadInput(
                    f"{path}: `implementation` is {model.implementation_}, but only {RUNTIME} is run here; start "
                    "others with `mlserver start`"
                )
            load_artifact(await get_model_uri(model), verify=True)
            models.append(model)
    except (OSError, ValueError, TypeError, MLServerError) as error:  # pydantic's and json's errors are ValueErrors
        raise BadInput(f"{path}: MLServer does not take these settings: {error}") from error
    settings.model_repository_root = str(folder)
    return settings, models


def longest_request(models: Sequence[ModelSettings]) -> int:
    """Bytes that the largest batch of any model takes in JSON."""
    sizes = [0]
    for model in models:
        extra = model.parameters.extra if model.parameters else None
        rows = (extra or {}).get("max_batch", 1)
        sizes.append(int(rows) * sum(_values(tensor) for tensor in model.inputs))
    return max(sizes) * _BYTES_A_NUMBER + _SLACK


def _values(tensor: MetadataTensor) -> int:
    """Of one example; a text counts as many as an axis of any length, which is 16 KiB."""
    if str(getattr(tensor.datatype, "value", tensor.datatype)) == BYTES:
        return _DYNAMIC
    return prod(size if size > 0 else _DYNAMIC for size in tensor.shape[1:])


if __name__ == "__main__":
    sys.exit(main())
