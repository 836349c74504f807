"""Networks that read ids: a graph of any batch and length, checked on real texts, with its tokenizer beside it."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compresslab.candidate import TorchModel
from compresslab.digest import digest_file
from compresslab.errors import ArtifactError
from compresslab.export import export
from compresslab.export.graph_costs import graph_costs
from compresslab.export.reading import read_model
from compresslab.measure import bench
from compresslab.measure.artifact import load_artifact
from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.evaluate import predict
from compresslab.measure.subject import subject_of
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from compresslab.measure.worker import _feeds
from tests.texts import sentences, train_tokenizer

TEXTS = as_texts(sentences(90)[0])


class Mean(nn.Module):
    """The mean of the tokens' vectors, padding left out, through a layer."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.table = nn.Embedding(vocabulary, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        mask = torch.ne(ids, 0).float().unsqueeze(2)
        return self.head((self.table(ids) * mask).sum(1) / mask.sum(1))


@pytest.fixture(scope="module")
def how(tmp_path_factory):
    return TextPreprocessing.of(train_tokenizer(tmp_path_factory.mktemp("t")), pad_id=0, max_length=32)


@pytest.fixture(scope="module")
def network(how):
    torch.manual_seed(0)
    return Mean(how.vocabulary).eval()


@pytest.fixture(scope="module")
def exported(how, network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifact")
    inputs = how.graph_input(TEXTS)
    export(TorchModel(network, None), folder, preprocessing=how, labels=("a", "b", "c"), inputs=inputs, provenance={})
    return folder


def test_batch_and_length_are_open_and_the_tokenizer_belongs_to_it(exported, how):
    artifact = load_artifact(exported)
    (info,) = artifact.manifest.graphs["model"].inputs
    assert (info.name, info.dtype, info.shape) == ("input_ids", "int64", ("batch", "sequence"))
    assert artifact.manifest.files == {"tokenizer.json": how.sha256}
    assert digest_file(exported / "tokenizer.json") == how.sha256
    assert artifact.manifest.prepares("model")
    assert artifact.manifest.parity.n == len(TEXTS)


def test_what_is_loaded_answers_texts_as_torch_does(exported, how, network):
    """In whatever batches they come: predictions are made of texts of a length, and must come back in order."""
    outputs = predict(load_artifact(exported), TEXTS)
    with torch.no_grad():
        one_by_one = [network(torch.from_numpy(how.graph_input(TEXTS[[row]]))).numpy() for row in range(len(TEXTS))]
    np.testing.assert_allclose(outputs, np.concatenate(one_by_one), atol=1e-5)


def test_a_text_that_is_there_often_is_read_once(exported, monkeypatch):
    """Fifty stories in all their pairs are 2,450 texts: read each time they take longer than all else together."""
    artifact = load_artifact(exported)
    once = predict(artifact, TEXTS)
    seen = []

    def noted(self, texts):
        seen.extend(texts)
        return graph_input(self, texts)

    graph_input = TextPreprocessing.graph_input
    monkeypatch.setattr(TextPreprocessing, "graph_input", noted)
    rows = np.random.default_rng(0).integers(0, len(TEXTS), 400)
    np.testing.assert_allclose(predict(artifact, TEXTS[rows]), once[rows], atol=1e-6)
    assert sorted(seen) == sorted(set(TEXTS[rows].tolist()))


def test_a_changed_tokenizer_is_found(exported, tmp_path):
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "tokenizer.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: this is not the file that was exported"):
        load_artifact(tmp_path / "copy")


def test_multiply_adds_are_those_of_a_text_of_mean_length(exported):
    """The layer after the mean has as many for any length; what is computed of each token counts them all."""
    model = read_model(exported / "model.onnx")
    assert graph_costs(model, length=10).macs == graph_costs(model, length=20).macs == 24


def test_latency_is_measured_at_the_lengths_of_the_data(exported, how, tmp_path):
    """Padded to the longest of all, every call would be as slow as the slowest."""
    settings = BenchSettings(points=(BenchPoint(inputs="data"), BenchPoint(batch=4, inputs="shop/queries")))
    short = as_texts(["refund", "my refund", "the refund please"])
    subject = subject_of(load_artifact(exported), TEXTS, settings.wanted, {"shop/queries": short})
    job = bench._job("latency", [subject], settings, tmp_path)
    (model,), (first, second) = job["models"], job["points"]
    alone = [feed["input_ids"].shape for feed in _feeds(model["inputs"]["model"][first["inputs"]], 1, model["padding"])]
    rows = np.linspace(0, len(TEXTS) - 1, 128).round().astype(int)
    assert alone == [(1, length) for length in how.lengths(TEXTS[rows])]
    assert len(set(alone)) > 5
    by_four = _feeds(model["inputs"]["model"][second["inputs"]], 4, model["padding"])
    assert {feed["input_ids"].shape[0] for feed in by_four} == {4}
    assert max(feed["input_ids"].shape[1] for feed in by_four) == 5


def test_texts_are_timed(exported):
    settings = BenchSettings(
        points=(BenchPoint(inputs="data"), BenchPoint(batch=2, io_binding=True)),
        min_seconds=0.01, min_count=4, processes=1, warmup_seconds=0.01,
    )  # fmt: skip
    samples = bench.interleaved([load_artifact(exported)], TEXTS, settings)
    assert all(one[0].count >= 4 for one in samples)
