"""Networks on disk without pickle: safetensors, and JSON that says how to build the network, and each layer's shape.

A pruned network cannot be built by its constructor alone. It is built at its first size, without the blocks that were
removed; then each layer is resized to the recorded shape, each module gets the numbers that its forward reads, such as
those of the heads, and tensors that were one are made one again, before the weights are loaded.
"""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated, Any, Literal

import safetensors.torch
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from torch import Tensor, nn

from compresslab.candidate import TorchModel
from compresslab.digest import digest_of
from compresslab.errors import ModelError, did_you_mean
from compresslab.measure.text_preprocessing import TextPreprocessing
from compresslab.models.builder import AnyBuilder, construct_again, read_builder
from compresslab.models.sizes import NAMES, Size, attributes, layer_sizes, set_sizes
from compresslab.models.tying import reshape, tied_tensors
from compresslab.settings import Ints, Settings

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

ARCHITECTURE = "architecture.json"
WEIGHTS = "weights.safetensors"

FORMAT: Literal[2] = 2
_NAMED = 3


_Whole = Annotated[int, Field(ge=0)]
Number = _Whole | Annotated[tuple[_Whole, ...], Field(strict=False)] | Annotated[float, Field(ge=0)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Layer(Settings):
    """A layer's type and sizes, such as Conv2d with in_channels, out_channels and groups."""

    type: str
    sizes: dict[str, Number]


class Description(Settings):
    """What `architecture.json` holds. `tensors` has the shape of every entry of the state dict.

    `preprocessing` is there for a network with a tokenizer of its own, whose file lies beside.

    Version 1 has neither `attributes` nor `tied`, and knows no blocks that were removed.
    """

    format_version: Literal[1, 2] = FORMAT
    builder: AnyBuilder
    layers: dict[str, Layer]
    attributes: dict[str, dict[str, Number]] = Field(default_factory=dict)
    tied: tuple[Names, ...] | None = Field(None, strict=False)
    tensors: dict[str, Ints]
    preprocessing: TextPreprocessing | None = None


def describe(model: TorchModel) -> dict[str, Any]:
    """The network's structure as plain JSON data, versioned.

    Raises:
        ModelError: Nothing builds this network again, because it was converted to INT8.
    """
    if model.builder is None:
        raise ModelError("a converted INT8 network is kept as ONNX alone, and cannot be saved to be trained again")
    layers, numbers = {}, {}
    for name, module in model.module.named_modules():
        sizes = layer_sizes(module)
        if sizes is not None:
            layers[name] = {"type": type(module).__name__, "sizes": _listed(sizes)}
        elif found := attributes(module):
            numbers[name] = _listed(found)
    own = model.preprocessing
    return {
        **({} if own is None else {"preprocessing": own.model_dump(mode="json")}),
        "format_version": FORMAT,
        "builder": dict(model.builder),
        "layers": layers,
        "attributes": numbers,
        "tied": [list(names) for names in tied_tensors(model.module)],
        "tensors": {name: list(tensor.shape) for name, tensor in model.module.state_dict().items()},
    }


def rebuild(description: Mapping[str, Any], trusted: Collection[str] = ()) -> nn.Module:
    """A network of the described structure, in eval mode, its weights not set. Leaves torch's generator as it was.

    Args:
        description: What `describe` returned.
        trusted: The user's own functions (`module:function`) that may be run to build it.

    Raises:
        ModelError: The description is not one, names code that is not trusted, or no longer fits the code.
    """
    checked = _checked(description, "the description")
    module = construct_again(checked.builder, trusted)
    for name, layer in checked.layers.items():
        _resize(module, name, layer)
    for name, numbers in checked.attributes.items():
        _renumber(module, name, numbers)
    tied = checked.tied
    if tied is None:  # version 1 does not say: what the code makes one is one, unless it cannot be
        tied = tuple(one for one in tied_tensors(module) if len({checked.tensors.get(name) for name in one}) == 1)
    reshape(module, checked.tensors, tied)
    _require_same({name: tuple(t.shape) for name, t in module.state_dict().items()}, checked.tensors,
                  "the network that is built now", "its description")  # fmt: skip
    return module.eval()


def save(model: TorchModel, folder: Path) -> None:
    """Writes `weights.safetensors` and `architecture.json`; the same network gives the same bytes.

    A network with a tokenizer of its own has that beside them.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    weights = safetensors.torch.save(_tensors(model.module))
    (folder / WEIGHTS).write_bytes(weights)
    plain = {**describe(model), "weights_sha256": sha256(weights).hexdigest()}
    # Strides leave no trace in any shape, so the text needs a digest of its own.
    text = json.dumps({**plain, "digest": digest_of(plain)}, indent=1, sort_keys=True)
    (folder / ARCHITECTURE).write_text(text + "\n", encoding="utf-8")
    if isinstance(model.preprocessing, TextPreprocessing):
        shutil.copyfile(model.preprocessing.file, folder / model.preprocessing.tokenizer)


def load(folder: Path, trusted: Collection[str] = ()) -> TorchModel:
    """The network that `save` wrote, in eval mode, with the very same weights.

    Args:
        folder: Where the two files are.
        trusted: The user's own functions (`module:function`) that may be run to build it.

    Raises:
        ModelError: A file is missing, truncated or changed, or needs code that is not trusted.
    """
    plain = _read_architecture(folder / ARCHITECTURE)
    recorded = plain.pop("digest", None)
    unchanged = digest_of(plain) == recorded
    expected = plain.pop("weights_sha256", None)
    description = _checked(plain, str(folder / ARCHITECTURE))
    if not unchanged:
        raise ModelError(f"{folder / ARCHITECTURE}: was changed after it was saved; copy the checkpoint again")
    weights = _read(folder / WEIGHTS)
    try:
        tensors = safetensors.torch.load(weights)
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS}: is damaged or truncated ({error}); copy the checkpoint again") from error
    # Before anything is built: the shapes of the description are then no larger than the file.
    _require_same({name: tuple(t.shape) for name, t in tensors.items()}, description.tensors,
                  str(folder / WEIGHTS), ARCHITECTURE)  # fmt: skip
    if sha256(weights).hexdigest() != expected:
        raise ModelError(
            f"{folder / WEIGHTS}: is not the file that was saved with {ARCHITECTURE} (its SHA-256 differs); copy both "
            "files again, or give other weights by `weights` instead of `checkpoint`"
        )
    module = rebuild(plain, trusted)
    module.load_state_dict(tensors, strict=True)
    own = None if description.preprocessing is None else description.preprocessing.in_folder(folder)
    return TorchModel(module, plain["builder"], preprocessing=own)


def digest(model: TorchModel) -> str:
    """SHA-256 of the structure and of every weight."""
    weights = sha256(safetensors.torch.save(_tensors(model.module))).hexdigest()
    return digest_of([describe(model), weights])


def require_same_tensors(module: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Checks that tensors have the names and shapes of the network's state dict.

    Raises:
        ModelError: They have not; the first differences are named.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    _require_same({name: tuple(t.shape) for name, t in tensors.items()}, expected, where, "the network")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    # Copies, as safetensors refuses tensors that share memory (tied weights).
    return {
        name: t.detach().cpu().clone(memory_format=torch.contiguous_format) for name, t in module.state_dict().items()
    }


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}; a checkpoint is a folder with {WEIGHTS} and "
                         f"{ARCHITECTURE}") from error  # fmt: skip


def _read_architecture(path: Path) -> dict[str, Any]:
    try:
        plain = json.loads(_read(path))
    except ValueError as error:  # broken JSON or UTF-8
        raise ModelError(f"{path}: is damaged or truncated ({error}); copy the checkpoint again") from error
    if not isinstance(plain, dict):
        raise ModelError(f"{path}: must hold a JSON object, but holds a {type(plain).__name__}")
    return plain


def _checked(plain: Mapping[str, Any], where: str) -> Description:
    if plain.get("format_version") not in (1, FORMAT):
        raise ModelError(
            f"{where}: has format version {plain.get('format_version')!r}, but this compresslab reads 1 and {FORMAT}; "
            "it was written by another version, or is no architecture"
        )
    builder = read_builder(plain.get("builder"), where)
    try:
        checked = Description.model_validate({**plain, "builder": builder})
    except ValidationError as error:
        first = error.errors()[0]
        raise ModelError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    _require_known(checked, where)
    return checked


def _require_known(description: Description, where: str) -> None:
    """What a file may set in a module is a closed list: it must not reach a method or a hook."""
    for module, numbers in description.attributes.items():
        for name in numbers:
            if name not in NAMES:
                raise ModelError(f"{where}: `{name}` of module `{module}` is nothing that a checkpoint may set"
                                 f"{did_you_mean(name, sorted(NAMES))}")  # fmt: skip


def _resize(module: nn.Module, name: str, layer: Layer) -> None:
    target = _submodule(module, name)
    known = None if target is None else layer_sizes(target)
    if target is None or known is None or type(target).__name__ != layer.type or set(layer.sizes) != set(known):
        found = "is not there" if target is None else f"is {type(target).__name__}"
        raise ModelError(
            f"layer `{name}` was {layer.type} and now {found}: the code that builds the network has changed"
        )
    set_sizes(target, layer.sizes)


def _renumber(module: nn.Module, name: str, numbers: Mapping[str, Size]) -> None:
    target = _submodule(module, name)
    missing = next(iter(numbers)) if target is None else set_sizes(target, numbers)
    if missing is not None:
        found = "is not there" if target is None else f"({type(target).__name__}) keeps no such number"
        raise ModelError(
            f"module `{name}` had `{missing}` = {numbers[missing]} and now {found}: the code that builds the network "
            "has changed"
        )


def _submodule(module: nn.Module, name: str) -> nn.Module | None:
    try:
        return module.get_submodule(name)
    except AttributeError:
        return None


def _listed(sizes: Mapping[str, Size]) -> dict[str, int | float | list[int]]:
    return {name: list(size) if isinstance(size, tuple) else size for name, size in sizes.items()}


def _require_same(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]], where: str, of: str
) -> None:
    differences = [f"`{name}` is missing" for name in expected if name not in found]
    differences += [f"`{name}` is not known" for name in found if name not in expected]
    differences += [
        f"`{name}` has shape {list(found[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    if differences:
        more = f" and {len(differences) - _NAMED} more" if len(differences) > _NAMED else ""
        raise ModelError(f"{where} does not fit {of}: {', '.join(differences[:_NAMED])}{more}")
