"""A CLIP in one folder as two networks: each gives what the whole gives, and lives on without it."""

import json
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from compresslab.errors import ModelError
from compresslab.export.compact import to_bytes
from compresslab.export.exporting import export
from compresslab.export.integer_operators import integer_operators
from compresslab.export.rewrite import rewrite
from compresslab.export.to_onnx import to_onnx
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.session import SessionOptions
from compresslab.measure.text_preprocessing import as_texts
from compresslab.models import ModelSpec, Signature
from compresslab.models.architecture import load, save
from compresslab.models.check import require_fit, require_vocabulary
from compresslab.models.image_reading import image_reading
from compresslab.models.text_reading import text_reading
from compresslab.quantization import QuantizerSettings, calibrate, convert, prepare, quantize_dynamic
from compresslab.tasks import TaskSpec
from compresslab.tasks.cross_modal import CrossModal
from tests.clips import END, save_clip
from tests.texts import save_distilbert
from tests.towers import things, words

TEXTS = [text for one in things() for text in words(*one)]
SOME = as_texts(["a red cross", "dim mark with blue dot, and more of it", "ünknown!", "sign"])
READS_TEXTS = Signature("texts", 600, 1, any_width=True)
READS_IMAGES = Signature("images", 3, 1, any_width=True)
PIXELS = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", params=[False, True], ids=["clip", "legacy"])
def saved(request, libraries, tmp_path_factory):
    """The folder; also with the ids of OpenAI's configurations, which their tokenizers do not have."""
    return save_clip(tmp_path_factory.mktemp("clip"), TEXTS, legacy=request.param)


@pytest.fixture
def copied(libraries, tmp_path_factory, tmp_path):
    """One that a test may damage."""
    return save_clip(tmp_path / "clip", TEXTS[:40], layers=1)


def text_tower(folder):
    return ModelSpec(hf=str(folder)).build(READS_TEXTS)


def image_tower(folder):
    return ModelSpec(hf=str(folder)).build(READS_IMAGES)


def whole(folder):
    import transformers

    return transformers.CLIPModel.from_pretrained(folder).eval()


@torch.no_grad()
def test_towers_give_what_the_whole_gives(saved):
    """Would catch another pooling than at the end of a text, a projection left out, and embeddings of any length."""
    import transformers

    network = whole(saved)
    tokenizer = transformers.AutoTokenizer.from_pretrained(saved)
    text, image = text_tower(saved), image_tower(saved)
    given = tokenizer([str(one) for one in SOME], padding=True, return_tensors="pt")
    expected = torch.nn.functional.normalize(network.get_text_features(**given), dim=-1)
    ids = torch.from_numpy(text.preprocessing.normalize(SOME))
    torch.testing.assert_close(text.module(ids), expected)
    assert expected.std(0).mean() > 0.05, "texts are told apart"
    alone = torch.from_numpy(text.preprocessing.normalize(SOME[3:]))
    assert alone.shape[1] < ids.shape[1]
    torch.testing.assert_close(text.module(alone), expected[3:])
    expected = torch.nn.functional.normalize(network.get_image_features(PIXELS), dim=-1)
    torch.testing.assert_close(image.module(PIXELS), expected)
    assert (text.module.training, image.module.training) == (False, False)
    require_vocabulary(text, text.preprocessing)
    require_fit(text, ids.numpy(), 16)
    # The other half is not there.
    assert not [name for name, _ in text.module.named_parameters() if "vis" in name]
    assert not [name for name, _ in image.module.named_parameters() if "text" in name]


@torch.no_grad()
def test_towers_come_back_without_the_folder(saved, tmp_path):
    for name, model, given in (
        ("text", text_tower(saved), torch.from_numpy(text_tower(saved).preprocessing.normalize(SOME))),
        ("image", image_tower(saved), PIXELS),
    ):
        save(model, tmp_path / name)
        again = load(tmp_path / name)
        assert torch.equal(again.module(given), model.module(given))
        assert again.builder == model.builder
        assert again.preprocessing == model.preprocessing


