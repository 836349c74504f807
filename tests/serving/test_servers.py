"""Real servers on loopback. They answer what ONNX Runtime answers, and nothing that is sent to them stops them.

`make servers` makes their environments; without them these tests are skipped, and `make test-slow` makes them first.
"""

from __future__ import annotations

import json
import random
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.servers.bundles import LABELS, example_inputs
from benchmarks.servers.fuzz import CANARY, KILLS_OLD_TRITON, malformed, send_noise, statuses
from benchmarks.servers.load import load, outputs
from benchmarks.servers.processes import ROOT, Server, ServerDied, mlserver, serve_python, triton, triton_python
from compresslab.measure.artifact import Artifact
from compresslab.serving import export_bundle
from compresslab.serving.tensors import datatype

MODELS = (("fashion-like", "image", "model"), ("pair-image", "pair", "image"), ("pair-text", "pair", "text"))
SERVERS = ("mlserver", "triton")
TOLERANCE = 1e-5
_ROOM_KB = 16 << 20
pytestmark = [
    pytest.mark.slow,  # every one, or `make test-slow` would leave out what only `make test` after `make servers` runs
    pytest.mark.skipif(serve_python() is None or triton_python() is None, reason="run `make servers` first"),
]


@pytest.fixture(scope="module")
def bundles(image: Artifact, pair: Artifact) -> dict[str, Artifact]:
    return {"image": image, "pair": pair}


@pytest.fixture(scope="module")
def mlserver_up(bundles: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlserver")
    for artifact in bundles.values():
        export_bundle(artifact, folder / "models", "mlserver", cores=2)
    python = serve_python()
    assert python is not None
    with mlserver(python, folder / "models", folder / "log") as server:
        yield server


@pytest.fixture(scope="module")
def triton_up(bundles: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("triton")
    for artifact in bundles.values():
        export_bundle(artifact, folder / "models", "triton", backend="python", cores=2)
    python = triton_python()
    assert python is not None
    with triton(python, folder / "models", folder / "log") as server:
        yield server


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    """The one that the test is parametrized with."""
    found: Server = request.getfixturevalue(f"{request.param}_up")
    return found


def body(artifact: Artifact, graph: str, rows: int) -> dict[str, Any]:
    """A request as JSON, with every input in one list."""
    given = example_inputs(artifact, graph, rows)
    return {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": datatype(tensor),
                "shape": list(given[tensor.name].shape),
                "data": given[tensor.name].ravel().tolist(),
            }
            for tensor in artifact.manifest.graphs[graph].inputs
        ]
    }


