import numpy as np
import pytest

from compresslab.data.npz import load_npz
from compresslab.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "data.npz"


def test_all_parts_are_read(path):
    names = np.array(["cat", "dog", "fox"])
    write(path, images=IMAGES, labels=LABELS.astype(np.uint8), test_images=IMAGES[:2], test_labels=LABELS[:2],
          validation_images=IMAGES[2:4], validation_labels=LABELS[2:4], label_names=names)  # fmt: skip
    source = load_npz(path)
    assert source.name == "data"
    assert source.train.labels == ("cat", "dog", "fox")
    assert (source.train.inputs == IMAGES).all()
    assert source.train.targets.dtype == np.int64
    assert source.test.targets.tolist() == [0, 1]
    assert source.validation.targets.tolist() == [2, 0]


def test_grey_images_get_a_channel_and_labels_a_name(path):
    source = load_npz(write(path, images=IMAGES[..., 0], labels=LABELS))
    assert source.train.inputs.shape == (6, 5, 4, 1)
    assert source.train.labels == ("0", "1", "2")
    assert source.test is None


NAN = IMAGES.astype(np.float32)
NAN[4, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": LABELS}, "data.npz: `images` is missing; found `labels`"),
        (
            {"images": IMAGES, "label": LABELS},
            r"unknown part `label`; did you mean `labels`\? Allowed are images, labels",
        ),
        ({"images": NAN, "labels": LABELS}, r"are float32, and 1 of them hold NaN or infinity \(the first: 4\)"),
        (
            {"images": IMAGES / 255, "labels": LABELS},
            r"images must be uint8, 0 to 255, but are float64; use `\(images \* 255\)\.round\(\)",
        ),
        ({"images": IMAGES.astype(int), "labels": LABELS}, r"but are int64; use `images\.astype\(numpy\.uint8\)`"),
        ({"images": IMAGES.astype(int) - 128, "labels": LABELS}, "normalisation is computed from the training split"),
        ({"images": IMAGES.transpose(0, 3, 1, 2), "labels": LABELS}, r"channels come last: use `images\.transpose"),
        ({"images": IMAGES[0, 0], "labels": LABELS}, r"images must have shape .* but have \[4, 3\]"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "there are no images"),
        ({"images": IMAGES, "labels": LABELS[:5]}, "6 images, but 5 labels"),
        ({"images": IMAGES, "labels": LABELS / 1}, "labels must be whole numbers of shape"),
        ({"images": IMAGES, "labels": np.eye(6, dtype=int)}, r"\[6, 6\]; use `argmax\(axis=1\)`"),
        ({"images": IMAGES, "labels": LABELS - 1}, r"`0 <= label < 2` must hold, but labels\[0\] = -1, labels\[3\]"),
        (
            {"images": IMAGES, "labels": LABELS, "label_names": np.array(["a", "b"])},
            r"`0 <= label < 2` must hold, but labels\[2\] = 2, labels\[5\] = 2; there are 2 label names",
        ),
        ({"images": IMAGES, "labels": LABELS, "label_names": np.array(["a", "b", "a"])}, "has `a` more than once"),
        ({"images": IMAGES, "labels": LABELS, "test_images": IMAGES}, "`test_images`: has no labels"),
    ],
)
def test_what_is_not_a_data_set_is_told_with_the_remedy(path, arrays, message):
    with pytest.raises(DataError, match=message):
        load_npz(write(path, **arrays))


def test_python_objects_are_not_read(path):
    np.savez(path, images=IMAGES, labels=np.array([{}] * 6, dtype=object))
    with pytest.raises(DataError, match="`labels` holds Python objects, which are not read"):
        load_npz(path)


@pytest.mark.parametrize("cut", [10, 200, -30])
def test_a_truncated_file_is_named(path, cut):
    write(path, images=IMAGES, labels=LABELS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"data\.npz: damaged or not an \.npz file"):
        load_npz(path)


def test_a_flipped_bit_is_noticed(path):
    write(path, images=IMAGES, labels=LABELS)
    data = bytearray(path.read_bytes())
    data[250] ^= 1  # among the pixels
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"damaged or not an \.npz file \(at `images`\): Bad CRC"):
        load_npz(path)


def test_other_files_are_told(path, tmp_path):
    with pytest.raises(DataError, match=r"data\.npz: there is no such file"):
        load_npz(path)
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"is a single array; write it with numpy\.savez"):
        load_npz(path)
