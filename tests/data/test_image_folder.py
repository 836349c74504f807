import numpy as np
import pytest
from PIL import Image

from compresslab.data import decoding as decoding_module
from compresslab.data.decoding import Decoding, Files, decode, refit, take
from compresslab.data.image_folder import load_image_folder, read_unlabelled
from compresslab.errors import DataError


def write(path, value, mode="L", size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)


@pytest.fixture
def folder(tmp_path):
    """Two classes, grey, 6 wide and 5 high; the pixel values are 10, 11 and 20, 21."""
    for label, first in (("cat", 10), ("dog", 20)):
        for index in range(2):
            write(tmp_path / "animals" / label / f"{index}.png", first + index)
    return tmp_path / "animals"


def load(folder, decoding=None):
    return load_image_folder(folder, decoding or Decoding(), folder.parent / "cache")


def test_classes_are_the_sub_folders(folder):
    (folder / "cat" / ".hidden.png").write_bytes(b"no image")
    (folder / "cat" / "notes.txt").write_text("no image")
    write(folder / "dog" / "more" / "deep.png", 22)
    source = load(folder)
    assert source.name == "animals"
    assert source.train.labels == ("cat", "dog")
    assert source.train.inputs.shape == (5, 5, 6, 1)
    assert source.train.inputs[:, 0, 0, 0].tolist() == [10, 11, 20, 21, 22]
    assert source.train.targets.tolist() == [0, 0, 1, 1, 1]


def test_levels_above_the_classes_are_splits(folder):
    for split, value in (("train", 1), ("val", 2), ("test", 3)):
        for label in ("cat", "dog"):
            write(folder.parent / "levels" / split / label / "a.png", value)
    source = load(folder.parent / "levels")
    assert source.train.inputs[:, 0, 0, 0].tolist() == [1, 1]
    assert source.validation.inputs[:, 0, 0, 0].tolist() == [2, 2]
    assert source.test.inputs[:, 0, 0, 0].tolist() == [3, 3]
    write(folder.parent / "levels" / "extra" / "cat" / "a.png", 9)
    with pytest.raises(DataError, match="beside `train` there is `extra`, which is no split that is known"):
        load(folder.parent / "levels")


def test_a_class_may_be_called_train(folder):
    (folder / "cat").rename(folder / "train")
    assert load(folder).train.labels == ("dog", "train")


def test_colour_anywhere_makes_all_colour_unless_said_otherwise(folder):
    write(folder / "dog" / "c.png", (200, 0, 0), "RGB")
    assert load(folder).train.inputs.shape[-1] == 3
    grey = load(folder, Decoding(channels=1)).train.inputs
    assert grey.shape[-1] == 1
    assert grey[-1, 0, 0, 0] == 60  # ITU-R 601: 0.299 * 200


def test_images_are_resized_to_size(folder):
    write(folder / "dog" / "c.png", 50, size=(40, 30))
    with pytest.raises(
        DataError, match=r"images differ in size: .*cat/0\.png is 6 x 5, .*c\.png is 40 x 30; give `size`"
    ):
        load(folder)
    images = load(folder, Decoding(size=8)).train.inputs
    assert images.shape == (5, 8, 8, 1)
    assert images[4].min() == images[4].max() == 50


def test_a_lying_photograph_is_measured_upright(folder):
    """Catches taking the size from the header alone, which would squash every photograph of a turned camera."""
    picture = Image.new("L", (5, 6), 50)
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(folder / "dog" / "turned.jpg", exif=exif)
    assert load(folder).train.inputs.shape == (5, 5, 6, 1)


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("damage", [b"no image at all", None])
def test_a_broken_image_is_named(folder, damage, size):
    path = folder / "dog" / "1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 6), dtype=np.uint8)).save(path)
    path.write_bytes(damage or path.read_bytes()[:60])
    with pytest.raises(DataError, match=r"dog/1\.png.*cannot be read as an image"):
        load(folder, Decoding(size=size))


def test_images_are_decoded_once(folder, monkeypatch):
    first = load(folder)
    monkeypatch.setattr(decoding_module, "_decode_into", None)  # calling it would fail
    second = load(folder)
    assert (first.train.inputs == second.train.inputs).all()
    assert isinstance(second.train.inputs, np.memmap)
    assert not second.train.inputs.flags.writeable


def test_a_changed_image_or_setting_is_decoded_again(folder):
    load(folder)
    write(folder / "cat" / "0.png", 99, size=(6, 5))
    assert load(folder).train.inputs[0, 0, 0, 0] == 99
    assert load(folder, Decoding(size=7)).train.inputs.shape == (4, 7, 7, 1)


def test_a_damaged_cache_is_told(folder):
    load(folder)
    (decoded,) = (folder.parent / "cache" / "decoded").iterdir()
    decoded.write_bytes(decoded.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"is damaged .*delete it, it will be made again"):
        load(folder)


def test_a_full_disk_is_told_and_leaves_nothing(folder, monkeypatch):
    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array_header_1_0", full)
    with pytest.raises(DataError, match=r"cannot be written there: .*No space left on device"):
        load(folder)
    assert list((folder.parent / "cache" / "decoded").iterdir()) == []


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "empty").mkdir(), "class `empty` has no images"),
        (lambda folder: [(folder / "cat").rename(folder.parent / "x"), (folder / "dog").rename(folder.parent / "y")],
         "has no sub-folders; put the images of each class in a folder of its own"),
        (lambda folder: folder.rename(folder.parent / "gone"), "animals: there is no such folder"),
    ],
)  # fmt: skip
def test_another_layout_is_told(folder, spoil, message):
    spoil(folder)
    with pytest.raises(DataError, match=message):
        load(folder)


def test_unlabelled_images_are_read_from_anywhere_below(folder):
    assert len(read_unlabelled(folder, Decoding(), folder.parent / "cache")) == 4
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataError, match="empty: has no images"):
        read_unlabelled(folder.parent / "empty", Decoding(), folder.parent / "cache")


def test_arrays_are_resized_like_files_of_them(tmp_path):
    """Catches a second implementation of resizing: training and serving would see other pixels."""
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), dtype=np.uint8)
    decoding = Decoding(size=4, crop=0.8)
    for index, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{index}.png")
    files = Files(3, lambda start, stop: [tmp_path / f"{i}.png" for i in range(start, stop)], str, "x")
    assert (refit(images, decoding, tmp_path) == decode(files, decoding, tmp_path)).all()
    assert refit(images, Decoding(), tmp_path) is images
    assert refit(images, Decoding(channels=1), tmp_path).shape == (3, 9, 7, 1)


def test_rows_of_a_large_array_stay_on_disk(tmp_path, monkeypatch):
    path = tmp_path / "pixels.npy"
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    np.save(path, pixels)
    mapped = np.load(path, mmap_mode="r")
    rows = np.array([3, 1, 40])
    assert (take(mapped, rows, tmp_path) == pixels[rows]).all()
    assert not (tmp_path / "decoded").exists()
    monkeypatch.setattr(decoding_module, "_IN_MEMORY", 10)
    for _ in range(2):
        taken = take(mapped, rows, tmp_path)
        assert isinstance(taken, np.memmap)
        assert (taken == pixels[rows]).all()
    assert (take(mapped, rows[::-1], tmp_path) == pixels[rows[::-1]]).all()