def ask(server: Server, path: str, request: Any = None) -> tuple[int, Any]:
    """Status and answer of a GET, or of a POST of JSON."""
    data = None if request is None else json.dumps(request).encode()
    asked = urllib.request.Request(f"http://{server.http}{path}", data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(asked, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def require_right_answer(server: Server, bundles: dict[str, Artifact], model: str, bundle: str, graph: str) -> None:
    status, answer = ask(server, f"/v2/models/{model}/infer", body(bundles[bundle], graph, 3))
    assert status == 200, answer
    expected = outputs(bundles[bundle], graph, example_inputs(bundles[bundle], graph, 3))
    for output in answer["outputs"]:
        array = expected[output["name"]]
        assert output["shape"] == list(array.shape)
        np.testing.assert_allclose(np.reshape(output["data"], array.shape), array, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("server", SERVERS, indirect=True)
@pytest.mark.parametrize(("model", "bundle", "graph"), MODELS)
def test_the_answer_is_onnx_runtimes(
    server: Server, bundles: dict[str, Artifact], model: str, bundle: str, graph: str
) -> None:
    require_right_answer(server, bundles, model, bundle, graph)


@pytest.mark.parametrize("server", SERVERS, indirect=True)
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "pixel"}, "pixel"),
        ({"datatype": "FP64"}, "FP64"),
        ({"shape": [1, 28, 28]}, "28"),
        ({"shape": [65, 1, 28, 28], "data": [0] * (65 * 784)}, "64"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_and_told(
    server: Server, bundles: dict[str, Artifact], change: dict[str, Any], said: str
) -> None:
    request = body(bundles["image"], "model", 1)
    request["inputs"][0].update(change)
    status, answer = ask(server, "/v2/models/fashion-like/infer", request)
    assert 400 <= status < 500
    assert said in answer["error"]
    require_right_answer(server, bundles, *MODELS[0])


@pytest.mark.parametrize("server", SERVERS, indirect=True)
@pytest.mark.parametrize(
    ("tensor", "dtype", "shape", "model", "said"),
    [
        ("pixel", "float32", (1, 1, 28, 28), "fashion-like", "pixel"),
        ("pixels", "float64", (1, 1, 28, 28), "fashion-like", "FP64"),
        ("pixels", "float32", (1, 28, 28), "fashion-like", "28"),
        ("pixels", "float32", (65, 1, 28, 28), "fashion-like", "64"),
        ("pixels", "float32", (1, 1, 28, 28), "fashion", "fashion"),
    ],
)
def test_over_grpc_it_is_refused_too(
    server: Server, bundles: dict[str, Artifact], tensor: str, dtype: str, shape: Any, model: str, said: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    python = triton_python()
    assert python is not None
    inputs = {tensor: np.zeros(shape, dtype)}
    found = load(
        python, server, model, inputs, {}, tmp_path, protocol="grpc", clients=1, seconds=0.0, rows=shape[0]
    )  # fmt: skip
    assert found.requests == 0
    (error,) = found.errors
    assert said in error
    require_right_answer(server, bundles, *MODELS[0])


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_the_server_tells_what_the_manifest_says(server: Server, bundles: dict[str, Artifact]) -> None:
    for model, bundle, graph in MODELS:
        status, told = ask(server, f"/v2/models/{model}")
        assert status == 200
        info = bundles[bundle].manifest.graphs[graph]
        for key, tensors in (("inputs", info.inputs), ("outputs", info.outputs)):
            assert {(one["name"], one["datatype"], tuple(one["shape"])) for one in told[key]} == {
                (tensor.name, datatype(tensor), (-1, *tensor.shape[1:])) for tensor in tensors
            }
        assert ask(server, f"/v2/models/{model}/ready")[0] == 200


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_models_are_not_unloaded_by_requests(server: Server, bundles: dict[str, Artifact]) -> None:
    for verb in ("unload", "load"):
        status, _ = ask(server, f"/v2/repository/models/fashion-like/{verb}", {})
        assert 400 <= status < 600
    require_right_answer(server, bundles, *MODELS[0])


def test_triton_names_the_classes(triton_up: Server, bundles: dict[str, Artifact]) -> None:
    """By the classification extension, which reads labels.txt."""
    request = body(bundles["image"], "model", 1)
    request["outputs"] = [{"name": "logits", "parameters": {"classification": 1}}]
    status, answer = ask(triton_up, "/v2/models/fashion-like/infer", request)
    assert status == 200, answer
    expected = outputs(bundles["image"], "model", example_inputs(bundles["image"], "model", 1))["logits"][0]
    (told,) = answer["outputs"][0]["data"]
    score, index, label = told.split(":")
    assert (int(index), label) == (expected.argmax(), LABELS[expected.argmax()])
    assert float(score) == pytest.approx(expected.max(), abs=1e-4)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("server", SERVERS, indirect=True)
@pytest.mark.parametrize(("model", "bundle", "graph"), MODELS)
def test_sixteen_clients_at_once(
    server: Server, bundles: dict[str, Artifact], model: str, bundle: str, graph: str, protocol: Any, tmp_path: Path
) -> None:
    """Answers of requests that were gathered must not be mixed up: every one is compared."""
    python, artifact = triton_python(), bundles[bundle]
    assert python is not None
    inputs = example_inputs(artifact, graph, 40)
    found = load(
        python, server, model, inputs, outputs(artifact, graph, inputs), tmp_path,
        protocol=protocol, clients=16, seconds=3.0, rows=3,
    )  # fmt: skip
    assert found.errors == ()
    assert found.requests >= 16
    assert found.largest_difference <= TOLERANCE


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_ten_thousand_malformed_requests(server: Server, bundles: dict[str, Artifact]) -> None:
    without = KILLS_OLD_TRITON if server.name == "triton" else frozenset()
    # Triton takes text that is not UTF-8 in a request's id, which it gives back as it is.
    lenient = {"not UTF-8"} if server.name == "triton" else set()
    requests = malformed("fashion-like", body(bundles["image"], "model", 1), 10_000, seed=0, without=without)
    answered = statuses(server, requests)
    for fault, found in answered.items():
        if fault not in lenient:
            assert all(400 <= status < 600 for status in found), (fault, found)
        if server.name == "mlserver":
            # Whose fault it is must be told right, for the sake of whoever watches the server's errors.
            assert all(status < 500 for status in found), (fault, found)
    rng = random.Random(0)
    for _ in range(100):
        assert b" 200 " not in send_noise(server, rng)[:15]
    assert server.alive
    assert not (server.log.parent / CANARY).exists()
    require_right_answer(server, bundles, *MODELS[0])


@pytest.fixture
def room() -> None:
    """Memory for what a server under test may take at most, and for the client."""
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    if int(free.split()[1]) < _ROOM_KB:
        pytest.skip(f"a gigabyte is sent where {_ROOM_KB >> 20} GB of memory are free")


@pytest.mark.parametrize(
    # In chunks, it makes Triton 2.51 take twenty gigabytes: what `--http-max-input-size` of later ones is for.
    ("server", "chunked"),
    [("mlserver", False), ("mlserver", True), ("triton", False)],
    indirect=["server"],
)
def test_a_gigabyte_over_http(server: Server, bundles: dict[str, Artifact], chunked: bool, room: None) -> None:
    status = send_gigabyte(server, "/v2/models/fashion-like/infer", chunked)
    assert status == 0 or 400 <= status < 600
    assert server.alive
    require_right_answer(server, bundles, *MODELS[0])


@pytest.mark.parametrize("server", SERVERS, indirect=True)
def test_a_gigabyte_over_grpc(server: Server, bundles: dict[str, Artifact], tmp_path: Path, room: None) -> None:
    python = triton_python()
    assert python is not None
    rows = (1 << 30) // (28 * 28 * 4)
    inputs = {"pixels": np.zeros((rows, 1, 28, 28), np.float32)}
    found = load(
        python, server, "fashion-like", inputs, {}, tmp_path, protocol="grpc", clients=1, seconds=0.0, rows=rows
    )
    (tmp_path / "arrays.npz").unlink()
    assert found.requests == 0
    assert len(found.errors) == 1
    assert server.alive
    require_right_answer(server, bundles, *MODELS[0])


@pytest.mark.parametrize("damage", ["changed graph", "changed labels", "missing labels"])
def test_mlserver_does_not_start_on_a_damaged_bundle(image: Artifact, damage: str, tmp_path: Path) -> None:
    export_bundle(image, tmp_path / "models", "mlserver", cores=2)
    said = spoil(tmp_path / "models" / "fashion-like", damage)
    python = serve_python()
    assert python is not None
    with pytest.raises(ServerDied, match=said), mlserver(python, tmp_path / "models", tmp_path / "log"):
        pass


def test_plain_mlserver_does_not_either(image: Artifact, tmp_path: Path) -> None:
    """The runtime checks the hashes by itself: whoever starts it otherwise is as safe."""
    export_bundle(image, tmp_path / "models", "mlserver", cores=2)
    spoil(tmp_path / "models" / "fashion-like", "changed graph")
    python = serve_python()
    assert python is not None
    ended = subprocess.run(
        [str(python.with_name("mlserver")), "start", str(tmp_path / "models")],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={"MLSERVER_HOST": "127.0.0.1", "MLSERVER_HTTP_PORT": "0", "MLSERVER_GRPC_PORT": "0",
             "MLSERVER_METRICS_ENDPOINT": "", "PATH": str(python.parent), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "model.onnx: this is not the file that was exported" in ended.stderr + ended.stdout


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("changed graph", r"model\.onnx: missing, or not the file that was exported"),
        ("changed labels", r"labels\.txt: missing, or not the file that was exported"),
        ("missing labels", r"failed to open text file for read .*/1/labels\.txt"),  # Triton itself
    ],
)
def test_triton_does_not_start_on_a_damaged_bundle(image: Artifact, damage: str, said: str, tmp_path: Path) -> None:
    export_bundle(image, tmp_path / "models", "triton", backend="python", cores=2)
    spoil(tmp_path / "models" / "fashion-like" / "1", damage)
    python = triton_python()
    assert python is not None
    with pytest.raises(ServerDied, match=said), triton(python, tmp_path / "models", tmp_path / "log"):
        pass


@pytest.mark.parametrize(
    ("name", "where"),
    [
        *((server, where) for server in SERVERS for where in ("models", "models/fashion-like")),
        ("mlserver", "."),  # Triton's Python backend runs what lies where it was started
        ("triton", "models/fashion-like/1"),
    ],
)
def test_python_files_that_lie_there_are_not_run(
    image: Artifact, bundles: dict[str, Artifact], name: str, where: str, tmp_path: Path
) -> None:
    """MLServer puts the folders of its settings first on `sys.path`: its way of loading is not taken."""
    start, python = (mlserver, serve_python()) if name == "mlserver" else (triton, triton_python())
    assert python is not None
    export_bundle(image, tmp_path / "models", name, backend="python", cores=2)
    for module in ("onnxruntime", "compresslab", "numpy", "yaml", "PIL", "concurrent", "hashlib", "mlserver"):
        text = f"open({str(tmp_path / CANARY)!r}, 'w').close()\n"
        (tmp_path / where / f"{module}.py").write_text(text, encoding="utf-8")
    with start(python, tmp_path / "models", tmp_path / "log") as server:
        require_right_answer(server, bundles, *MODELS[0])
    assert not (tmp_path / CANARY).exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"implementation": "json.JSONDecoder"}, r"`implementation` is json\.JSONDecoder, but only compresslab"),
        ({"inputs": 3}, "MLServer does not take these settings"),
        ({"parameters": {"uri": "../nowhere"}}, "MLServer does not take these settings"),
        ({"parameters": {"uri": ".", "extra": {"threads": 0}}}, r"error: fashion-like: parameters\.extra: "),
    ],
)
def test_settings_that_will_not_do_end_mlserver(
    image: Artifact, change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    """By itself it would go on, ready and with nothing to serve, or end with 0."""
    export_bundle(image, tmp_path / "models", "mlserver", cores=2)
    path = tmp_path / "models" / "fashion-like" / "model-settings.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **change}), encoding="utf-8")
    python = serve_python()
    assert python is not None
    with pytest.raises(ServerDied, match=said) as died, mlserver(python, tmp_path / "models", tmp_path / "log"):
        pass
    assert died.value.exit_code == 2


def test_all_that_triton_misses_for_the_onnxruntime_backend_is_the_backend(
    image: Artifact, pair: Artifact, tmp_path: Path
) -> None:
    """PyPI's Triton has only the Python backend; it reads and checks the configuration all the same."""
    for artifact in (image, pair):
        export_bundle(artifact, tmp_path / "models", "triton", cores=2)
    python = triton_python()
    assert python is not None
    with pytest.raises(ServerDied) as died, triton(python, tmp_path / "models", tmp_path / "log"):
        pass
    log = (tmp_path / "log").read_text(encoding="utf-8")
    assert "unable to find backend library for backend 'onnxruntime'" in log, str(died.value)
    complaints = [line for line in log.splitlines() if line.startswith("E") and "failed to load" in line]
    assert len(complaints) == 3
    assert all("unable to find backend library" in line for line in complaints)


def test_a_bundle_is_served_as_it_is(image: Artifact, bundles: dict[str, Artifact], tmp_path: Path) -> None:
    python = serve_python()
    assert python is not None
    with mlserver(python, image.folder, tmp_path / "log") as server:
        require_right_answer(server, bundles, *MODELS[0])
    assert server.process.returncode == 0


@pytest.mark.parametrize("name", SERVERS)
def test_a_folded_model_takes_pixels(image: Artifact, name: str, tmp_path: Path) -> None:
    start, python = (mlserver, serve_python()) if name == "mlserver" else (triton, triton_python())
    assert python is not None
    export_bundle(image, tmp_path / "models", name, backend="python", fold="uint8-nhwc", cores=2)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    request = {
        "inputs": [
            {"name": "raw_pixels", "datatype": "UINT8", "shape": [2, 28, 28, 1], "data": pixels.ravel().tolist()}
        ]
    }
    with start(python, tmp_path / "models", tmp_path / "log") as server:
        status, answer = ask(server, "/v2/models/fashion-like/infer", request)
    assert status == 200, answer
    expected = outputs(image, "model", {"pixels": image.manifest.preprocessing.normalize(pixels)})["logits"]
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (2, 10)), expected, rtol=1e-5, atol=1e-5)


