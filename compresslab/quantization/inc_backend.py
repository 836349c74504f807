"""Intel Neural Compressor's static quantizer (PT2E, through torchao), and its accuracy-aware tuning, checked again.

What it exports keeps float weights behind Q/DQ pairs, so `fold_weights` follows. Tried of version 3.10 and left out:
its SmoothQuant needs a package that it does not bring, and what its dynamic quantization makes has no ONNX export.
"""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from compresslab.candidate import OnnxModel
from compresslab.errors import DataError, ModelError
from compresslab.export.compact import compact, to_bytes
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import reads_ids, to_onnx
from compresslab.quantization.weight_folding import fold_weights
from compresslab.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

_BATCH = torch.export.Dim("batch", min=1, max=2**16)
_ALGORITHMS: tuple[Literal["minmax", "kl"], ...] = ("minmax", "kl")


class NeuralCompressorSettings(Settings):
    """uint8 activations, int8 weights per channel, placed as torchao's X86 quantizer does."""

    calibration: Literal["minmax", "kl"] = "minmax"
    """How the range of an activation is found: a moving mean of its extremes (`minmax`) or a histogram (`kl`)."""
    tolerable_loss: float | None = Field(None, gt=0, lt=1)
    """Its accuracy-aware tuning: tries every `calibration` until no more than this share of the quality on validation
    is lost. It gives a model also where all lose more: that is judged again, and told. Null: no tuning."""


_DEFAULT = NeuralCompressorSettings()


@dataclass(frozen=True)
class TuningCheck:
    """What `autotune` gave, judged by us: quality before and after, the least that was asked for, and the trials."""

    floating: float
    reached: float
    target: float
    trials: int

    @property
    def met(self) -> bool:
        """Whether the target was reached."""
        return self.reached >= self.target


@dataclass(frozen=True)
class Made:
    """The INT8 graph, and how the tuning went where there was one."""

    model: OnnxModel
    tuning: TuningCheck | None


def require_neural_compressor() -> None:
    """Loads the optional package, without its messages.

    Raises:
        ModelError: It is not installed, or not whole.
    """
    try:
        with _silence():
            import_module("neural_compressor.torch.quantization")
            import_module("torchao.quantization.pt2e")
    except ImportError as error:
        raise ModelError(
            f"`backend: neural_compressor` needs Intel Neural Compressor with its torch part, which cannot be imported "
            f"({error}); install it with `pip install 'compresslab[inc]'`, or use another backend"
        ) from error


def quantize_pt2e(
    module: nn.Module,
    destination: Path,
    batches: Sequence[Tensor],
    output: str,
    settings: NeuralCompressorSettings = _DEFAULT,
    evaluate: Callable[[nn.Module], float] | None = None,
) -> Made:
    """Quantizes a network with Neural Compressor, folds its weights, and writes the graph.

    Args:
        module: The float network, on the CPU; left unchanged.
        destination: The ONNX file to write.
        batches: Real inputs [n, ...], n >= 2; no labels.
        output: Names the output.
        settings: How ranges are found, and whether that is tuned.
        evaluate: The quality of a network on validation, more being better; the tuning needs it.

    Raises:
        ModelError: The package is missing, or cannot follow the network.
        DataError: No batch, or a NaN or infinite value.
    """
    require_neural_compressor()
    _require_finite(batches)
    tuning = None
    with _silence():
        floating = _exported(module, batches[0])
        if settings.tolerable_loss is None:
            made = _quantized(floating, batches, settings.calibration)
        else:
            assert evaluate is not None, "tuning asks for the quality"
            made, tuning = _tuned(floating, batches, settings.tolerable_loss, evaluate)
        graph = to_onnx(made, batches[0][:2], output)
    if not fold_weights(graph.graph):
        raise ModelError(
            f"{type(module).__name__}: Neural Compressor found nothing in it to quantize (it takes convolutions and "
            "linear layers that are called as modules); use another backend"
        )
    rewrite(graph)
    compact(graph)
    destination.write_bytes(to_bytes(graph))
    return Made(OnnxModel(destination), tuning)


def _exported(module: nn.Module, example: Tensor) -> Any:
    from neural_compressor.torch.export import export

    name = type(module).__name__
    try:
        # How long texts may be is for the network to say, which has positions for so many tokens.
        open_dimensions = {0: _BATCH, 1: torch.export.Dim.AUTO} if reads_ids(example) else {0: _BATCH}
        return export(module.eval(), (example,), dynamic_shapes=(open_dimensions,))
    except RuntimeError as error:
        raise ModelError(
            f"{name}: torch.export, which Neural Compressor begins with, cannot follow it for every batch size: {error}"
        ) from error


def _quantized(floating: Any, batches: Sequence[Tensor], calibration: str) -> nn.Module:
    from neural_compressor.torch.quantization import convert, prepare

    prepared = prepare(floating, _config(calibration), example_inputs=(batches[0],))
    _run(prepared, batches)
    converted: nn.Module = convert(prepared)
    return converted


def _tuned(
    floating: Any, batches: Sequence[Tensor], tolerable_loss: float, evaluate: Callable[[nn.Module], float]
) -> tuple[nn.Module, TuningCheck]:
    from neural_compressor.torch.quantization import TuningConfig, autotune

    baseline = evaluate(_Running(floating))
    trials = 0

    def relative(model: nn.Module) -> float:
        """Quality so that the float network's is one: theirs may be zero, or negative."""
        nonlocal trials
        trials += 1
        return 1.0 + (evaluate(_Running(model)) - baseline) / max(abs(baseline), 1e-12)

    # More trials than settings, and it would give nothing at all where the target is missed.
    config = TuningConfig(
        config_set=[_config(name) for name in _ALGORITHMS], tolerable_loss=tolerable_loss, max_trials=len(_ALGORITHMS)
    )
    made = autotune(floating, config, relative, run_fn=lambda model: _run(model, batches), example_inputs=(batches[0],))
    reached = evaluate(_Running(made))
    target = baseline - tolerable_loss * abs(baseline)
    # The first of its questions is about the float network.
    return made, TuningCheck(baseline, reached, target, trials - 1)


def _config(calibration: str) -> Any:
    from neural_compressor.torch.quantization import StaticQuantConfig

    return StaticQuantConfig(act_algo=calibration)


def _run(model: nn.Module, batches: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for batch in batches:
            model(batch)


class _Running(nn.Module):
    """A network that torch.export made, which refuses to be told `eval()`: it computes what it was exported for."""

    def __init__(self, exported: nn.Module) -> None:
        super().__init__()
        self._call = exported.forward  # a module kept as a part would be told too

    def forward(self, x: Tensor) -> Tensor:
        """What the network gives."""
        result: Tensor = self._call(x)
        return result


def _require_finite(batches: Sequence[Tensor]) -> None:
    if not batches:
        raise DataError("there are no calibration batches; give at least one, better a few hundred examples")
    for index, batch in enumerate(batches):
        if not bool(torch.isfinite(batch).all()):
            raise DataError(f"calibration batch {index} holds NaN or infinity; clean the data")


@contextmanager
def _silence() -> Iterator[None]:
    """It and torchao log at every level while they are imported and while they work, and print tables."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
