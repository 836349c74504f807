import datasets
import numpy as np
import pytest
from PIL import Image

from compresslab.data import hf_saved
from compresslab.data.decoding import Decoding
from compresslab.data.hf_saved import is_saved, load_saved, read_saved_images
from compresslab.errors import DataError


@pytest.fixture(autouse=True)
def _quiet():
    datasets.disable_progress_bars()


def table(first=0, count=4, label=None, **columns):
    images = [Image.new("L", (6, 5), first + index) for index in range(count)]
    features = {"image": datasets.Image(), "label": label or datasets.ClassLabel(names=["cat", "dog"])}
    labels = columns.pop("labels", [index % 2 for index in range(count)])
    made = datasets.Dataset.from_dict({"image": images, "label": labels}, features=datasets.Features(features))
    for name, values in columns.items():
        made = made.add_column(name, values)
    return made


def load(data, tmp_path, decoding=None):
    data.save_to_disk(str(tmp_path / "saved"))
    return load_saved(tmp_path / "saved", decoding or Decoding(), tmp_path / "cache")


def test_a_table_with_class_names(tmp_path):
    source = load(table(count=6).select([5, 0, 3]), tmp_path)
    assert source.name == "saved"
    assert source.train.labels == ("cat", "dog")
    assert source.train.inputs[:, 0, 0, 0].tolist() == [5, 0, 3]
    assert source.train.targets.tolist() == [1, 0, 1], "the rows of a selection, not those of the table below"


def test_splits_of_a_dictionary(tmp_path):
    splits = datasets.DatasetDict({"test": table(30), "train": table(10), "validation": table(20)})
    source = load(splits, tmp_path, Decoding(size=4, channels=3))
    assert source.train.inputs[:, 0, 0, 2].tolist() == [10, 11, 12, 13]
    assert source.validation.inputs[0].shape == (4, 4, 3)
    assert source.test.inputs[0, 0, 0, 0] == 30


def test_plain_numbers_called_label(tmp_path):
    source = load(table(label=datasets.Value("int32"), labels=[0, 2, 1, 1]), tmp_path)
    assert source.train.labels == ("0", "1", "2")


def test_plain_numbers_have_the_names_of_the_training_split(tmp_path):
    plain = datasets.Value("int32")
    splits = {"test": table(label=plain, labels=[0, 0, 1, 1]), "train": table(label=plain, labels=[0, 2, 1, 1])}
    assert load(datasets.DatasetDict(splits), tmp_path).test.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: table().remove_columns("image"), "exactly one column must be of type Image, but 0 are; found `label`"),
        (lambda: table().remove_columns("label"), "exactly one column must be of type ClassLabel"),
        (lambda: table(labels=[0, None, 1, 1]), "labels must be whole numbers"),
        (lambda: table(labels=[0, -1, 1, 1]), r"`0 <= label < 2` must hold, but labels\[1\] = -1"),
        (lambda: datasets.DatasetDict({"train": table(), "odd": table()}), "split `odd` is not known"),
        (lambda: datasets.DatasetDict({"train": table(), "val": table(), "dev": table()}), "is a second validation"),
        (lambda: datasets.DatasetDict({"test": table()}), "has no `train` split; found test"),
        (
            lambda: datasets.DatasetDict(
                {"train": table(), "test": table(label=datasets.ClassLabel(names=["dog", "cat"]))}
            ),
            r"`test` names the labels \['dog', 'cat'\], but `train` \['cat', 'dog'\]",
        ),
    ],
)
def test_what_is_not_labelled_images_is_told(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        load(data(), tmp_path)


def test_a_broken_image_is_named(tmp_path):
    broken = table().cast_column("image", datasets.Image(decode=False))
    rows = [{"bytes": b"no image", "path": None} if i == 2 else broken[i]["image"] for i in range(4)]
    features = datasets.Features(image=datasets.Image(decode=False), label=datasets.ClassLabel(names=["a", "b"]))
    data = datasets.Dataset.from_dict({"image": rows, "label": [0, 1, 0, 1]}, features=features)
    with pytest.raises(DataError, match=r"saved \(train\), sample 2: cannot be read as an image"):
        load(data.cast_column("image", datasets.Image()), tmp_path)


def test_what_is_no_saved_data_set_is_told(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="gone: there is no such folder"):
        load_saved(tmp_path / "gone", Decoding(), tmp_path)
    with pytest.raises(DataError, match="cannot be read as a data set saved by `save_to_disk`"):
        load_saved(tmp_path, Decoding(), tmp_path)
    monkeypatch.setattr(hf_saved, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match=r"needs the library `datasets` \(pip install datasets\)"):
        load_saved(tmp_path, Decoding(), tmp_path)


def test_arrays_survive(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    data = datasets.Dataset.from_dict(
        {"image": [Image.fromarray(image) for image in pixels], "label": [0, 1, 0]}, features=features
    )
    assert (load(data, tmp_path).train.inputs == pixels).all()


def unlabelled(first=0, count=4, size=(6, 5)):
    images = [Image.new("L", size, first + index) for index in range(count)]
    return datasets.Dataset.from_dict({"picture": images, "title": ["x"] * count})


def read_images(data, tmp_path, decoding=None):
    data.save_to_disk(str(tmp_path / "saved"))
    return read_saved_images(tmp_path / "saved", decoding or Decoding(), tmp_path / "cache")


def test_images_alone_need_no_labels(tmp_path):
    found = read_images(unlabelled(count=6).select([5, 0, 3]), tmp_path)
    assert found[:, 0, 0, 0].tolist() == [5, 0, 3]
    assert read_images(table(), tmp_path / "labelled").shape == (4, 5, 6, 1), "labels are not in the way"


def test_images_of_all_splits_whatever_they_are_called(tmp_path):
    splits = datasets.DatasetDict({"odd": unlabelled(10), "test": unlabelled(20, 2)})
    assert read_images(splits, tmp_path)[:, 0, 0, 0].tolist() == [10, 11, 12, 13, 20, 21]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda: unlabelled().remove_columns("picture"), "exactly one column must be of type Image, but 0 are"),
        (
            lambda: datasets.DatasetDict({"one": unlabelled(), "two": unlabelled(size=(5, 5))}),
            "the images of `two` differ in size from the others; give `size`",
        ),
    ],
)
def test_images_that_cannot_be_read_are_told(tmp_path, data, message):
    with pytest.raises(DataError, match=rf"saved.*: {message}"):
        read_images(data(), tmp_path)


def test_a_saved_data_set_is_known_by_its_own_files(tmp_path):
    unlabelled().save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"train": unlabelled()}).save_to_disk(str(tmp_path / "many"))
    (tmp_path / "folder").mkdir()
    Image.new("L", (6, 5)).save(tmp_path / "folder" / "a.png")
    found = {name: is_saved(tmp_path / name) for name in ("one", "many", "folder", "gone")}
    assert found == {"one": True, "many": True, "folder": False, "gone": False}
