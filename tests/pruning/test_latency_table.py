import json
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from compresslab.clock import MachineClock
from compresslab.errors import BenchmarkFailed
from compresslab.export.integer_operators import integer_operators
from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.operators import OperatorTimes, time_operators
from compresslab.measure.runtime import open_graph
from compresslab.measure.session import SessionOptions
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from compresslab.pruning import latency_table
from compresslab.pruning.costs import Beside
from compresslab.pruning.geometry import DEPTHWISE, Geometry, Sized
from compresslab.pruning.latency_table import LatencyTable
from compresslab.pruning.one_layer import nothing, one_layer, ruler
from compresslab.store import Store
from tests.texts import train_tokenizer

SQUARE = Geometry("conv", (6, 6), (3, 3), (1, 1), (1, 1), (1, 1))
LAYERS = [
    Sized(SQUARE, 16, 32),
    Sized(SQUARE, 1, 16),
    Sized(Geometry("conv", (6, 6), (3, 3), (2, 2), (1, 1), (1, 1), DEPTHWISE), 16, 16),
    Sized(Geometry("conv", (6, 6), (1, 1), (1, 1), (0, 0), (1, 1), groups=4), 16, 32),
    Sized(Geometry("conv", (9,), (3,), (1,), (1,), (1,)), 8, 12),
    Sized(Geometry("linear"), 24, 10),
    Sized(Geometry("linear", (17,)), 24, 48),
    Sized(Geometry("linear", copies=5), 24, 48),
    Sized(Geometry("transposed", (6, 6), (2, 2), (2, 2), (0, 0), (1, 1)), 8, 12),
]
SESSION = SessionOptions().model_dump(mode="json")


@pytest.fixture
def pretended(monkeypatch):
    """Measures nothing: a layer takes its inputs times its outputs; notes how many graphs came each time."""
    counts = []

    def pretend(graphs, ruler, empty, *, session, batch, threads, given):
        counts.append(len(graphs))
        constants = [onnx.load(str(path)).graph.initializer for path in graphs]
        weights = [next(one.dims for one in each if len(one.dims) == 4) for each in constants]
        products = tuple(float(dims[0] * dims[1]) for dims in weights)
        return OperatorTimes(products, (0.25,) * len(graphs), (7,) * len(graphs), 0.5, 0.003)

    monkeypatch.setattr(latency_table, "time_operators", pretend)
    return counts


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("sized", LAYERS, ids=lambda sized: f"{sized.geometry.kind}-{sized.inputs}-{sized.outputs}")
def test_graphs_are_what_the_export_makes_of_a_layer(tmp_path, sized, precision):
    """An int8 layer that does not fuse would be timed as a float one."""
    path = tmp_path / "layer.onnx"
    onnx.save(one_layer(sized, precision, batch=3), str(path))
    session = open_graph(path, threads=1, **SESSION)
    (given,) = session.get_inputs()
    assert given.shape[0] == 3 * sized.geometry.copies
    found = integer_operators(path, SessionOptions())
    if precision == "fp32" or sized.geometry.kind == "transposed":
        assert found.eligible == 0
    elif sized.geometry.kind != "linear" or not sized.geometry.size:
        assert (found.eligible, found.integer) == (1, 1)
        channels = 4 if sized.inputs == 1 else sized.inputs
        assert given.shape[1 if sized.geometry.kind == "conv" else -1] == channels
    else:
        assert found.integer == 1


def test_only_what_is_not_known_is_measured(tmp_path, pretended):
    table = LatencyTable(Store(tmp_path), "fp32")
    assert table.ms([Sized(SQUARE, 4, 8), Sized(SQUARE, 4, 16), Sized(SQUARE, 4, 8)]) == {
        Sized(SQUARE, 4, 8): 32.0,
        Sized(SQUARE, 4, 16): 64.0,
    }
    table.ms([Sized(SQUARE, 4, 16), Sized(SQUARE, 8, 16)])
    assert pretended == [2, 1]
    again = LatencyTable(Store(tmp_path), "fp32")
    again.ms([Sized(SQUARE, 4, 8), Sized(SQUARE, 4, 16), Sized(SQUARE, 8, 16)])
    assert pretended == [2, 1], "another run finds what this one measured"
    assert again.digest == table.digest


