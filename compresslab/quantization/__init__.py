"""INT8: our own Q/DQ path, for calibration and for training, and the quantizers of others beside it."""

from __future__ import annotations

from compresslab.quantization.calibration import calibrate, prepare
from compresslab.quantization.conversion import convert
from compresslab.quantization.dynamic_backend import (
    DynamicSettings,
    quantize_dynamic,
    require_graph_of_products,
    require_products,
)
from compresslab.quantization.inc_backend import NeuralCompressorSettings, quantize_pt2e, require_neural_compressor
from compresslab.quantization.insertion import quantizable
from compresslab.quantization.ort_backend import OnnxRuntimeSettings, quantize_static, require_static
from compresslab.quantization.settings import QuantizerSettings

__all__ = [
    "DynamicSettings", "NeuralCompressorSettings", "OnnxRuntimeSettings", "QuantizerSettings", "calibrate", "convert",
    "prepare", "quantizable", "quantize_dynamic", "quantize_pt2e", "quantize_static", "require_graph_of_products",
    "require_neural_compressor", "require_products", "require_static",
]  # fmt: skip
