import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from compresslab.data import decoding
from compresslab.data.augmentation import Augmentation
from compresslab.errors import DataError
from compresslab.tasks import ImageClassification, TaskSpec
from compresslab.tasks.cross_modal import CrossModal
from tests.texts import train_tokenizer

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.integers(0, 256, (400, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(400) % 4


@pytest.fixture
def write(tmp_path):
    """Writes an .npz file and returns what a pipeline would say of it."""

    def written(images=IMAGES, labels=LABELS, settings=None, **parts):
        np.savez(tmp_path / "own.npz", images=images, labels=labels, **parts)
        return ImageClassification(npz=str(tmp_path / "own.npz"), **(settings or {}))

    return written


@pytest.fixture
def load(write, tmp_path):
    def loaded(*arguments, **parts):
        return write(*arguments, **parts).load(tmp_path / "cache")

    return loaded


def sizes(task):
    return {name: len(split.inputs) for name, split in task.splits.items()}


def test_all_splits_are_carved_from_one_table(load):
    task = load()
    assert sizes(task) == {"train": 280, "calibration": 20, "validation": 40, "test": 60}
    assert (task.name, task.benchmark_metric) == ("own", "own/accuracy")
    assert task.labels == ("0", "1", "2", "3")
    for one, other in combinations(task.splits.values(), 2):
        assert not {image.tobytes() for image in one.inputs} & {image.tobytes() for image in other.inputs}
    for split in task.splits.values():
        assert np.bincount(split.targets).tolist() == [len(split.inputs) // 4] * 4
        for image, target in zip(split.inputs, split.targets, strict=True):
            assert LABELS[(image == IMAGES).reshape(400, -1).all(axis=1)] == target


def test_a_source_keeps_its_own_splits(load):
    parts = {"test_images": IMAGES[:30], "test_labels": LABELS[:30]}
    parts |= {"validation_images": IMAGES[30:50], "validation_labels": LABELS[30:50]}
    task = load(IMAGES[50:], LABELS[50:], settings={"calibration": 10}, **parts)
    assert sizes(task) == {"train": 340, "calibration": 10, "validation": 20, "test": 30}
    assert (task.splits["test"].inputs == IMAGES[:30]).all()


def test_splits_know_their_rows_in_the_source(load):
    """Answers given as arrays are in the source's order: a wrong row is another image's answer."""
    parts = {"test_images": IMAGES[:30], "test_labels": LABELS[:30]}
    task = load(IMAGES[20:], LABELS[20:], **parts)
    assert {name: split.part for name, split in task.splits.items()} == {
        "train": "train", "calibration": "train", "validation": "train", "test": "test",
    }  # fmt: skip
    for split in task.splits.values():
        images, labels = (IMAGES[:30], LABELS[:30]) if split.part == "test" else (IMAGES[20:], LABELS[20:])
        assert (split.inputs == images[split.rows]).all()
        assert (split.targets == labels[split.rows]).all()
    assert min(task.splits["train"].rows) >= 10, "what is also held out was left out"


def test_amounts_are_numbers_or_shares(load):
    task = load(settings={"validation": 50, "calibration": 0.1, "test": 0.5})
    assert sizes(task) == {"train": 110, "calibration": 40, "validation": 50, "test": 200}


@pytest.mark.parametrize(
    ("amount", "message"),
    [
        (0, "`1 <= samples` must hold for a whole number, but got 0"),
        (1.0, "`0 < share < 1` must hold for a fraction, but got 1.0"),
        (500.0, "write a number of samples whole"),
        ("50", "should be a valid"),
        (True, "should be a valid"),
    ],
)
def test_other_amounts_are_refused(amount, message):
    with pytest.raises(ValidationError, match=message):
        ImageClassification(npz="x.npz", validation=amount)


def test_what_is_held_out_is_not_trained_on(load):
    """Catches leakage: test images among the training data, and copies that straddle the splits."""
    copies = np.concatenate([IMAGES, IMAGES[:100]])
    task = load(copies, np.concatenate([LABELS, LABELS[:100]]), test_images=IMAGES[:40], test_labels=LABELS[:40])
    assert sizes(task)["test"] == 40
    assert sum(sizes(task).values()) == 500 - 40  # each of the 40 lies twice in train, and is dropped twice
    assert task.notes == ("80 of 500 train images are also held out, and were left out",)
    with pytest.raises(DataError, match="every training image is also in the validation or test split"):
        load(test_images=IMAGES, test_labels=LABELS)


def test_the_same_data_gives_the_same_task_and_anything_else_another(load):
    first = load()
    assert load().digest == first.digest
    assert len(first.digest) == 64
    other = IMAGES.copy()
    other[7, 0, 0, 0] ^= 1
    labels = LABELS.copy()
    labels[7] = 1
    changed = {
        load(other).digest,
        load(IMAGES, labels).digest,
        load(settings={"split_seed": 1}).digest,
        load(settings={"augment": {"flip": True}}).digest,
        load(settings={"crop": 0.9}).digest,
        load(label_names=np.array(list("abcd"))).digest,
        load(settings={"metric": "f1_macro"}).digest,
        first.digest,
    }
    assert len(changed) == 8


def test_split_digests_cover_content_order_and_targets(load):
    splits = load().splits
    assert len({split.digest for split in splits.values()}) == 4
    swapped = load(IMAGES, (LABELS + 1) % 4).splits
    assert swapped["train"].digest != splits["train"].digest
    assert (splits["train"].ids == load().splits["train"].ids).all()


def test_a_class_without_training_samples_is_named(load):
    names = np.array(["cat", "dog", "fox", "owl", "yak"])
    with pytest.raises(DataError, match="`train` has no sample of class `yak`"):
        load(label_names=names)
    with pytest.raises(DataError, match="`train` has no sample of class `1`"):
        load(IMAGES[::2], LABELS[::2])
    with pytest.raises(DataError, match=r"at least two classes, but got \['0'\]"):
        load(IMAGES, LABELS * 0)


def test_normalisation_comes_from_the_training_split(load):
    task = load()
    train = task.splits["train"].inputs / 255
    assert task.preprocessing.mean == tuple(np.round(train.mean(axis=(0, 1, 2)), 4))
    assert task.preprocessing.std == tuple(np.round(train.std(axis=(0, 1, 2)), 4))
    batch = task.batch("train", np.arange(280), None)
    assert batch.shape == (280, 3, 6, 5)
    assert batch.dtype == np.float32
    assert np.abs(batch.mean(axis=(0, 2, 3))).max() < 1e-3
    assert np.abs(batch.std(axis=(0, 2, 3)) - 1).max() < 1e-3


def test_a_constant_channel_divides_by_nothing(load):
    flat = IMAGES.copy()
    flat[..., 1] = 7
    assert load(flat).preprocessing.std[1] == 1.0


def test_batches_are_augmented_by_sample_and_seed(load):
    task = load(settings={"augment": {"shift": 2, "flip": True}})
    rows = np.array([5, 200, 17])
    split = task.splits["train"]
    view = task.batch("train", rows, 9)
    expected = Augmentation(shift=2, flip=True).apply(split.inputs[rows], split.ids[rows], 9)
    assert (view == task.preprocessing.normalize(expected)).all()
    assert (task.batch("train", rows[::-1], 9)[::-1] == view).all()
    assert (task.batch("train", rows, 10) != view).any()
    assert (task.batch("train", rows, None) == task.preprocessing.normalize(split.inputs[rows])).all()


def test_the_loss_is_cross_entropy_in_float32(load):
    outputs = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]], dtype=torch.bfloat16)
    loss = load().loss(outputs, torch.tensor([0, 2]))
    assert loss.dtype == torch.float32
    expected = (np.log(np.exp(2) + 3) - 2 + np.log(np.exp(3) + 3)) / 2
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_transfer_images_are_unlabelled_and_new(load, tmp_path):
    fresh = RANDOM.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    trained_on = load().splits["train"].inputs[:50]
    np.savez(tmp_path / "more.npz", images=np.concatenate([fresh, fresh[:2], trained_on]))
    task = load(settings={"transfer": str(tmp_path / "more.npz")})
    assert (task.splits["transfer"].inputs == fresh).all()
    assert task.splits["transfer"].targets is None
    assert list(task.splits) == ["train", "transfer", "calibration", "validation", "test"]
    assert task.notes == ("52 transfer images are copies of others, and were left out",)
    assert sizes(task)["train"] == 280, "unlabelled images never take labelled ones away"
    np.savez(tmp_path / "more.npz", pictures=fresh)
    with pytest.raises(DataError, match=r"more\.npz: has no `images`; found `pictures`"):
        load(settings={"transfer": str(tmp_path / "more.npz")})
    np.savez(tmp_path / "more.npz", images=trained_on)
    with pytest.raises(DataError, match="`transfer`: every image is in another split already"):
        load(settings={"transfer": str(tmp_path / "more.npz")})