def test_times_of_other_circumstances_are_not_used(tmp_path, pretended):
    tables = [
        LatencyTable(Store(tmp_path), "fp32"),
        LatencyTable(Store(tmp_path), "int8"),
        LatencyTable(Store(tmp_path), "fp32", batch=8),
        LatencyTable(Store(tmp_path), "fp32", threads=2),
        LatencyTable(Store(tmp_path), "fp32", session=SessionOptions(graph_optimization="basic")),
    ]
    for table in tables:
        table.ms([Sized(SQUARE, 4, 8)])
    assert pretended == [1] * len(tables)
    assert len({table.digest for table in tables}) == len(tables)


def test_the_digest_follows_the_times_that_were_used(tmp_path, pretended):
    table = LatencyTable(Store(tmp_path), "fp32")
    table.ms([Sized(SQUARE, 4, 8)])
    before = table.digest
    table.ms([Sized(SQUARE, 4, 16)])
    assert table.digest != before


def test_what_is_about_to_be_measured_is_told(tmp_path, pretended):
    told = []
    table = LatencyTable(Store(tmp_path), "fp32", on_measuring=told.append)
    table.ms([Sized(SQUARE, 4, 8), Sized(SQUARE, 4, 16)])
    table.ms([Sized(SQUARE, 4, 8)])
    assert told == ["timing 2 layers of other widths on this machine"]


def test_what_is_beside_the_layers_is_measured_once_a_network(tmp_path, pretended):
    graph = tmp_path / "network.onnx"
    onnx.save(one_layer(Sized(SQUARE, 4, 8), "fp32", 1), str(graph))
    assert LatencyTable(Store(tmp_path), "fp32").beside(graph) == Beside(0.003, 3.5, 0.25)
    assert LatencyTable(Store(tmp_path), "fp32").beside(graph) == Beside(0.003, 3.5, 0.25)
    assert pretended == [1]
    onnx.save(one_layer(Sized(SQUARE, 4, 12), "fp32", 1), str(graph))
    LatencyTable(Store(tmp_path), "fp32").beside(graph)
    assert pretended == [1, 1], "another network is not the same for having the name"


def test_large_layers_are_measured_in_portions(tmp_path, pretended, monkeypatch):
    monkeypatch.setattr(latency_table, "_MOST_BYTES", 4 * 9 * 4 * 8)
    LatencyTable(Store(tmp_path), "fp32").ms([Sized(SQUARE, 4, outputs) for outputs in (4, 8, 12)])
    assert pretended == [1, 1, 1]


def write_graphs(folder, sizes, precision):
    onnx.save(ruler(), str(folder / "ruler.onnx"))
    onnx.save(nothing(), str(folder / "empty.onnx"))
    paths = [folder / f"{number}.onnx" for number in range(len(sizes))]
    for path, sized in zip(paths, sizes, strict=True):
        onnx.save(one_layer(sized, precision, 1), str(path))
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_real_layers_are_timed_and_found_again(tmp_path, precision, monkeypatch):
    table = LatencyTable(Store(tmp_path), precision)
    found = table.ms(LAYERS)
    assert list(found) == LAYERS
    assert all(0 < ms < 1000 for ms in found.values())
    graph = tmp_path / "network.onnx"
    onnx.save(one_layer(LAYERS[0], precision, 1), str(graph))
    beside = table.beside(graph)
    assert 0 < beside.call_ms < 100
    assert 0 < beside.rest_ms < 1000
    assert beside.kernels_ms >= 0
    # The whole order of magnitude, not the time: one is 400 times the work of the other.
    many = [Sized(SQUARE, 256, 256), Sized(SQUARE, 32, 16)]
    times = table.ms(many)
    assert times[many[0]] > times[many[1]]
    # Nothing to measure with: what is in the store must do.
    monkeypatch.delattr(latency_table, "time_operators")
    assert LatencyTable(Store(tmp_path), precision).ms(LAYERS) == found


