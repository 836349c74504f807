import copy

import numpy as np
import pytest
import torch
from torch import nn

from compresslab.data.augmentation import Augmentation
from compresslab.errors import ModelError
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.progress import Silent
from compresslab.store import Store
from compresslab.tasks import Classes, Split, Task
from compresslab.teacher import OUTPUT, NetworkTeacher


def task(samples=40):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (samples, 8, 8, 1)).astype(np.uint8)
    targets = (np.arange(samples) % 3).astype(np.int64)
    rows = np.arange(samples)
    split = Split("train", images, targets, rows.astype(np.uint64) * 7919, "a" * 64, "train", rows)
    return Task(
        name="noise", objective=Classes(("a", "b", "c")), splits={"train": split},
        preprocessing=ImagePreprocessing(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,)),
        augmentation=Augmentation(shift=2, flip=True), metric="accuracy", digest="b" * 64,
    )  # fmt: skip


def network(seed=0, classes=3):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(256, classes)
    )


def teacher(folder, module=None, digest="t" * 8, precision="fp32"):
    return NetworkTeacher(module or network(), digest, task(), Store(folder), precision=precision)


def view(made, seed, progress):
    rows = np.arange(len(made.task.splits["train"].inputs))
    return made.answers("train", seed, progress).of(rows)[OUTPUT]


@pytest.mark.parametrize("seed", [None, 5])
def test_view_is_what_the_network_says_of_those_pixels(tmp_path, seed):
    """Catches a cache that ignores the augmentation, rows out of order, and a teacher in train mode."""
    made = teacher(tmp_path)
    logits = view(made, seed, Silent())
    rows = np.array([31, 2, 17])
    with torch.no_grad():
        live = network().eval()(torch.from_numpy(made.task.batch("train", rows, seed))).numpy()
    np.testing.assert_allclose(logits[rows], live, rtol=1e-5, atol=1e-6)


def test_views_differ_by_seed(tmp_path):
    made = teacher(tmp_path)
    assert np.abs(view(made, 1, Silent()) - view(made, 2, Silent())).max() > 0.01


def test_second_time_the_network_answers_only_the_spot_check(tmp_path):
    view(teacher(tmp_path), 1, Silent())
    counted = network()
    asked = []
    counted.register_forward_hook(lambda module, args, output: asked.append(len(output)))
    view(teacher(tmp_path, counted), 1, Silent())
    assert sum(asked) == 16


def test_teacher_is_provably_untouched(tmp_path):
    """BatchNorm buffers of a teacher left in train mode drift with every batch."""
    module = network().train()
    before = copy.deepcopy(module.state_dict())
    view(teacher(tmp_path, module), 1, Silent())
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert all(parameter.grad is None for parameter in module.parameters())


def test_outputs_of_another_network_under_the_same_digest_are_computed_again(tmp_path):
    view(teacher(tmp_path, network(0)), 1, Silent())
    progress = Silent()
    again = view(teacher(tmp_path, network(1)), 1, progress)
    assert "differ from the teacher's own" in progress.notes[0]
    fresh = view(teacher(tmp_path / "other", network(1)), 1, Silent())
    np.testing.assert_array_equal(again, fresh)


def test_corrupted_cache_is_computed_again(tmp_path):
    expected = np.array(view(teacher(tmp_path), 1, Silent()))
    (file,) = tmp_path.rglob("values.npy")
    content = bytearray(file.read_bytes())
    content[-3] ^= 0xFF
    file.write_bytes(bytes(content))
    np.testing.assert_array_equal(view(teacher(tmp_path), 1, Silent()), expected)


def test_wrong_number_of_classes(tmp_path):
    with pytest.raises(ModelError, match=r"shape \[40, 5\], but the task has 3 labels"):
        view(teacher(tmp_path, network(classes=5)), None, Silent())


def test_damaged_weights(tmp_path):
    module = network()
    with torch.no_grad():
        module[0].weight[0] = float("nan")
    with pytest.raises(ModelError, match="outputs on `train` are not finite"):
        view(teacher(tmp_path, module), None, Silent())
    assert not list(tmp_path.rglob("values.npy"))