def spoil(folder: Path, damage: str) -> str:
    """Damages a bundle, and returns what is to be said of it."""
    if damage == "changed graph":
        path = folder / "model.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        return r"model\.onnx: this is not the file that was exported"
    if damage == "changed labels":
        path = folder / "labels.txt"
        path.write_text("".join(reversed(path.read_text(encoding="utf-8").splitlines(keepends=True))), encoding="utf-8")
        return r"labels\.txt: this is not the file that was exported"
    (folder / "labels.txt").unlink()
    return r"labels\.txt: the manifest names this file, but it is missing"


def send_gigabyte(server: Server, path: str, chunked: bool) -> int:
    """The status of the answer to a gigabyte of spaces, which is read as soon as there is one; 0 if there is none."""
    host, port = server.http.split(":")
    part = b" " * (1 << 20)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {1 << 30}"
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{length}\r\n\r\n"
    with socket.create_connection((host, int(port)), 120) as connection:
        connection.sendall(head.encode())
        try:
            for _ in range(1 << 10):
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        except ConnectionError:
            pass
        else:
            if chunked:
                connection.sendall(b"0\r\n\r\n")
        try:
            answer = connection.recv(100)
        except ConnectionError:
            return 0
    return int(answer.split()[1]) if answer.startswith(b"HTTP/") else 0
