"""The Optimum layout of models of texts: Optimum and AutoTokenizer answer a text as the bundle does, ids and all."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from compresslab.bundle.verifying import verify
from compresslab.candidate import OnnxModel, TorchModel
from compresslab.errors import BadInput
from compresslab.export import export
from compresslab.export.towers import join_towers
from compresslab.measure.artifact import Artifact, load_artifact
from compresslab.measure.evaluate import answers, predict
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.text_preprocessing import TextPreprocessing, as_texts
from compresslab.models import ModelSpec, Signature
from compresslab.quantization import quantize_dynamic
from compresslab.serving import export_bundle
from compresslab.students import Corpus, FromTeacher, Static, derive, derive_static
from tests.models.encoders import save_sentence_transformers
from tests.texts import QUEUES, save_distilbert, sentences, train_tokenizer

pytestmark = pytest.mark.usefixtures("libraries")

TRAINED = sentences(60)[0]
TEXTS = as_texts([
    *sentences(6, seed=3)[0],
    "a",
    " ",
    "?",
    "please " * 60,
    "\uff34he \uff50arcel — naïve café, déjà vu\u00a0…",
    "cafe\u0301 \u200b\u0000 a\tb\nc",
    "包裹在哪里 👩‍👩‍👧 🙂",
    "[PAD] my [CLS] parcel [SEP] [UNK] again",
    "PASSWORD reset" * 9,
])  # fmt: skip
LONGEST = 16
Make = Callable[[Path], Artifact]


def reading(tokenizer: Path) -> TextPreprocessing:
    return TextPreprocessing.of(tokenizer, pad_id=0, max_length=LONGEST)


def exported(folder: Path, model: TorchModel | OnnxModel, how: TextPreprocessing, **answers: object) -> Artifact:
    given = {"labels": (), **answers}
    export(model, folder, preprocessing=how, inputs=how.graph_input(TEXTS), provenance={}, **given)
    return load_artifact(folder)


def classifier(folder: Path) -> Artifact:
    model = ModelSpec(hf=str(save_distilbert(folder / "net"))).build(Signature("texts", 200, 3))
    return exported(folder / "model", model, reading(folder / "net" / "tokenizer.json"), labels=QUEUES)


def cut_classifier(folder: Path) -> Artifact:
    """Layers, units, tokens and ranks are gone: nothing that a configuration of the library's could describe."""
    model = ModelSpec(hf=str(save_distilbert(folder / "net"))).build(Signature("texts", 200, 3))
    corpus = Corpus([TRAINED], (folder / "net" / "tokenizer.json").read_text(encoding="utf-8"), 0, LONGEST)
    asked = {"layers": [1], "ffn": 32, "vocabulary": {"trim": {"min_count": 30}}, "embedding_rank": 16}
    made = derive(model, FromTeacher.model_validate(asked), corpus)
    assert made.corpus is not None
    (folder / "tokenizer.json").write_text(made.corpus.tokenizer, encoding="utf-8")
    how = TextPreprocessing.of(folder / "tokenizer.json", pad_id=made.corpus.pad_id, max_length=LONGEST)
    return exported(folder / "model", made.model, how, labels=QUEUES)


def int8_classifier(folder: Path) -> Artifact:
    plain = classifier(folder)
    model = quantize_dynamic(plain.graphs["model"], folder / "int8.onnx")
    return exported(folder / "int8", model, reading(folder / "net" / "tokenizer.json"), labels=QUEUES)


def regressor(folder: Path) -> Artifact:
    model = ModelSpec(hf=str(save_distilbert(folder / "net", None))).build(Signature("texts", 200, 1, 3.0, 2.0))
    return exported(folder / "model", model, reading(folder / "net" / "tokenizer.json"), target="urgency")


def encoder(folder: Path) -> Artifact:
    save_sentence_transformers(folder / "net", dense=24)
    model = ModelSpec(sentence_transformers=str(folder / "net")).build(Signature("texts", 70, 24, any_width=True))
    return exported(folder / "model", model, reading(folder / "net" / "tokenizer.json"), embedding=True)


def static_encoder(folder: Path) -> Artifact:
    """A table of vectors, which no network of transformers' is."""
    save_sentence_transformers(folder / "net")
    teacher = ModelSpec(sentence_transformers=str(folder / "net")).build(Signature("texts", 70, 8, any_width=True))
    corpus = Corpus([TRAINED], (folder / "net" / "tokenizer.json").read_text(encoding="utf-8"), 0, LONGEST)
    made = derive_static(teacher, Static(width=12, vocabulary=None), corpus)
    return exported(folder / "model", made.model, reading(folder / "net" / "tokenizer.json"), embedding=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Make], Artifact]:
    """What one of the functions above makes, once for all tests; nobody changes it."""
    return cache(lambda make: make(tmp_path_factory.mktemp(make.__name__)))


