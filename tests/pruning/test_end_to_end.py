"""Pruned networks of every kind, to the end: rebuilt in a fresh process, in ONNX Runtime, and trained in INT8."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from compresslab.candidate import TorchModel
from compresslab.export.compact import to_bytes
from compresslab.export.integer_operators import integer_operators
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import to_onnx
from compresslab.measure.session import SessionOptions
from compresslab.models import architecture
from compresslab.models.blocks import without_blocks
from compresslab.models.builder import PythonBuilder
from compresslab.pruning import cut, find_blocks, find_groups, without
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare
from tests.pruning.networks import CASES, build

ROOT = Path(__file__).parents[2]
NETWORKS = f"{Path(__file__).parent / 'networks.py'}:build"
LOAD_ALL = """
import sys
from pathlib import Path
import numpy as np, torch
from compresslab.models import architecture
root, reference = Path(sys.argv[1]), sys.argv[2]
for folder in sorted(root.iterdir()):
    model = architecture.load(folder, trusted=(reference,))
    example = torch.from_numpy(np.load(folder / "example.npy"))
    with torch.no_grad():
        np.save(folder / "again.npy", model.module(example).numpy())
"""

pytestmark = pytest.mark.slow


def available(name):
    needs = CASES[name].needs
    return needs is None or find_spec(needs) is not None


NAMES = [name for name in CASES if available(name)]


def pruned(name):
    """Half of everything gone, and a block where one can go; with what builds it again."""
    module, example = build(name), CASES[name].example()
    builder = PythonBuilder.of(NETWORKS, {"name": name}).model_dump(mode="json")
    blocks = find_blocks(module, example).names
    if blocks:
        module, builder = without(module, blocks[-1:]), without_blocks(builder, blocks[-1:])
    groups = find_groups(module, example)
    keep = {group.name: range(0, group.units, 2) for group in groups}
    return TorchModel(cut(module, groups, keep).eval(), builder), example


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """Each network's outputs in this process, and in a fresh one that has only what was saved."""
    folder = tmp_path_factory.mktemp("networks")
    places = {name: folder / f"{number:02}" for number, name in enumerate(NAMES)}
    for name, place in places.items():
        model, example = pruned(name)
        architecture.save(model, place)
        np.save(place / "example.npy", example.numpy())
        with torch.no_grad():
            np.save(place / "outputs.npy", model.module(example).numpy())
    command = [sys.executable, "-W", "ignore", "-c", LOAD_ALL, str(folder), NETWORKS]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return places


@pytest.mark.parametrize("name", NAMES)
def test_outputs_are_the_same_in_a_fresh_process(rebuilt, name):
    first, again = (np.load(rebuilt[name] / file) for file in ("outputs.npy", "again.npy"))
    assert first.std() > 1e-3, "outputs that are all alike would show nothing"
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_answers_as_torch_does(name, tmp_path):
    model, example = pruned(name)
    with torch.no_grad():
        expected = model.module(example).numpy()
    found = answers(exported(model.module, example, tmp_path / "model.onnx"), example)
    assert expected.std() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_trained_in_int8_and_runs_as_integers(name, tmp_path):
    """QAT on top of pruning: a step changes the network, the file agrees with it, and integer kernels run."""
    model, example = pruned(name)
    rows = (
        torch.cat([example] * 8) if example.dtype == torch.int64 else torch.cat([example + 0.1 * k for k in range(8)])
    )
    network = prepare(model.module, example, QuantizerSettings())
    calibrate(network, rows.split(8))
    network.train()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = network(example).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    network.eval()
    with torch.no_grad():
        simulated = network(example).numpy()
    path = exported(convert(network), example, tmp_path / "int8.onnx")
    found = answers(path, example)
    noise = np.square(found - simulated).mean() / np.square(simulated).mean()
    assert noise < 0.02, "ONNX Runtime must compute what was trained"
    kernels = integer_operators(path, SessionOptions())
    assert kernels.integer > 0
    # Sums between LayerNorms, and attention's own products, stay in float by choice.
    assert kernels.integer >= 0.5 * kernels.eligible, kernels.floating


def exported(module, example, path):
    graph = to_onnx(module.eval(), example, "outputs")
    rewrite(graph)
    path.write_bytes(to_bytes(graph))
    return path


def answers(path, example):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return session.run(None, {given.name: example.numpy()})[0]
