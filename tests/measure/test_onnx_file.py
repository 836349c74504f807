from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compresslab.errors import ArtifactError
from compresslab.measure.bench import BenchPoint, BenchSettings, record
from compresslab.measure.onnx_file import onnx_subject, require_same_inputs, signature

if TYPE_CHECKING:
    from pathlib import Path

QUICK = BenchSettings(min_seconds=0.01, min_count=40, processes=2, warmup_seconds=0.01)


def embedding(path: Path, opset: int = 18, **shapes: list) -> Path:
    """ids and mask -> the sum of both: two inputs, whole numbers, a dynamic sequence."""
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["input_ids", "attention_mask"], ["sum"]),
            helper.make_node("Cast", ["sum"], ["output"], to=TensorProto.FLOAT),
        ],
        "embedding",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shapes.get(name, ["batch", "sequence"]))
            for name in ("input_ids", "attention_mask")
        ],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.save(model, path)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return embedding(tmp_path / "model.onnx")


def test_the_signature_is_read_without_the_onnx_package(model: Path) -> None:
    assert [(one.name, one.dtype, one.shape) for one in signature(model)] == [
        ("input_ids", "int64", ("batch", "sequence")),
        ("attention_mask", "int64", ("batch", "sequence")),
    ]


def test_made_up_inputs_have_the_sizes_asked_for_and_are_the_same_every_time(model: Path) -> None:
    one, other = (onnx_subject(model, [1, 3], {"sequence": 7}).inputs["model"] for _ in range(2))
    for name in ("input_ids", "attention_mask"):
        assert one[name].shape == (33, 7), "a multiple of every batch"
        assert set(np.unique(one[name])) == {0, 1}
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("io_binding", [False, True])
def test_a_bare_file_with_several_inputs_is_measured(model: Path, io_binding: bool) -> None:
    settings = QUICK.model_copy(update={"points": (BenchPoint(batch=4, io_binding=io_binding),)})
    ((samples,),) = record([onnx_subject(model, [4], {"sequence": 7})], settings)
    assert samples.count >= 40


def test_inputs_may_have_names_that_numpy_has_a_meaning_for(tmp_path: Path) -> None:
    path = embedding(tmp_path / "model.onnx")
    loaded = onnx.load(path)
    for old, new in (("input_ids", "file"), ("attention_mask", "in/to:0")):
        for node in loaded.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
        next(one for one in loaded.graph.input if one.name == old).name = new
    onnx.save(loaded, path)
    ((samples,),) = record(
        [onnx_subject(path, [1], {"sequence": 7})], QUICK.model_copy(update={"points": (BenchPoint(),)})
    )
    assert samples.count >= 40


def test_a_dynamic_axis_without_a_size_is_told_with_the_remedy(model: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the axis `sequence` of its input `input_ids` .* as `--dim sequence=128`"):
        onnx_subject(model, [1], {})


def test_a_fixed_batch_is_the_only_one(tmp_path: Path) -> None:
    shape = [2, 5]
    path = embedding(tmp_path / "fixed.onnx", input_ids=shape, attention_mask=shape)
    assert onnx_subject(path, [2], {}).inputs["model"]["input_ids"].shape == (32, 5)
    with pytest.raises(
        ArtifactError, match="takes a batch of 2 only, but 1, 2 is asked for; set `batch: 2`, or export"
    ):
        onnx_subject(path, [1, 2], {})


def test_files_that_onnx_runtime_cannot_run_are_bad_input(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere\.onnx: no such file; give an \.onnx file"):
        signature(tmp_path / "nowhere.onnx")
    with pytest.raises(ArtifactError, match=r"cannot open it \(.*[Oo]pset 99.*\); export the model again"):
        signature(embedding(tmp_path / "future.onnx", opset=99))
    model.write_bytes(model.read_bytes()[:60])
    with pytest.raises(ArtifactError, match=r"cannot open it \(.*\); export the model again"):
        signature(model)


def test_other_inputs_do_not_compare_but_other_axis_names_do(model: Path, tmp_path: Path) -> None:
    renamed = embedding(tmp_path / "renamed.onnx", input_ids=["n", "length"], attention_mask=["n", "length"])
    require_same_inputs(signature(model), signature(renamed), ("a", "b"))
    fixed = embedding(tmp_path / "fixed.onnx", input_ids=["batch", 9], attention_mask=["batch", 9])
    message = r"a takes `input_ids` int64 \['batch', 'sequence'\], .*, but b takes `input_ids` int64 \['batch', 9\]"
    with pytest.raises(ArtifactError, match=message):
        require_same_inputs(signature(model), signature(fixed), ("a", "b"))
