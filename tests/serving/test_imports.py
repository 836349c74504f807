"""A server is installed without torch and onnx, and Triton's model without compresslab."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import compresslab.serving

PACKAGE = Path(compresslab.serving.__path__[0])


def test_exporting_and_serving_load_neither_torch_nor_onnx() -> None:
    code = "import compresslab.serving, compresslab.serving.incoming, compresslab.serving.measuring, sys\n"
    code += "print(sorted({'torch', 'onnx', 'onnxscript', 'mlserver', 'altair'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out == "[]\n"


def test_folding_without_onnx_ends_with_the_remedy() -> None:
    code = f"""
import sys
sys.modules["onnx"] = None
sys.path.insert(0, {str(PACKAGE.parents[1])!r})
from pathlib import Path
from compresslab.errors import BadInput
from compresslab.serving import exporting
try:
    with exporting._perhaps_folded(None, "uint8-nhwc"):
        pass
except BadInput as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("with the package onnx, which is not installed: `pip install onnx`")


def test_tritons_model_stands_alone() -> None:
    tree = ast.parse((PACKAGE / "triton_model.py").read_text(encoding="utf-8"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    needed = {"numpy", "onnxruntime", "triton_python_backend_utils"}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == needed