def fed(folder: Path, texts: np.ndarray = TEXTS, kind: str = "pt") -> dict[str, object]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    return dict(tokenizer([str(text) for text in texts], padding=True, truncation=True, return_tensors=kind))


@pytest.mark.parametrize("make", [classifier, cut_classifier, int8_classifier, regressor])
def test_a_classifier_or_regressor_answers_as_the_bundle(make, built, tmp_path):
    """Tokens that are cut, padded or spelled otherwise show in the ids, and a wrong name of a class in the labels."""
    from optimum.onnxruntime import ORTModelForSequenceClassification

    artifact = built(make)
    out = tmp_path / "out"
    made = export_bundle(artifact, out, "optimum")
    assert made.notes == ()
    assert made.loaded_by == {out: "ORTModelForSequenceClassification"}
    model = ORTModelForSequenceClassification.from_pretrained(out)
    given = fed(out)
    assert list(given) == ["input_ids"]
    np.testing.assert_array_equal(given["input_ids"].numpy(), artifact.manifest.preprocessing.graph_input(TEXTS))
    with torch.no_grad():
        found = model(**given).logits.numpy()
    np.testing.assert_allclose(found, predict(artifact, TEXTS), rtol=1e-4, atol=1e-5)
    labels, target = artifact.manifest.labels, artifact.manifest.target
    assert model.config.id2label == dict(enumerate(labels or (target,)))
    assert model.config.num_labels == found.shape[1]
    assert model.config.problem_type == ("single_label_classification" if labels else "regression")
    assert model.config.vocab_size == artifact.manifest.preprocessing.vocabulary
    # It is a bundle all the same, and answers as one.
    verify(out)
    np.testing.assert_allclose(predict(load_artifact(out), TEXTS), predict(artifact, TEXTS), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [encoder, static_encoder])
