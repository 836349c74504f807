"""Real servers on loopback that read texts: they answer what `compresslab predict` answers for the same strings."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.servers.processes import Server, mlserver, serve_python, triton, triton_python
from compresslab.measure.artifact import Artifact
from compresslab.measure.evaluate import predict
from compresslab.measure.preprocessing import Samples
from compresslab.measure.text_preprocessing import as_texts
from compresslab.serving import export_bundle
from tests.text_bundles import LONGEST, classifier, towers

pytestmark = pytest.mark.slow
TEXTS = ["my invoice", "a password that was reset, and an account that is locked", "parcel " * 40, "zwölf Pakete"]


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("bundles")
    return {"tickets": classifier(folder / "tickets"), "colours": towers(folder / "colours")}


@pytest.fixture(scope="module")
def mlserver_up(bundles: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    python = serve_python()
    if python is None:
        pytest.skip("run `make servers` first")
    folder = tmp_path_factory.mktemp("mlserver")
    for artifact in bundles.values():
        export_bundle(artifact, folder / "models", "mlserver", cores=2)
    with mlserver(python, folder / "models", folder / "log") as server:
        yield server


def ask(server: Server, model: str, given: dict[str, Any]) -> tuple[int, Any]:
    data = json.dumps({"inputs": [given]}).encode()
    url = f"http://{server.http}/v2/models/{model}/infer"
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30
        ) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read() or b"null")


def strings(texts: list[Any]) -> dict[str, Any]:
    return {"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}


def require_answer(answered: tuple[int, Any], expected: np.ndarray) -> None:
    status, answer = answered
    assert status == 200, answer
    (output,) = answer["outputs"]
    assert output["shape"] == list(expected.shape)
    np.testing.assert_allclose(np.reshape(output["data"], expected.shape), expected, rtol=0, atol=1e-5)


def test_mlserver_reads_strings(mlserver_up: Server, bundles: dict[str, Artifact]) -> None:
    """Of several lengths in one request, one of them cut; and the text tower of two by its own tokenizer."""
    require_answer(ask(mlserver_up, "tickets", strings(TEXTS)), predict(bundles["tickets"], as_texts(TEXTS)))
    words = ["all colour3", "colour20"]
    expected = predict(bundles["colours"].only("text"), as_texts(words))
    require_answer(ask(mlserver_up, "colours-text", strings(words)), expected)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"name": "input_ids", "datatype": "INT64", "shape": [1, 2], "data": [1, 2]}, "one input, `text` BYTES"),
        (strings([" "]), "an empty text has no answer"),
        (strings([3]), "must be a string"),
        (strings(["a"] * 65), "at most 64 are taken"),
    ],
)
def test_mlserver_refuses_what_does_not_fit(
    mlserver_up: Server, bundles: dict[str, Artifact], given: dict[str, Any], said: str
) -> None:
    status, answer = ask(mlserver_up, "tickets", given)
    assert status == 400
    assert said in answer["error"]
    require_answer(ask(mlserver_up, "tickets", strings(TEXTS)), predict(bundles["tickets"], as_texts(TEXTS)))


def test_a_text_as_long_as_a_book_is_refused_or_cut_and_stops_nothing(
    mlserver_up: Server, bundles: dict[str, Artifact]
) -> None:
    try:
        status, answer = ask(mlserver_up, "tickets", strings(["parcel " * 1_000_000]))
    except urllib.error.URLError:  # the connection is closed on what is still being sent
        status, answer = 413, None
    assert status == 413, answer
    long = ["parcel " * 100_000]
    require_answer(ask(mlserver_up, "tickets", strings(long)), np.array([[0.0, LONGEST, 0.0]], np.float32))


def test_triton_takes_the_ids_that_its_card_tells_of(bundles: dict[str, Artifact], tmp_path: Path) -> None:
    python = triton_python()
    if python is None:
        pytest.skip("run `make servers` first")
    for artifact in bundles.values():
        export_bundle(artifact, tmp_path / "models", "triton", backend="python", cores=2)
    samples: dict[str, tuple[Artifact, Samples]] = {
        "tickets": (bundles["tickets"], as_texts(TEXTS)),
        "colours-text": (bundles["colours"].only("text"), as_texts(["all colour3", "colour20"])),
    }
    with triton(python, tmp_path / "models", tmp_path / "log") as server:
        for model, (artifact, texts) in samples.items():
            ids = artifact.manifest.preprocessing.graph_input(texts)
            given = {"name": "input_ids", "datatype": "INT64", "shape": list(ids.shape), "data": ids.ravel().tolist()}
            require_answer(ask(server, model, given), predict(artifact, texts))


CLIENT = """
import sys
import numpy
import tritonclient.grpc as grpc
texts = numpy.array([one.encode() for one in sys.argv[2:]], dtype=object)
given = grpc.InferInput("text", [len(texts)], "BYTES")
given.set_data_from_numpy(texts)
print(grpc.InferenceServerClient(sys.argv[1]).infer("tickets", [given]).as_numpy("logits").tolist())
"""


def test_over_grpc_strings_are_bytes(mlserver_up: Server, bundles: dict[str, Artifact]) -> None:
    python = triton_python()
    if python is None:
        pytest.skip("run `make servers` first")
    ended = subprocess.run(
        [str(python), "-c", CLIENT, mlserver_up.grpc, *TEXTS], capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    np.testing.assert_allclose(json.loads(ended.stdout), predict(bundles["tickets"], as_texts(TEXTS)), atol=1e-5)