@pytest.mark.parametrize("split", ["test", "validation"])
def test_transfer_images_that_results_are_reported_on_are_refused(load, tmp_path, split):
    """Leaving them out in silence would hide that the user's data are not what they think."""
    held_out = load().splits[split].inputs[:3]
    fresh = RANDOM.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "more.npz", images=np.concatenate([fresh, held_out]))
    message = rf"`transfer`: 3 of 13 images are also in the {split} split \(the first, counted from 0: 10, 11, 12\)"
    with pytest.raises(DataError, match=rf"{message}.* take these out of `transfer`"):
        load(settings={"transfer": str(tmp_path / "more.npz")})


def test_transfer_may_be_a_list_of_sources_of_every_kind(load, tmp_path):
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    fresh = RANDOM.integers(0, 256, (14, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "arrays.npz", images=fresh[:4])
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for index in range(4, 7):
        Image.fromarray(fresh[index]).save(tmp_path / "folder" / "inside" / f"{index}.png")
    pictures = [[Image.fromarray(image) for image in part] for part in (fresh[7:9], fresh[9:12])]
    tables = [datasets.Dataset.from_dict({"picture": part, "title": ["x"] * len(part)}).cast_column(
        "picture", datasets.Image()) for part in pictures]  # fmt: skip
    datasets.DatasetDict({"unsupervised": tables[0], "more": tables[1]}).save_to_disk(str(tmp_path / "saved"))
    datasets.Dataset.from_dict({"image": [Image.fromarray(image) for image in fresh[12:]]}).cast_column(
        "image", datasets.Image()
    ).save_to_disk(str(tmp_path / "alone"))
    names = ["arrays.npz", "folder", "saved", "alone"]
    task = load(settings={"transfer": [str(tmp_path / name) for name in names]})
    assert (task.splits["transfer"].inputs == fresh).all(), "in the order of the list"
    other = load(settings={"transfer": [str(tmp_path / name) for name in reversed(names)]})
    assert other.splits["transfer"].part_size == task.splits["transfer"].part_size == 14
    assert other.digest != task.digest
    assert task.notes == ()


def test_copies_across_the_sources_of_transfer_are_left_out(load, tmp_path):
    fresh = RANDOM.integers(0, 256, (10, 6, 5, 3), dtype=np.uint8)
    for name, part in (("one", fresh[:6]), ("two", fresh[4:])):
        np.savez(tmp_path / f"{name}.npz", images=part)
    task = load(settings={"transfer": [str(tmp_path / "one.npz"), str(tmp_path / "two.npz")]})
    assert (task.splits["transfer"].inputs == fresh).all()
    assert task.notes == ("2 transfer images are copies of others, and were left out",)


def test_many_transfer_images_stay_on_disk(load, tmp_path, monkeypatch):
    fresh = RANDOM.integers(0, 256, (600, 6, 5, 3), dtype=np.uint8)
    for name, part in (("one", fresh[:550]), ("two", fresh[550:])):
        np.savez(tmp_path / f"{name}.npz", images=part)
    settings = {"transfer": [str(tmp_path / "one.npz"), str(tmp_path / "two.npz")]}
    in_memory = load(settings=settings)
    monkeypatch.setattr(decoding, "_IN_MEMORY", 10)
    for _ in range(2):  # written, and found again
        on_disk = load(settings=settings)
        assert isinstance(on_disk.splits["transfer"].inputs, np.memmap)
        assert on_disk.digest == in_memory.digest
    swapped = load(settings={"transfer": settings["transfer"][::-1]})
    assert (swapped.splits["transfer"].inputs == np.concatenate([fresh[550:], fresh[:550]])).all()


def test_the_source_of_transfer_that_does_not_fit_is_named(load, tmp_path):
    np.savez(tmp_path / "one.npz", images=IMAGES[:3] ^ 1)
    np.savez(tmp_path / "two.npz", images=IMAGES[:3, :5])
    with pytest.raises(
        DataError, match=r"two\.npz: images are \[5, 5, 3\] .* but those of train are \[6, 5, 3\]; give"
    ):
        load(settings={"transfer": [str(tmp_path / "one.npz"), str(tmp_path / "two.npz")]})
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        load(settings={"transfer": [str(tmp_path / "one.npz"), str(tmp_path / "nowhere")]})


def test_transfer_may_be_a_folder(load, tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(RANDOM.integers(0, 256, (6, 5), dtype=np.uint8)).save(tmp_path / "more" / "a.png")
    task = load(settings={"transfer": str(tmp_path / "more")})
    assert task.splits["transfer"].inputs.shape == (1, 6, 5, 3), "grey becomes what the labelled images are"


def test_size_and_channels_hold_for_arrays_too(load):
    task = load(settings={"size": 8, "channels": 1, "resize": "nearest"})
    assert task.splits["train"].inputs.shape == (280, 8, 8, 1)
    assert (task.preprocessing.height, task.preprocessing.resize) == (8, "nearest")


def test_parts_of_other_shapes_are_told(load):
    with pytest.raises(
        DataError, match=r"own: images are \[6, 5, 3\] .* in train, but \[5, 5, 3\] in test; give `size`"
    ):
        load(test_images=IMAGES[:9, :5], test_labels=LABELS[:9])


def test_taking_a_split_twice_is_told(load):
    with pytest.raises(
        DataError, match=r"`test: 0\.2` asks to take it from the training data, but own has a test split"
    ):
        load(settings={"test": 0.2}, test_images=IMAGES[:9], test_labels=LABELS[:9])


def test_a_large_folder_stays_on_disk(tmp_path, monkeypatch):
    for index in range(40):
        path = tmp_path / "parts of mine" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[index]).save(path)
    settings = ImageClassification(folder=str(tmp_path / "parts of mine"))
    in_memory = settings.load(tmp_path / "cache")
    assert in_memory.name == "parts_of_mine"
    monkeypatch.setattr(decoding, "_IN_MEMORY", 10)
    on_disk = settings.load(tmp_path / "cache")
    assert isinstance(on_disk.splits["train"].inputs, np.memmap)
    assert on_disk.digest == in_memory.digest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "exactly one of `fashion_mnist`, `folder`, `npz`, `datasets`, `python` must be given, but got none"),
        ({"npz": "a.npz", "folder": "b"}, "but got `folder` and `npz`"),
        ({"npz": "a.npz", "name": "a/b"}, "should match pattern"),
        ({"npz": "a.npz", "transfer": []}, "at least 1 item"),
        ({"npz": "a.npz", "transfer": 7}, "valid string"),
    ],
)
def test_exactly_one_source(given, message):
    with pytest.raises(ValidationError, match=message):
        ImageClassification(**given)