def reader(path):
    """A network that reads ids of tokens."""
    table, weight = (numpy_helper.from_array(np.ones((9, 9), np.float32), name) for name in ("table", "weight"))
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("MatMul", ["vectors", "weight"], ["answers"]),
    ]
    ids = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["batch", "sequence"])
    answers = helper.make_tensor_value_info("answers", onnx.TensorProto.FLOAT, ["batch", "sequence", 9])
    graph = helper.make_graph(nodes, "reader", [ids], [answers], [table, weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
    return path


def test_a_network_that_reads_texts_is_fed_ids(tmp_path):
    """Floats of the length of the batch are neither ids nor a text."""
    graph, table = reader(tmp_path / "reader.onnx"), LatencyTable(Store(tmp_path), "fp32")
    with pytest.raises(BenchmarkFailed, match="expected: \\(tensor\\(int64\\)\\)"):
        table.beside(graph)
    assert table.beside(graph, np.arange(8).reshape(2, 4)).rest_ms > 0


def test_the_clock_takes_a_text_of_the_median_length(tmp_path, monkeypatch):
    reads = TextPreprocessing.of(train_tokenizer(tmp_path), pad_id=0, max_length=30)
    texts = as_texts(["the parcel", "the", "the late parcel", "the late parcel please help with my account"])
    fed = []
    monkeypatch.setattr(LatencyTable, "beside", lambda _, graph, given: fed.append(given))
    artifact = SimpleNamespace(manifest=SimpleNamespace(preprocessing=reads), graphs={"model": tmp_path})
    bench = BenchSettings(points=(BenchPoint(batch=2, inputs="queries"),))
    clock = MachineClock(Store(tmp_path), bench, as_texts(["other"]), lambda *_: artifact, print, {"queries": texts})
    clock.beside(None, "fp32")
    (ids,) = fed
    assert ids.shape == (2, 5), "three words, and the tokens around them"
    assert ids.dtype == np.int64


@pytest.mark.slow
def test_every_graph_has_its_own_time_whatever_the_order(tmp_path):
    """More graphs than are open at once, in two processes with opposite orders."""
    sizes = [Sized(SQUARE, 8, 8)] * 13 + [Sized(SQUARE, 512, 512)]
    paths = write_graphs(tmp_path, sizes, "fp32")
    found = time_operators(
        paths, tmp_path / "ruler.onnx", tmp_path / "empty.onnx", session=SessionOptions(), visits=1, seconds=0.001
    )
    assert max(found.ms) == found.ms[-1]
    assert len(found.ms) == 14


def test_a_graph_without_such_an_operator_is_told(tmp_path):
    paths = write_graphs(tmp_path, [], "fp32")
    onnx.save(nothing(), str(tmp_path / "other.onnx"))
    with pytest.raises(BenchmarkFailed, match="is a counted operator"):
        time_operators(
            [*paths, tmp_path / "other.onnx"], tmp_path / "ruler.onnx", tmp_path / "empty.onnx",
            session=SessionOptions(), visits=1, seconds=0.001,
        )  # fmt: skip


def test_an_entry_of_the_store_is_readable(tmp_path, pretended):
    LatencyTable(Store(tmp_path), "fp32").ms([Sized(SQUARE, 4, 8)])
    plain = [json.loads(path.read_text()) for path in tmp_path.glob("entries/layer-times/*/times.json")]
    (entry,) = [one for one in plain if "times" in one]
    assert entry["geometry"]["kernel"] == [3, 3]
    assert entry["times"] == [[4, 8, 32.0]]
