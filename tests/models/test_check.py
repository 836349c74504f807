"""What a checkpoint was trained for, as the manifest beside it says, against the task at hand."""

from __future__ import annotations

import json

import pytest

from compresslab.errors import ArtifactError, ModelError
from compresslab.measure.artifact import MANIFEST, GraphInfo, Manifest, write_manifest
from compresslab.measure.preprocessing import FeaturePreprocessing, ImagePreprocessing
from compresslab.models.check import require_same_task

LABELS = ("cat", "dog", "owl")
IMAGES = ImagePreprocessing(height=8, width=8, channels=1, mean=(0.286,), std=(0.353,))
FEATURES = FeaturePreprocessing(width=3, mean=(0.0, 1.0, 2.0), std=(1.0, 2.0, 0.5))
PLAIN = FeaturePreprocessing(width=3)


@pytest.fixture
def checkpoint(tmp_path):
    """A folder with a manifest and nothing else: the graphs beside it are not needed to train."""

    def write(labels=LABELS, preprocessing=IMAGES):
        graph = GraphInfo(file="model.onnx", sha256="a" * 64, bytes=1, opset=18, inputs=(), outputs=())
        write_manifest(
            tmp_path,
            Manifest(
                graphs={"model": graph}, preprocessing=preprocessing, labels=labels, params=1, macs=1, provenance={}
            ),
        )
        return tmp_path

    return write


def changed(preprocessing, **values):
    return preprocessing.model_copy(update=values)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (IMAGES, IMAGES),
        (IMAGES, changed(IMAGES, mean=(0.2872,), std=(0.3541,))),
        (FEATURES, FEATURES),
        (FEATURES, changed(FEATURES, mean=(0.02, 1.0, 2.0), std=(1.0, 2.0, 0.52))),
        (PLAIN, PLAIN),
    ],
)
def test_the_same_task_or_another_split_of_its_data(checkpoint, theirs, ours):
    require_same_task(checkpoint(preprocessing=theirs), LABELS, ours)


def test_a_checkpoint_that_says_nothing_is_taken_at_its_word(tmp_path):
    require_same_task(tmp_path, LABELS, IMAGES)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("dog", "cat", "owl"), "the same in another order, in which output 0 is `dog`, but the task has `cat` there"),
        (("cat", "owl", "dog"), "the same in another order, in which output 1 is `owl`, but the task has `dog` there"),
        (("cat", "dog", "fox"), "trained for other labels than the task has: it has `fox` and it lacks `owl`"),
        (("cat", "dog", "owl", "yak"), "it has `yak`; give one that was trained for this task, or data with the same"),
        (("cat", "dog"), "it lacks `owl`; give one"),
        ((), "it lacks `cat`, `dog`, `owl`; give one"),
        (tuple("abcdefgh"), "it has `a`, `b`, `c`, `d`, `e` and 3 more and it lacks `cat`, `dog`, `owl`"),
    ],
)
def test_other_labels_or_another_order_are_refused(checkpoint, labels, message):
    """The outputs fit by shape alone: a student would learn cats for dogs."""
    folder = checkpoint(labels=labels)
    with pytest.raises(ModelError, match=rf"^{folder}: .*{message}"):
        require_same_task(folder, LABELS, IMAGES)


@pytest.mark.parametrize(
    ("theirs", "ours", "message"),
    [
        (changed(IMAGES, height=9, width=7), IMAGES, "`height` was 9, but is 8; `width` was 7, but is 8; set the task"),
        (changed(IMAGES, crop=0.875), IMAGES, r"`crop` was 0\.875, but is 1\.0; set the task accordingly, or give"),
        (changed(IMAGES, resize="bicubic"), IMAGES, "`resize` was bicubic, but is bilinear"),
        (IMAGES, changed(IMAGES, mean=(0.5,)), r"`mean` was \[0\.286\], but is \[0\.5\]; set the task"),
        (IMAGES, changed(IMAGES, std=(0.4,)), r"`std` was \[0\.353\], but is \[0\.4\]"),
        (IMAGES, PLAIN, "it reads image, but the task has features"),
        (
            ImagePreprocessing(height=8, width=8, channels=3, mean=(0.5,) * 3, std=(0.3,) * 3),
            IMAGES,
            "`channels` was 3, but is 1",
        ),
        (FEATURES, PLAIN, r"`mean` was \[0, 1, 2\], but is \[\]"),
        (PLAIN, FEATURES, r"`mean` was \[\], but is \[0, 1, 2\]"),
        (FEATURES, changed(FEATURES, mean=(1.0, 0.0, 2.0)), r"`mean` was \[0, 1, 2\], but is \[1, 0, 2\]"),
        (FEATURES, changed(FEATURES, std=(1.0, 0.5, 2.0)), r"`std` was \[1, 2, 0\.5\], but is \[1, 0\.5, 2\]"),
        (FEATURES, FeaturePreprocessing(width=4), "`width` was 3, but is 4"),
    ],
)
def test_another_preprocessing_is_refused(checkpoint, theirs, ours, message):
    with pytest.raises(ModelError, match=rf"inputs that were prepared in another way: {message}") as caught:
        require_same_task(checkpoint(preprocessing=theirs), LABELS, ours)
    assert "give its weights.safetensors as `weights` instead of `checkpoint`" in str(caught.value)


def test_a_broken_or_newer_manifest_is_told(checkpoint):
    folder = checkpoint()
    plain = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**plain, "format_version": 2}))
    with pytest.raises(ArtifactError, match=r"not a manifest that this version reads .* export the model again"):
        require_same_task(folder, LABELS, IMAGES)
