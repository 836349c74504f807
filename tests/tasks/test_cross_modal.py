"""Images and texts in groups: how they are split, what each tower sees, and what is measured between them."""

import numpy as np
import pytest

from compresslab.errors import DataError
from compresslab.measure.metrics import METRICS
from compresslab.tasks.cross_modal import CrossModal
from tests.towers import __file__ as SOURCE
from tests.towers import things

FEATURES = f"{SOURCE}:as_features"


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return CrossModal(python=FEATURES, name="things", width=8).load(tmp_path_factory.mktemp("cache"))


def own(tmp_path, code):
    """A source of the user's own."""
    path = tmp_path / f"own_{abs(hash(code))}.py"
    path.write_text("import numpy as np\n" + code)
    return CrossModal(python=f"{path}:source", name="own", width=4)


BASE = """
def source():
    n = 40
    images = np.random.default_rng(0).integers(0, 256, (2 * n, 4, 4, 3)).astype(np.uint8)
    texts = np.random.default_rng(1).normal(size=(n, 5)).astype(np.float32)
    found = dict(images=images, image_groups=np.repeat(np.arange(n), 2), texts=texts, text_groups=np.arange(n))
    {}
    return found
"""


def test_groups_are_never_parted_and_no_split_shares_a_sample(task):
    for side in ("image", "text"):
        splits = task.towers[side].splits
        assert set(splits) == {"train", "calibration", "validation", "test"}
        groups = {name: set(split.targets.tolist()) for name, split in splits.items()}
        for one in groups:
            for other in groups:
                assert one == other or not groups[one] & groups[other], (side, one, other)
        assert sum(map(len, groups.values())) == len(things())
    for split in ("train", "validation", "test", "calibration"):
        one, other = (set(task.towers[side].splits[split].targets.tolist()) for side in ("image", "text"))
        assert one == other, "both sides of a group are in one split"


def test_targets_say_which_texts_are_an_images(task):
    pairs = task.splits["test"]
    images, texts = (task.towers[side].splits["test"] for side in ("image", "text"))
    assert list(pairs.inputs.parts) == ["image", "text"]
    found = pairs.targets[: len(images.inputs)]
    queries = -(pairs.targets[len(images.inputs) :] + 1)
    same = images.targets[:, None] == texts.targets[None, :]
    assert np.array_equal(found[:, None] == queries[None, :], same)


def test_both_directions_are_told_and_their_mean_chooses(task):
    assert task.benchmark_metric == "things/recall@10"
    assert task.benchmark_metrics == (
        "things/text_to_image/recall@10", "things/image_to_text/recall@10",
        "other/recall@10", "other/text_to_image/recall@10", "other/image_to_text/recall@10",
    )  # fmt: skip
    pairs, there = task.splits["test"], task.benchmarks["things/text_to_image"]
    back = task.benchmarks["things/image_to_text"]
    outputs = np.random.default_rng(0).normal(size=(len(pairs.targets), 8)).astype(np.float32)
    values = [METRICS[one.metric].value(outputs, one.targets) for one in (there, back)]
    assert METRICS[pairs.metric].value(outputs, pairs.targets) == pytest.approx(np.mean(values))
    assert values[0] != values[1]
    assert there.inputs is pairs.inputs, "so that they are predicted once"


def test_one_tower_alone_searches_nothing(task):
    views = task.of_width(8).towers
    assert [dict(view.sample_sets) for view in views.values()] == [{}, {}], "its groups have no queries"


def test_another_order_of_the_source_gives_the_same_splits(tmp_path, task):
    shuffled = own(tmp_path, BASE.format("")).load(tmp_path / "one")
    turned = own(
        tmp_path, BASE.format("found.update(images=found['images'][::-1], image_groups=found['image_groups'][::-1])")
    ).load(tmp_path / "two")
    for side in ("image", "text"):
        for split in ("train", "test"):
            assert shuffled.towers[side].splits[split].ids.tolist() == turned.towers[side].splits[split].ids.tolist()


def test_groups_that_share_a_sample_become_one(tmp_path):
    found = own(tmp_path, BASE.format("found['images'][2] = found['images'][0]")).load(tmp_path)
    assert any("1 train groups share an image or a text" in note for note in found.notes)
    splits = found.towers["image"].splits
    assert len({int(group) for split in splits.values() for group in split.targets}) == 39


def test_unpaired_samples_are_their_towers_alone(tmp_path):
    code = BASE.format("found['transfer_texts'] = np.concatenate([texts[:3], texts[:5] + 9])")
    found = own(tmp_path, code).load(tmp_path)
    assert len(found.towers["text"].splits["transfer"].inputs) == 5, "those of a split are left out"
    assert found.towers["text"].splits["transfer"].targets is None
    assert "transfer" not in found.towers["image"].splits
    assert any("3 of 8 unpaired texts" in note for note in found.notes)


def test_splits_of_the_sources_own_are_kept_and_held_out(tmp_path):
    parts = """
    for key in list(found):
        found['test_' + key] = found[key][:20]
    found['test_text_groups'] = np.arange(20)
    found['test_images'], found['test_image_groups'] = images[:40], np.repeat(np.arange(20), 2)
    """
    found = own(tmp_path, BASE.format(parts.strip().replace("\n    ", "\n    "))).load(tmp_path)
    assert len(found.splits["test"].inputs.parts["image"]) == 40
    assert any("40 of 80 training images are also held out" in note for note in found.notes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("found['text_groups'] = np.arange(n) + 3", r"6 images have no text of their group \(groups 0, 1, 2\)"),
        ("found['image_groups'] = np.arange(3)", r"`image_groups`: must be 80 whole numbers from 0"),
        ("found['texts'] = ['a'] * (n - 1) + ['b\\ud800']", r"`texts`, row 39: the text has '\\ud800', half of"),
        ("found['texts'] = ['a'] * (n - 1) + [' ']", r"`texts`, row 39: must be a text that is not empty"),
        ("found['pictures'] = 1", r"unknown part `pictures`"),
        ("del found['texts']", r"must have `images`, `image_groups`, `texts`, `text_groups`"),
    ],
)
def test_what_a_function_returns_is_checked(tmp_path, change, told):
    with pytest.raises(DataError, match=told):
        own(tmp_path, BASE.format(change)).load(tmp_path)


def test_a_benchmark_tells_what_was_trained_on(task):
    assert any("`other`: " in note and "texts are also in the training split" in note for note in task.notes)
    assert not any("images are also in the training split" in note for note in task.notes)
