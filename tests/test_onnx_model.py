"""Pipelines whose `model` or `teacher` is an ONNX file of anybody's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

from compresslab import ConfigError, Distill, ModelError, ModelSpec, Prune, Quantize, Residual, TeacherSpec, Train, run
from compresslab.distillation.terms import LossTerm
from compresslab.export import export
from compresslab.models import architecture
from compresslab.progress import Silent
from compresslab.quantization import quantize_static
from compresslab.stages.tuned import Tuned, Variant
from compresslab.store import Store
from compresslab.teacher import Question, open_teacher


@pytest.fixture(scope="module")
def task(tiny_pipeline, tmp_path_factory):
    return tiny_pipeline.task.load(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def graph(trained_checkpoint, task, tmp_path_factory):
    """The trained network as others would export it: other names, and their metadata."""
    folder = tmp_path_factory.mktemp("graph")
    inputs = task.batch("validation", np.arange(8), None)
    made = export(
        architecture.load(trained_checkpoint), folder / "made",
        preprocessing=task.preprocessing, labels=task.labels, inputs=inputs, provenance={},
    )  # fmt: skip
    model = onnx.load(made.graphs["model"])
    renamed = {model.graph.input[0].name: "x:0", model.graph.output[0].name: "scores"}
    for value in (*model.graph.input, *model.graph.output):
        value.name = renamed[value.name]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]
    model.producer_name = "somebody"
    onnx.save(model, folder / "theirs.onnx")
    return folder / "theirs.onnx"


@pytest.fixture(scope="module")
def int8(graph, task):
    """The same, quantized."""
    path = graph.with_name("int8.onnx")
    quantize_static(graph, path, [task.batch("calibration", np.arange(24), None)])
    return path


def answers(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: inputs})[0]


def quantize_only(pipeline, graph, *stages):
    return replace(pipeline, model=ModelSpec(onnx=str(graph)), stages=stages, references=(), budget=None)


def test_a_graph_is_quantized_measured_and_handed_over(tiny_pipeline, graph, task, tmp_path):
    pipeline = quantize_only(tiny_pipeline, graph, Quantize(backend="onnxruntime", samples=24))
    report = run(pipeline, tmp_path / "run")
    baseline, quantized = report.points
    assert (baseline.artifact.manifest.parity, quantized.artifact.manifest.parity) == (None, None)
    assert [one.name for one in quantized.artifact.manifest.graphs["model"].inputs] == ["x:0"]
    # The copy computes what the file does, on the same inputs.
    inputs = task.batch("validation", np.arange(16), None)
    np.testing.assert_allclose(answers(baseline.artifact.graphs["model"], inputs), answers(graph, inputs), atol=1e-5)
    assert quantized.measurement.integer_operators.integer > 0
    assert quantized.measurement.quality["validation"]["stripes/accuracy"].value > 0.8
    assert quantized.measurement.agreement_with_parent > 0.9
    assert baseline.settings["onnx"] == str(graph)
    again = run(pipeline, tmp_path / "run")
    assert [point.cached for point in again.points] == [True, True]


@pytest.mark.parametrize(
    ("stage", "path", "message"),
    [
        (Train(epochs=1), "train", "an ONNX file, which has no weights that can be trained or cut"),
        (Prune(ratio=0.3), "prune", "give it as `teacher` and the network itself as `model`"),
        (Distill(epochs=1, student=ModelSpec(residual=Residual(widths=(8,)))), "distill", "can be trained or cut"),
        (Quantize(), "quantize", "`backend: own` works on a torch network.* give `backend: onnxruntime` or `dynamic`"),
        (Quantize(backend="neural_compressor"), "quantize", "`backend: neural_compressor` works on a torch network"),
        (Quantize(mode="qat"), "quantize", "`mode: qat` trains, and `model` is an ONNX file; leave `mode` out"),
        (Quantize(backend="dynamic", calibration_seeds=3), "quantize", "`calibration_seeds` calibrates fake quant"),
        (
            Tuned((Variant({("backend",): "own"}, Quantize()),
                   Variant({("backend",): "dynamic"}, Quantize(backend="dynamic")))),
            "quantize", "`backend: own` works on a torch network",
        ),
    ],
)  # fmt: skip
def test_stages_that_need_a_network_are_refused_by_the_rules_of_order(stage, path, message, tiny_pipeline):
    with pytest.raises(ConfigError, match=rf"stages\[0\]\.{path}: .*({message})"):
        quantize_only(tiny_pipeline, "any.onnx", stage)
    if isinstance(stage, Prune | Quantize):
        with pytest.raises(ConfigError, match=rf"references\[0\]\.{path}"):
            replace(quantize_only(tiny_pipeline, "any.onnx", Quantize(backend="dynamic")), references=[stage])


def test_a_graph_is_no_student(tiny_pipeline):
    student = Distill(epochs=1, student=ModelSpec(onnx="any.onnx"))
    with pytest.raises(ConfigError, match=r"stages\[0\]\.distill\.student\.onnx: an ONNX file cannot be trained"):
        replace(tiny_pipeline, stages=[student], references=())


@pytest.mark.usefixtures("nothing_may_be_made")
def test_a_graph_that_is_quantized_already_is_told_before_anything_runs(tiny_pipeline, int8, tmp_path):
    pipeline = quantize_only(tiny_pipeline, int8, Quantize(backend="onnxruntime", samples=24))
    with pytest.raises(ConfigError, match=r"stages\[0\]\.quantize: .*the graph is quantized already"):
        run(pipeline, tmp_path / "run")


@pytest.mark.usefixtures("nothing_may_be_made")
def test_of_several_backends_one_must_be_for_the_graph(tiny_pipeline, graph, tmp_path):
    # The network is made of convolutions, which `dynamic` is not for.
    with pytest.raises(ConfigError, match=r"stages\[0\]\.quantize: `backend: dynamic` is for networks of matrix"):
        run(quantize_only(tiny_pipeline, graph, Quantize(backend="dynamic")), tmp_path / "run")
    model = onnx.load(graph)
    model.opset_import[0].version = 11
    old = tmp_path / "old.onnx"
    onnx.save(model, old)
    with pytest.raises((ConfigError, ModelError), match="its opset is 11, and one scale a channel needs 13"):
        Quantize(backend="onnxruntime").require_graph(old)


@pytest.mark.usefixtures("nothing_may_be_made")
def test_a_graph_of_other_labels_is_refused_by_the_manifest_beside_it(tiny_pipeline, finished_run, tmp_path):
    point = finished_run.report.points[0].artifact
    other = point.manifest.model_copy(update={"labels": tuple(reversed(point.manifest.labels))})
    (tmp_path / "model.onnx").write_bytes(point.graphs["model"].read_bytes())
    (tmp_path / "manifest.json").write_text(other.model_dump_json())
    pipeline = quantize_only(tiny_pipeline, tmp_path / "model.onnx", Quantize(backend="onnxruntime"))
    with pytest.raises(ModelError, match=r"model: .*trained for other labels"):
        run(pipeline, tmp_path / "run")


# -- as teacher ------------------------------------------------------------------------------------------------------


def test_an_int8_graph_teaches_and_is_what_results_are_held_against(tiny_pipeline, int8, task, tmp_path):
    student = ModelSpec(residual=Residual(widths=(8,)))
    pipeline = replace(
        tiny_pipeline, model=student, teacher=TeacherSpec(onnx=str(int8)), budget=None, references=(),
        stages=[Distill(epochs=1, batch=64, views=1)],
    )  # fmt: skip
    report = run(pipeline, tmp_path / "run")
    inputs = task.batch("validation", np.arange(len(task.splits["validation"].inputs)), None)
    assert report.points[-1].measurement.agreement_with_teacher is not None
    taught = open_teacher(
        pipeline.teacher, lambda spec: spec.open(task.signature), task, Store(tmp_path / "store"), "cpu", Silent()
    )
    given = taught.answers(Question("validation", None), Silent()).of(np.arange(len(inputs)))["output"]
    np.testing.assert_allclose(given, answers(int8, inputs), atol=1e-5)
    assert taught.exact().digest == taught.digest


@pytest.mark.usefixtures("nothing_may_be_made")
def test_features_of_a_graph_are_refused(tiny_pipeline, graph, tmp_path):
    term = LossTerm.model_validate({"hidden_states": {"student": ["stem"], "teacher": ["stem"]}})
    stage = Distill(epochs=1, losses=(term,))
    pipeline = replace(tiny_pipeline, teacher=TeacherSpec(onnx=str(graph)), stages=[stage], references=())
    with pytest.raises(ConfigError, match="the teacher is an ONNX file, which answers and shows none of its layers"):
        run(pipeline, tmp_path / "run")
