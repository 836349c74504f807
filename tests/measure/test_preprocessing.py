from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from compresslab.errors import DataError
from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing, Preprocessing

if TYPE_CHECKING:
    from pathlib import Path

GREY = ImagePreprocessing(height=2, width=3, channels=1, mean=(0.5,), std=(0.25,))
RGB = ImagePreprocessing(height=2, width=3, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_normalize_is_the_textbook_formula_in_channels_first_order() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    expected = (images / 255.0 - np.array(RGB.mean)) / np.array(RGB.std)
    result = RGB.normalize(images)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_allclose(result, expected.transpose(0, 3, 1, 2), atol=1e-6)


def test_normalize_reads_views_and_empty_batches() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 2, 3, 1), dtype=np.uint8)
    np.testing.assert_array_equal(GREY.normalize(images[::2]), GREY.normalize(images)[::2])
    assert GREY.normalize(images[:0]).shape == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("images", "remedy"),
    [
        (np.zeros((1, 2, 3, 1), np.float32), "do not scale the pixels"),
        (np.zeros((2, 3, 1), np.uint8), r"add the first axis: images\[np.newaxis\]"),
        (np.zeros((4, 2, 3), np.uint8), r"add the last axis: images\[..., np.newaxis\]"),
        (np.zeros((4, 1, 2, 3), np.uint8), "the channels come last"),
        (np.zeros((4, 5, 5, 1), np.uint8), "`open` reads a file into this shape"),
    ],
)
def test_normalize_refuses_other_arrays_and_says_how_to_mend_them(images: np.ndarray, remedy: str) -> None:
    with pytest.raises(DataError, match=rf"uint8 \[n, 2, 3, 1\].*but got {images.dtype} \[.*{remedy}"):
        GREY.normalize(images)


@pytest.mark.parametrize(
    ("folded", "dtype", "axes"),
    [
        ("uint8-nhwc", np.uint8, (0, 1, 2, 3)),
        ("uint8-nchw", np.uint8, (0, 3, 1, 2)),
        ("float32-nhwc", np.float32, (0, 1, 2, 3)),
        ("float32-nchw", np.float32, (0, 3, 1, 2)),
    ],
)
def test_a_graph_that_normalizes_by_itself_gets_pixels(folded: str, dtype: type, axes: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    given = RGB.model_copy(update={"folded": folded}).graph_input(images)
    assert given.dtype == dtype
    assert given.flags.c_contiguous
    np.testing.assert_array_equal(given, images.transpose(axes))


def test_any_other_graph_gets_what_normalize_gives() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 3, 3), dtype=np.uint8)
    np.testing.assert_array_equal(RGB.graph_input(images), RGB.normalize(images))
    folded = RGB.model_copy(update={"folded": "uint8-nhwc"})
    for preprocessing in (RGB, folded):
        with pytest.raises(DataError, match="do not scale the pixels"):
            preprocessing.graph_input(images / 255)


def test_open_keeps_pixels_of_an_image_of_the_right_size() -> None:
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    np.testing.assert_array_equal(RGB.open(encoded(Image.fromarray(pixels))), pixels)


def test_open_reads_paths(tmp_path: Path) -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    for path in (tmp_path / "x.png", str(tmp_path / "x.png")):
        np.testing.assert_array_equal(GREY.open(path), pixels[:, :, np.newaxis])


def test_open_turns_an_image_upright() -> None:
    """A phone stores a portrait picture lying down; reading it as it lies would evaluate on rotated images."""
    upright = np.array([[0, 50, 100], [150, 200, 250]], np.uint8)
    lying = Image.fromarray(np.rot90(upright).copy())
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn 90 degrees clockwise to show"
    np.testing.assert_array_equal(GREY.open(encoded(lying, exif=exif))[..., 0], upright)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_open_reads_every_common_mode(mode: str) -> None:
    image = Image.new("RGB", (3, 2), "white").convert(mode)
    data = encoded(image, "TIFF")
    assert (GREY.open(data) == 255).all()
    assert (RGB.open(data) == 255).all()


def test_open_scales_sixteen_bits() -> None:
    """Pillow's own conversion clips: all that is brighter than 1/256 would be white."""
    image = Image.fromarray(np.full((2, 3), 0x8000, np.uint16))
    assert (GREY.open(encoded(image)) == 0x80).all()