def test_paths_are_beside_the_pipeline(tmp_path):
    plain = {"image_classification": {"npz": "own.npz", "augment": {"shift": 2}, "transfer": ["a", "b.npz"]}}
    spec = TaskSpec.model_validate(plain, context={"base": str(tmp_path)})
    assert spec.image_classification.npz == str(tmp_path / "own.npz")
    assert spec.image_classification.transfer == (str(tmp_path / "a"), str(tmp_path / "b.npz"))
    assert TaskSpec.model_validate(spec.model_dump(mode="json")) == spec
    with pytest.raises(ValidationError, match="`text_embedding` must be given, but got none"):
        TaskSpec()


def test_fashion_mnist_through_the_spec(tmp_path):
    from compresslab.data.idx import write_idx

    for prefix, images in (("train", IMAGES[:300]), ("t10k", IMAGES[300:])):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", images[..., 0])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", np.arange(len(images), dtype=np.uint8) % 10)
    task = TaskSpec.model_validate({"image_classification": {"fashion_mnist": {"root": str(tmp_path)}}}).load(tmp_path)
    assert task.benchmark_metric == "fashion_mnist/accuracy"
    assert sizes(task) == {"train": 255, "calibration": 15, "validation": 30, "test": 100}


def test_the_data_wing_needs_no_torch():
    """Catches an import that would make the gate's image a gigabyte larger."""
    code = (
        "import sys, compresslab.data, compresslab.tasks, compresslab.data.hf_saved, compresslab.models\n"
        "print([name for name in ('torch', 'onnx', 'datasets', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unlabelled_images_may_set_the_ranges(load, tmp_path):
    """They take the place of a part of the training data, which is then all trained on; and come in random order."""
    fresh = np.random.default_rng(9).integers(0, 256, (30, 6, 5, 3), dtype=np.uint8)
    np.savez(tmp_path / "field.npz", images=np.concatenate([fresh, fresh[:4], IMAGES[:1]]))
    task = load(settings={"calibration_data": str(tmp_path / "field.npz")})
    found = task.splits["calibration"]
    assert found.targets is None
    assert sorted(found.inputs.reshape(len(found.inputs), -1).tolist())[:30] == sorted(fresh.reshape(30, -1).tolist())
    assert not (found.inputs[:30] == fresh).all(), "a folder may be sorted by class"
    assert len(task.splits["train"].inputs) > len(load().splits["train"].inputs)
    held = {name: set(part.ids.tolist()) for name, part in task.splits.items()}
    assert all(held["calibration"].isdisjoint(held[name]) for name in ("train", "validation", "test"))
    assert any("calibration images are copies of others" in note for note in task.notes)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_ranges_may_not_be_set_by_what_results_are_reported_on(load, tmp_path, split):
    held = load().splits[split].inputs[:3]
    np.savez(tmp_path / "field.npz", images=held)
    message = (
        rf"`calibration_data`: 3 of 3 images are also in the {split} split .* take these out of `calibration_data`"
    )
    with pytest.raises(DataError, match=message):
        load(settings={"calibration_data": str(tmp_path / "field.npz")})


def test_an_amount_of_calibration_samples_and_such_samples_are_one_too_many(load, tmp_path):
    np.savez(tmp_path / "field.npz", images=IMAGES[:1] ^ 1)
    with pytest.raises(DataError, match=r"`calibration: 20` asks .* but `calibration_data` gives it; leave one"):
        load(settings={"calibration": 20, "calibration_data": str(tmp_path / "field.npz")})


@pytest.mark.parametrize("source", ["folder", "pairs"])
def test_files_are_cut_once_and_read_as_a_client_reads_them(tmp_path, source):
    """A second cut of what was cut already would train on other pictures than those that are served."""
    random = np.random.default_rng(3)
    files, rows = {}, ["image,text"]
    for number in range(60):
        path = tmp_path / "parts" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (12, 20, 3), dtype=np.uint8)).save(path)
        files[number] = path
        rows.append(f"parts/{'ab'[number % 2]}/{number}.png,text {number}")
    settings = {"size": 8, "crop": 0.75}
    if source == "folder":
        task = ImageClassification(folder=str(tmp_path / "parts"), **settings).load(tmp_path / "cache")
        how, split = task.preprocessing, task.splits["train"]
    else:
        (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
        tower = CrossModal(
            pairs=str(tmp_path / "pairs.csv"), tokenizer=str(train_tokenizer(tmp_path)), fit="cover", **settings
        ).load(tmp_path / "cache").towers["image"]  # fmt: skip
        how, split = tower.preprocessing, tower.splits["train"]
        assert how.fit == "cover"
    read = {how.open(path).tobytes() for path in files.values()}
    assert {image.tobytes() for image in split.inputs} <= read