def test_graphs_are_open_in_batch_and_sequence(saved, tmp_path):
    text, image = text_tower(saved), image_tower(saved)
    how = ImagePreprocessing(height=32, width=32, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    for name, model, given, read in (
        ("text", text, text.preprocessing.normalize(SOME), text.preprocessing), ("image", image, PIXELS.numpy(), how),
    ):  # fmt: skip
        artifact = export(
            model, tmp_path / name, preprocessing=read, labels=(), inputs=given, provenance={}, embedding=True
        )
        path = artifact.graphs["model"]
        running = onnxruntime.InferenceSession(path)
        dimensions = running.get_inputs()[0].shape
        assert dimensions == (["batch", "sequence"] if name == "text" else ["batch", 3, 32, 32])
        assert artifact.manifest.embedding == 16
        kinds = {node.op_type for node in onnx.load(path).graph.node}
        assert "Gemm" in kinds or "MatMul" in kinds
        # A length and a batch that the export did not see.
        short = text.preprocessing.normalize(SOME[3:]) if name == "text" else given[:1]
        expected = model.module(torch.from_numpy(short)).detach().numpy()
        np.testing.assert_allclose(running.run(None, {running.get_inputs()[0].name: short})[0], expected, atol=1e-5)
    # Quantized as it comes, texts are embedded nearly as before.
    path = tmp_path / "int8.onnx"
    quantize_dynamic(tmp_path / "text" / "model.onnx", path)
    assert integer_operators(path, SessionOptions()).integer > 0
    found = onnxruntime.InferenceSession(path).run(None, {"input_ids": text.preprocessing.normalize(SOME)})[0]
    with torch.no_grad():
        expected = text.module(torch.from_numpy(text.preprocessing.normalize(SOME))).numpy()
    assert (found * expected).sum(1).min() > 0.97


@pytest.mark.parametrize("tower", ["text", "image"])
def test_towers_become_integer_kernels(copied, tmp_path, tower):
    """A view of the ids in their own shape, as CLIP begins with it, cannot be exported once it was traced."""
    model, given = image_tower(copied), PIXELS
    if tower == "text":
        model = text_tower(copied)
        given = torch.from_numpy(model.preprocessing.normalize(SOME))
    prepared = prepare(model.module, given, QuantizerSettings())
    calibrate(prepared, [given])
    graph = to_onnx(convert(prepared), given, "embedding")
    rewrite(graph)
    path = tmp_path / "int8.onnx"
    path.write_bytes(to_bytes(graph))
    assert integer_operators(path, SessionOptions()).integer >= 6
    running = onnxruntime.InferenceSession(path)
    dimensions = running.get_inputs()[0].shape
    assert dimensions[:2] == (["batch", "sequence"] if tower == "text" else ["batch", 3])
    found = running.run(None, {running.get_inputs()[0].name: given.numpy()})[0]
    with torch.no_grad():
        assert (found * model.module(given).numpy()).sum(1).min() > 0.97


def test_what_the_folder_says_of_reading(saved):
    spec = ModelSpec(hf=str(saved))
    texts, images = text_reading(spec, tower=True), image_reading(spec)
    vocabulary = json.loads((saved / "tokenizer.json").read_text())["model"]["vocab"]
    # Filled up with what begins a text, which stands nowhere else; the end would be taken for padding.
    assert (texts.pad_id, texts.limit) == (vocabulary[END] - 1, 24)
    assert (images.size, images.channels, images.resize, images.crop, images.fit) == (32, 3, "bicubic", 1.0, "cover")
    assert images.mean == (0.48145466, 0.4578275, 0.40821073)


def test_images_are_prepared_as_the_image_processor_does(saved):
    """Lying and standing ones too: CLIP cuts off what sticks out, and does not stretch."""
    import transformers

    reading = image_reading(ModelSpec(hf=str(saved)))
    how = ImagePreprocessing(
        height=reading.size, width=reading.size, channels=reading.channels, mean=reading.mean, std=reading.std,
        resize=reading.resize, crop=reading.crop, fit=reading.fit,
    )  # fmt: skip
    processor = transformers.CLIPImageProcessor.from_pretrained(saved)
    random = np.random.default_rng(0)
    for width, height in ((32, 32), (96, 64), (40, 100)):
        coarse = Image.fromarray(random.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        image = coarse.resize((width, height), Image.Resampling.BICUBIC)
        path = saved / "image.png"
        image.save(path)
        ours = how.normalize(how.open(path)[None])
        theirs = processor(image, return_tensors="np")["pixel_values"]
        # It rounds where the cut begins to whole pixels.
        assert np.abs(ours - theirs).mean() < 0.04, (width, height)


@pytest.mark.parametrize(
    ("size", "crop", "expected"),
    [({"shortest_edge": 40}, 32, (0.8, "cover")), (32, 32, (1.0, "cover")), ({"height": 32, "width": 32}, None,
                                                                          (1.0, "stretch"))],
)  # fmt: skip
def test_sizes_of_processors(copied, size, crop, expected):
    edit(copied, size=size, crop_size=crop, do_center_crop=crop is not None)
    found = image_reading(ModelSpec(hf=str(copied)))
    assert (found.crop, found.fit) == expected


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": 64, "crop_size": 64}, r"makes images of 64 pixels a side out of 64, but the network takes 32"),
        ({"do_rescale": False}, r"`do_resize` and `do_rescale` must be true"),
        ({"resample": 1}, r"`resample` is 1; known are 0, 2, 3"),
        ({"image_mean": [0.5]}, r"`image_mean` must have a number for each of 3 channels, but is \[0.5\]"),
        ({"size": {"longest_edge": 32}}, r"sizes must be a number, `shortest_edge`, or the same `height` and `width`"),
    ],
)
def test_processors_that_cannot_be_followed(copied, changes, told):
    edit(copied, **changes)
    with pytest.raises(ModelError, match=told):
        image_reading(ModelSpec(hf=str(copied)))