def test_an_encoder_gives_the_embedding_by_its_own_name_and_by_the_one_that_the_class_reads(make, built, tmp_path):
    """A mean by the attention mask over one state, or a second normalization, would be something else."""
    from optimum.onnxruntime import ORTModelForCustomTasks, ORTModelForFeatureExtraction

    artifact = built(make)
    out = tmp_path / "out"
    assert export_bundle(artifact, out, "optimum").loaded_by == {out: "ORTModelForFeatureExtraction"}
    given = fed(out)
    np.testing.assert_array_equal(given["input_ids"].numpy(), artifact.manifest.preprocessing.graph_input(TEXTS))
    model = ORTModelForFeatureExtraction.from_pretrained(out)
    states = model(**given).last_hidden_state
    width = artifact.manifest.embedding
    assert states.shape == (len(TEXTS), 1, width)
    assert model.config.hidden_size == width
    expected = predict(artifact, TEXTS)
    np.testing.assert_allclose(states[:, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
    named = ORTModelForCustomTasks.from_pretrained(out)(**given).sentence_embedding
    np.testing.assert_array_equal(named.numpy(), states[:, 0].numpy())
    verify(out)
    np.testing.assert_allclose(predict(load_artifact(out), TEXTS), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(BadInput, match="1 inputs, 2 outputs and 0 labels; use --format onnx"):
        export_bundle(load_artifact(out), tmp_path / "again", "optimum")


def test_a_value_inside_that_has_the_name_already_makes_way(built, tmp_path):
    """torch names values by what they are, and two of one name are no graph."""
    artifact = built(encoder)
    model = onnx.load_model_from_string(artifact.graphs["model"].read_bytes())
    inside = next(node for node in model.graph.node if node.op_type == "MatMul").output[0]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["last_hidden_state" if name == inside else name for name in names]
    onnx.save(model, tmp_path / "model.onnx")
    changed = Artifact(artifact.folder, {"model": tmp_path / "model.onnx"}, artifact.manifest)
    export_bundle(changed, tmp_path / "out", "optimum")
    np.testing.assert_array_equal(predict(load_artifact(tmp_path / "out"), TEXTS), predict(changed, TEXTS))


def test_every_text_alone_is_answered_as_in_a_batch(built, tmp_path):
    """Padding that the graph counts, or a length that it has fixed, would show."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    artifact = built(encoder)
    export_bundle(artifact, tmp_path / "out", "optimum")
    model = ORTModelForFeatureExtraction.from_pretrained(tmp_path / "out")
    alone = [model(**fed(tmp_path / "out", TEXTS[[row]], "np")).last_hidden_state[0, 0] for row in range(len(TEXTS))]
    np.testing.assert_allclose(np.stack(alone), predict(artifact, TEXTS), rtol=1e-4, atol=1e-5)


def test_pipelines_of_transformers_name_classes_and_leave_numbers_alone(built, tmp_path):
    """By `problem_type`: of a number they would make a share otherwise."""
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from transformers import AutoTokenizer, pipeline

    for make in (classifier, regressor):
        artifact = built(make)
        out = tmp_path / make.__name__
        export_bundle(artifact, out, "optimum")
        run = pipeline(
            "text-classification", model=ORTModelForSequenceClassification.from_pretrained(out),
            tokenizer=AutoTokenizer.from_pretrained(out), truncation=True, device=torch.device("cpu"),
        )  # fmt: skip
        expected = predict(artifact, TEXTS)
        found = run([str(text) for text in TEXTS])
        if artifact.manifest.labels:
            assert [one["label"] for one in found] == [QUEUES[best] for best in expected.argmax(1)]
        else:
            np.testing.assert_allclose([one["score"] for one in found], expected[:, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", [classifier, regressor, encoder])
def test_the_card_shows_what_runs(make, built, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    export_bundle(built(make), out, "optimum")
    card = (out / "README.md").read_text(encoding="utf-8").partition("## With Optimum")[2]
    (lines,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(out)
    names: dict[str, object] = {}
    exec(lines, names)
    expected = predict(load_artifact(out), as_texts(names["texts"]))
    found = names["embeddings"] if make is encoder else names["scores"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    if make is classifier:
        assert str([QUEUES[best] for best in expected.argmax(1)]) in capsys.readouterr().out


def test_what_autotokenizer_does_otherwise_is_told(built, tmp_path):
    """A padding that is a word of the vocabulary becomes special, and what the task refused is cut."""
    plain = json.loads(train_tokenizer(tmp_path).read_text(encoding="utf-8"))
    plain["added_tokens"] = [one for one in plain["added_tokens"] if one["content"] != "[PAD]"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(plain), encoding="utf-8")
    how = TextPreprocessing.of(tmp_path / "tokenizer.json", pad_id=0, max_length=LONGEST, truncate=False)
    artifact = built(classifier)
    manifest = artifact.manifest.model_copy(update={"preprocessing": how})
    changed = Artifact(tmp_path, artifact.graphs, manifest)
    marked, cut = export_bundle(changed, tmp_path / "out", "optimum").notes
    assert "takes `[PAD]` for padding wherever it stands" in marked
    assert f"`truncation=True` cuts texts of more than {LONGEST} tokens, which the task refused" in cut
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "which the task refused" in card


def test_a_padding_that_is_no_token_is_refused(built, tmp_path):
    artifact = built(classifier)
    how = TextPreprocessing.of(train_tokenizer(tmp_path), pad_id=5000, max_length=LONGEST)
    changed = Artifact(artifact.folder, artifact.graphs, artifact.manifest.model_copy(update={"preprocessing": how}))
    with pytest.raises(BadInput, match=r"padded with the id 5000, but `tokenizer\.json` has no token of that id"):
        export_bundle(changed, tmp_path / "out", "optimum")
    assert not (tmp_path / "out").exists()


def test_two_towers_are_a_folder_each(built, tmp_path):
    """Both have the output that the class reads, and images get a processor."""
    from optimum.onnxruntime import ORTModelForFeatureExtraction

    class Image(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3 * 8 * 8, 24)

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.normalize(self.layer(pixels.flatten(1)), dim=-1)

    torch.manual_seed(0)
    seen = ImagePreprocessing(height=8, width=8, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), np.uint8)
    image = export(
        TorchModel(Image().eval(), None), tmp_path / "image", preprocessing=seen, labels=(),
        inputs=seen.graph_input(pixels), provenance={}, embedding=True,
    )  # fmt: skip
    join_towers({"image": image, "text": built(encoder)}, tmp_path / "shop", {})
    artifact = load_artifact(tmp_path / "shop")
    out = tmp_path / "out"
    made = export_bundle(artifact, out, "optimum")
    assert made.loaded_by == dict.fromkeys((out / "shop-image", out / "shop-text"), "ORTModelForFeatureExtraction")
    assert {path.name for path in out.iterdir()} == {"shop-image", "shop-text"}
    texts = ORTModelForFeatureExtraction.from_pretrained(out / "shop-text")
    found = texts(**fed(out / "shop-text")).last_hidden_state[:, 0].numpy()
    np.testing.assert_allclose(found, answers(artifact, "text", TEXTS), rtol=1e-4, atol=1e-5)
    images = ORTModelForFeatureExtraction.from_pretrained(out / "shop-image")
    found = images(pixel_values=seen.normalize(pixels)).last_hidden_state[:, 0]
    np.testing.assert_allclose(found, answers(artifact, "image", pixels), rtol=1e-4, atol=1e-5)
    for name in ("shop-image", "shop-text"):
        verify(out / name)
    assert (out / "shop-image" / "preprocessor_config.json").is_file()
