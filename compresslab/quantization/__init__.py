"""INT8: our own Q/DQ path, for calibration and for training, and ONNX Runtime's quantizer beside it."""

from __future__ import annotations

from compresslab.quantization.calibration import calibrate, prepare
from compresslab.quantization.conversion import convert
from compresslab.quantization.insertion import quantizable
from compresslab.quantization.ort_backend import OnnxRuntimeSettings, quantize_static
from compresslab.quantization.settings import QuantizerSettings

__all__ = [
    "OnnxRuntimeSettings",
    "QuantizerSettings",
    "calibrate",
    "convert",
    "prepare",
    "quantizable",
    "quantize_static",
]