def test_folders_that_are_not_whole(copied):
    spec = ModelSpec(hf=str(copied))
    (copied / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"has no preprocessor_config.json, which says how its images are scaled"):
        image_reading(spec)
    kept = (copied / "tokenizer.json").read_text()
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"has no tokenizer.json, which says where a text ends.*CLIPTokenizerFast"):
        text_tower(copied)
    plain = json.loads(kept)
    plain["post_processor"] = None
    (copied / "tokenizer.json").write_text(json.dumps(plain))
    with pytest.raises(ModelError, match=r"puts 0 tokens around a text where CLIP's puts one before and one behind"):
        text_tower(copied)
    (copied / "tokenizer.json").write_text(kept)
    config = json.loads((copied / "config.json").read_text())
    config["text_config"]["eos_token_id"] -= 3
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"ends texts with id \d+, but the network looks for \d+ \(`eos_token_id`\)"):
        text_tower(copied)


def test_weights_that_only_pickle_has(copied):
    torch.save(whole(copied).state_dict(), copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"with its weights as model.safetensors, as no other format is read"):
        image_tower(copied)


def test_folders_of_something_else(libraries, copied, tmp_path):
    import transformers

    save_distilbert(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"is a `distilbert`, one network, and images and texts in one space need two"):
        image_reading(ModelSpec(hf=str(tmp_path / "bert")))
    with pytest.raises(ModelError, match=r"is a `distilbert`, one network"):
        image_tower(tmp_path / "bert")
    with pytest.raises(ModelError, match=r"is a `clip`, which embeds images and texts.*to a `cross_modal` task"):
        text_reading(ModelSpec(hf=str(copied)))
    with pytest.raises(ModelError, match=r"has no weights for `classifier.*to a `cross_modal` task, or give it"):
        ModelSpec(hf=str(copied)).build(Signature("images", 3, 4))
    with pytest.raises(ModelError, match=r"`pooling` and `normalize` are a dual encoder's own; leave them out"):
        ModelSpec(hf=str(copied), pooling="mean").build(READS_TEXTS)
    # Others pool, tokenise or mask in ways of their own.
    for kind in ("siglip", "altclip", "chinese_clip"):
        transformers.CONFIG_MAPPING[kind]().save_pretrained(tmp_path / kind)
        with pytest.raises(ModelError, match=rf"is a `{kind}`, and only the towers of `clip` are.*`python`"):
            image_tower(tmp_path / kind)


def edit(folder, **changes):
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_copy_is_the_same(copied, tmp_path):
    """The builder says nothing of where the folder was."""
    shutil.copytree(copied, tmp_path / "elsewhere")
    assert text_tower(copied).builder == text_tower(tmp_path / "elsewhere").builder


def test_a_task_reads_images_and_texts_as_the_clip_does(copied, tmp_path):
    """Without a word of sizes, scales or tokens in the task."""
    rows = ["image,text"]
    random = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(random.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{TEXTS[number]} {number}")
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    model = ModelSpec(hf=str(copied)).in_towers()

    def load(**settings):
        data = CrossModal(pairs=str(tmp_path / "pairs.csv"), **settings)
        return TaskSpec(cross_modal=data).load(tmp_path / "cache", model).towers

    towers = load()
    how = towers["image"].preprocessing
    assert (how.height, how.width, how.channels, how.fit, how.resize) == (32, 32, 3, "cover", "bicubic")
    assert how.std == (0.26862954, 0.26130258, 0.27577711)
    read = {how.open(tmp_path / f"{number}.png").tobytes() for number in range(40)}
    assert {image.tobytes() for image in towers["image"].splits["train"].inputs} <= read
    texts = towers["text"].preprocessing
    assert texts == text_tower(copied).preprocessing
    asked = load(resize="nearest", fit="stretch")["image"].preprocessing
    assert (asked.resize, asked.fit, asked.mean) == ("nearest", "stretch", how.mean)
    with pytest.raises(ModelError, match=r"`size: 64` is asked for, but .*clip reads images of size 32; leave it out"):
        load(size=64)
    with pytest.raises(ModelError, match=r"`channels: 1` is asked for, but .*clip reads images of channels 3; leave"):
        load(channels=1)
    save_distilbert(tmp_path / "bert")
    model = ModelSpec(hf=str(tmp_path / "bert")).in_towers()
    with pytest.raises(ModelError, match=r"is a `distilbert`, one network.*`model: \{image: ..., text: ...\}`"):
        load()