def test_open_crops_the_centre_before_it_resizes() -> None:
    pixels = np.zeros((8, 12), np.uint8)
    pixels[2:6, 3:9] = 200
    whole = GREY.model_copy(update={"resize": "nearest"})
    assert (whole.open(encoded(Image.fromarray(pixels))) == 0).any()
    assert (whole.model_copy(update={"crop": 0.5}).open(encoded(Image.fromarray(pixels))) == 200).all()


def test_open_resizes_with_the_filter_asked_for() -> None:
    image = encoded(Image.fromarray(np.array([[0, 255], [0, 255]], np.uint8)))
    one = {"height": 1, "width": 1, "channels": 1, "mean": (0.0,), "std": (1.0,)}
    assert ImagePreprocessing(**one, resize="bilinear").open(image).item() in (127, 128)
    assert ImagePreprocessing(**one, resize="nearest").open(image).item() in (0, 255)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_a_data_error(kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    with pytest.raises(DataError, match="the image: cannot be read as an image"):
        RGB.open(data[: len(data) // 2])


def test_what_is_no_image_is_a_data_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no image")
    for name in ("notes.png", "missing.png"):
        with pytest.raises(DataError, match=rf"{name}: cannot be read as an image .*give a PNG, JPEG"):
            RGB.open(tmp_path / name)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [900, 100])
def test_a_decompression_bomb_is_not_decoded(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to twice the limit Pillow only warns."""
    data = encoded(Image.new("L", (32, 32)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(DataError, match="shrink the image first"):
        GREY.open(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (0.5, 0.5)}, "`mean` must have one value for each of 1 channels"),
        ({"std": (0.0,)}, "`std > 0` must hold for every channel"),
        ({"crop": 0.0}, "greater than 0"),
        ({"crop": 1.5}, "less than or equal to 1"),
        ({"channels": 4}, "Input should be 1 or 3"),
        ({"depth": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ImagePreprocessing(**{**GREY.model_dump(), **change})


PAIR = FeaturePreprocessing(width=2, mean=(1.0, 10.0), std=(2.0, 0.5))


def test_features_are_centred_and_scaled_one_by_one() -> None:
    features = np.array([[1.0, 10.0], [5.0, 9.0]], np.float32)
    result = PAIR.normalize(features)
    np.testing.assert_allclose(result, [[0.0, 0.0], [2.0, -2.0]])
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


def test_features_without_a_mean_stay_as_they_are_in_a_copy() -> None:
    """A view of a memory map would be read-only, which torch warns of, and a writable one could be written through."""
    features = np.array([[1.0, 10.0]], np.float32)
    result = FeaturePreprocessing(width=2).normalize(features)
    np.testing.assert_array_equal(result, features)
    result[0, 0] = 7.0
    assert features[0, 0] == 1.0


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.zeros((3, 2)), r"float32 \[n, 2\], but got float64 \[3, 2\]; use `features.astype\(numpy.float32\)`"),
        (np.zeros(2, np.float32), r"but got float32 \[2\]; add the first axis: features\[numpy.newaxis\]"),
        (np.zeros((3, 5), np.float32), r"but got float32 \[3, 5\]; give the features that the model was trained on"),
        (np.array([[0, 0], [np.nan, 0]], np.float32), r"1 of 2 rows of features hold NaN or infinity \(the first: 1\)"),
        (np.array([[0, -np.inf]], np.float32), r"1 of 1 rows of features hold NaN or infinity \(the first: 0\)"),
    ],
)
def test_other_features_are_refused_with_the_remedy(features: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        PAIR.normalize(features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (1.0,)}, "`mean` must have one value for each of 2 features, but has 1"),
        ({"std": ()}, "`mean` and `std` must both be given, or neither"),
        ({"std": (1.0, 0.0)}, "`std > 0` must hold for every feature"),
        ({"width": 0}, "greater than or equal to 1"),
    ],
)
def test_features_that_make_no_sense_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FeaturePreprocessing(**{**PAIR.model_dump(), **change})


def test_the_kind_tells_what_a_manifest_holds() -> None:
    adapter: TypeAdapter[ImagePreprocessing | FeaturePreprocessing] = TypeAdapter(Preprocessing)
    for one in (GREY, PAIR):
        assert adapter.validate_json(one.model_dump_json()) == one
        assert adapter.validate_python(one) == one
    without = {key: value for key, value in GREY.model_dump(mode="json").items() if key != "kind"}
    assert adapter.validate_python(without) == GREY, "images were there before there were kinds"
    with pytest.raises(ValidationError, match="does not match any of the expected tags: 'image', 'features'"):
        adapter.validate_python({"kind": "sound"})
