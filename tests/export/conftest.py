"""ONNX graphs built by hand, so that what is expected can be worked out by hand."""

from collections.abc import Callable, Iterator

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from compresslab.measure.preprocessing import ImagePreprocessing

BuildGraph = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small get slower with every thread, and very slow on a busy machine.

    For the modules of this folder alone: the number of threads is part of what identifies a result in the store, so a
    run that was made before must find it unchanged afterwards.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def preprocessing() -> ImagePreprocessing:
    return ImagePreprocessing(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,))


@pytest.fixture(scope="session")
def graph() -> BuildGraph:
    """(nodes, constants by name, input shape, output shape) -> a checked model from `input` to `logits`."""

    def build(
        nodes: list[onnx.NodeProto],
        constants: dict[str, np.ndarray],
        input_shape: list[int | str],
        output_shape: list[int | str],
    ) -> onnx.ModelProto:
        made = helper.make_model(
            helper.make_graph(
                nodes, "main",
                [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, output_shape)],
                [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
            ),
            opset_imports=[helper.make_opsetid("", 18)], ir_version=10,
        )  # fmt: skip
        onnx.checker.check_model(made, full_check=True)
        return made

    return build
