"""compresslab export, predict and verify: what they print, and how they end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.servers.bundles import LABELS, image_bundle, two_graph_bundle
from compresslab.cli.export import Pixels
from compresslab.measure.preprocessing import ImagePreprocessing, PixelInput

from .conftest import Ended

Command = Callable[..., Ended]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return image_bundle(tmp_path / "bundle").folder


def test_verify_tells_what_it_checked(command: Command, bundle: Path) -> None:
    ended = command("verify", str(bundle))
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0] == "ok: every file that the manifest lists (3) has its SHA-256"
    assert lines[-1].startswith(f"{bundle}: sha256 of manifest.json, which has every other: ")


@pytest.mark.parametrize("arguments", [("verify",), ("predict", "x.png"), ("export", "--format", "triton")])
def test_every_load_checks_the_hashes(command: Command, bundle: Path, arguments: tuple[str, ...]) -> None:
    """Also where the label file, which no graph needs, is what is missing."""
    (bundle / "labels.txt").unlink()
    ended = command(arguments[0], str(bundle), *arguments[1:])
    assert ended.code == 2
    assert ended.err == (
        f"error: {bundle}/labels.txt: the manifest names this file, but it is missing; export the model again\n"
    )
    assert not (bundle.parent / "bundle-triton").exists()


def test_predict_as_text_and_as_json(command: Command, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (2, 28, 28), np.uint8))
    ended = command("predict", str(bundle), str(tmp_path / "x.npy"), "--top", "2")
    first, second = ended.out.splitlines()
    assert first.startswith(f"{tmp_path}/x.npy[0]: ")
    assert second.count("%") == 2
    ended = command("predict", str(bundle), str(tmp_path / "x.npy"), "--json")
    told = [json.loads(line) for line in ended.out.splitlines()]
    assert [one["row"] for one in told] == [0, 1]
    assert [len(one["labels"]) for one in told] == [3, 3]
    assert {label["label"] for label in told[0]["labels"]} <= set(LABELS)
    shares = [label["probability"] for label in told[0]["labels"]]
    assert shares == sorted(shares, reverse=True)
    assert 0 < sum(shares) <= 1


def test_predict_with_one_of_several_graphs(command: Command, tmp_path: Path) -> None:
    pair = two_graph_bundle(tmp_path / "pair").folder
    np.savez(tmp_path / "x.npz", tokens=np.ones((1, 8), np.int64), mask=np.ones((1, 8), np.int64))
    assert command("predict", str(pair), str(tmp_path / "x.npz")).code == 2
    ended = command("predict", str(pair), str(tmp_path / "x.npz"), "--graph", "text")
    assert ended.code == 0
    assert f"{tmp_path}/x.npz[0]: embedding [16] = " in ended.out


def test_export_writes_beside_the_bundle_and_tells_why(command: Command, bundle: Path) -> None:
    ended = command("export", str(bundle), "--format", "triton", "--cores", "4")
    assert ended.code == 0
    repository = bundle.with_name("bundle-triton")
    assert (repository / "fashion-like" / "config.pbtxt").is_file()
    assert f"fashion-like: {repository}/fashion-like\n" in ended.out
    assert "batch 8 on 1 thread, 4 side by side on 4 cores" in ended.out
    assert ended.out.endswith(f"tritonserver --model-repository={repository}\n")
    assert "count: 4" in (repository / "fashion-like" / "config.pbtxt").read_text(encoding="utf-8")


def test_a_run_stands_for_its_selected_model(command: Command, bundle: Path, tmp_path: Path) -> None:
    shutil.move(bundle, tmp_path / "run" / "selected")
    ended = command("export", str(tmp_path / "run"), "--format", "mlserver", "--out", str(tmp_path / "out"))
    assert ended.code == 0
    assert (tmp_path / "out" / "fashion-like" / "model-settings.json").is_file()
    # The machine of the run has two cores.
    assert "2 side by side on 2 cores" in ended.out


def test_a_folded_bundle_answers_the_same(command: Command, bundle: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8))
    folded = str(tmp_path / "folded")
    ended = command("export", str(bundle), "--format", "onnx", "--fold-preprocessing", "--out", folded)
    assert ended.code == 0
    assert "normalization is in the graph" in ended.out
    answers = [command("predict", place, str(tmp_path / "x.npy")).out for place in (str(bundle), folded)]
    assert answers[0] == answers[1]
    assert command("verify", folded).code == 0


def test_verify_takes_what_was_exported_for_mlserver(command: Command, bundle: Path) -> None:
    """Its settings lie beside what has hashes; whatever else does is told."""
    assert command("export", str(bundle), "--format", "mlserver").code == 0
    model = bundle.with_name("bundle-mlserver") / "fashion-like"
    ended = command("verify", str(model))
    assert ended.code == 0
    assert "ok: no other file lies here, but `model-settings.json`, which may be edited\n" in ended.out
    (model / "onnxruntime.py").write_text("", encoding="utf-8")
    ended = command("verify", str(model))
    assert ended.code == 2
    assert f"{model}: `onnxruntime.py` is not in the manifest, so nothing vouches for it; remove it" in ended.err


def test_optimum_says_how_to_load_the_folder(command: Command, bundle: Path) -> None:
    ended = command("export", str(bundle), "--format", "optimum")
    assert ended.code == 0
    out = bundle.with_name("bundle-optimum")
    assert "note: no preprocessor_config.json: no image processor of transformers' takes grey images" in ended.out
    assert f"ORTModelForImageClassification.from_pretrained({str(out)!r})" in ended.out.replace("\n", "")
    assert command("verify", str(out)).code == 0


def test_the_options_are_those_of_the_preprocessing() -> None:
    """The command line has a list of its own, as its help loads nothing."""

    assert tuple(one.value for one in Pixels) == get_args(PixelInput)
    assert ImagePreprocessing.model_fields["folded"].default is None
