"""What is left in float and what that costs is told alike of what every backend makes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compresslab.export.integer_operators import integer_operators
from compresslab.export.operator_times import with_times
from compresslab.measure.session import SessionOptions
from compresslab.quantization import (
    QuantizerSettings,
    calibrate,
    convert,
    prepare,
    quantize_dynamic,
    quantize_pt2e,
    quantize_static,
)


def made_by(backend: str, network: nn.Module, images: torch.Tensor, folder: Path, to_file) -> Path:
    if backend == "own":
        prepared = prepare(network, images, QuantizerSettings())
        calibrate(prepared, [images])
        return to_file(convert(prepared), images)
    if backend == "neural_compressor":
        pytest.importorskip("neural_compressor")
        return quantize_pt2e(network, folder / "int8.onnx", [images], "logits").model.path
    graph = to_file(network, images)
    if backend == "dynamic":
        return quantize_dynamic(graph, folder / "int8.onnx").path
    return quantize_static(graph, folder / "int8.onnx", [images.numpy()]).path


@pytest.mark.parametrize(
    "backend", ["own", "onnxruntime", "dynamic", pytest.param("neural_compressor", marks=pytest.mark.slow)]
)
def test_what_stays_in_float_is_named_with_its_share_of_the_time(backend, build, images, tmp_path, to_file) -> None:
    """Attention does, of a transformer: its products must be found in the profile, whatever made the graph."""
    path = made_by(backend, build("vit").eval(), images, tmp_path, to_file)
    counted = integer_operators(path, SessionOptions())
    found = with_times(counted, path, SessionOptions(), {"input": images[:1].numpy()}, threads=1)
    assert found.integer > 0
    assert [f"{one.name} ({one.kind}): {one.reason}" for one in found.in_float] == list(counted.floating)
    products = [one for one in found.in_float if one.kind == "MatMul"]
    assert len(products) >= 4
    assert sum(one.share > 0 for one in products) >= 4
    assert found.time["integer"] > 0
    assert found.time["conversions"] > 0 or backend == "dynamic", (
        "a kernel that quantizes as it goes has none beside it"
    )
    assert sum(one.share for one in found.in_float) <= found.time["float"] + 0.001
    assert sum(found.time.values()) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("backend", ["own", "onnxruntime"])
def test_hard_swish_is_named_with_its_share_of_the_time(backend, build, images, tmp_path, to_file) -> None:
    """As MobileNetV3 has it: ONNX Runtime takes it apart, and gives the parts no name to be found by."""
    path = made_by(backend, build("gated").eval(), images, tmp_path, to_file)
    found = with_times(
        integer_operators(path, SessionOptions()), path, SessionOptions(), {"input": images[:1].numpy()}, threads=1
    )
    (left,) = found.in_float
    assert left.name == "behind stem.0"
    # `quantize_static` takes it apart itself.
    assert left.kind == ("HardSwish" if backend == "own" else "HardSigmoid")
    assert left.reason.endswith(f"has no integer kernel for {left.kind}")
    assert 0 < left.share <= found.time["float"]
