"""Two graphs in one space: both directions of retrieval, the time of both, and a manifest that says how each reads."""

from dataclasses import replace

import numpy as np
import pytest

from compresslab.errors import ArtifactError
from compresslab.measure.artifact import Artifact, TowerInfo, load_artifact, write_manifest
from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.both_directions import turned
from compresslab.measure.budget import Budget, check, unmeasured
from compresslab.measure.evaluate import EvalBenchmark, EvalSplit, predict
from compresslab.measure.measurement import Latency
from compresslab.measure.measuring import Measurer
from compresslab.measure.metrics import METRICS
from compresslab.measure.preprocessing import ImagePreprocessing
from compresslab.measure.quality import quality, quality_delta, quality_ratio
from compresslab.measure.samples import LatencySamples
from compresslab.measure.subject import subject_of
from compresslab.measure.together import first_of_each, together
from compresslab.measure.tower_samples import TowerSamples

PIXELS = ImagePreprocessing(height=4, width=4, channels=1, mean=(0.5,), std=(0.25,))
BRIGHTER = ImagePreprocessing(height=4, width=4, channels=1, mean=(0.0,), std=(0.25,))


@pytest.fixture
def two(make_artifact, right, tmp_path):
    """Both graphs sum the columns, but the second reads with a preprocessing of its own."""
    parts = {name: make_artifact(name, right) for name in ("image", "text")}
    folder = tmp_path / "two"
    folder.mkdir()
    graphs = {}
    for name, part in parts.items():
        (folder / f"{name}.onnx").write_bytes(part.graphs["model"].read_bytes())
        graphs[name] = part.manifest.graphs["model"].model_copy(update={"file": f"{name}.onnx"})
    towers = {
        "image": TowerInfo(preprocessing=PIXELS, params=3, macs=5),
        "text": TowerInfo(preprocessing=BRIGHTER, params=4, macs=6),
    }
    manifest = parts["image"].manifest.model_copy(update={"graphs": graphs, "towers": towers, "labels": ()})
    write_manifest(folder, manifest)
    return load_artifact(folder)


def ranked(*nearest):
    """Embeddings of four images and four texts, one each a group, of which text i is nearest to image `nearest[i]`."""
    images = np.eye(4, dtype=np.float32)
    return np.concatenate([images, images[list(nearest)] * 2])


TARGETS = np.concatenate([np.arange(4), -(np.arange(4) + 1)])


def test_the_mean_of_both_directions():
    # Texts 0 to 2 are all nearest to image 0: one text finds its image, and images 1 and 2 find none of theirs first.
    outputs = ranked(0, 0, 0, 3)
    outputs[4:7] += np.array([[0, 0, 0, 0], [0, 0.1, 0, 0], [0, 0, 0.1, 0]], np.float32)
    there = METRICS["recall@1"].value(outputs, TARGETS)
    back = METRICS["recall@1"].value(outputs, turned(TARGETS))
    assert (there, back) == (0.5, 1.0)
    both = METRICS["both_recall@1"]
    assert both.value(outputs, TARGETS) == 0.75
    found = quality(both, outputs, TARGETS)
    assert found.low < 0.75 < found.high
    assert found.n == 8, "queries of both directions"


def test_a_direction_with_few_queries_counts_as_much_as_the_other():
    outputs = np.concatenate([np.eye(2), np.eye(2)[[1, 0]], np.eye(2)[[0, 0, 0, 0, 1]]]).astype(np.float32)
    targets = np.array([0, 1, 0, 1, -1, -1, -1, -1, -2])
    values = [METRICS["recall@1"].value(outputs, one) for one in (targets, turned(targets))]
    assert METRICS["both_recall@1"].value(outputs, targets) == pytest.approx(np.mean(values))
    cells = METRICS["both_recall@1"].outcomes(outputs, targets)
    assert METRICS["both_recall@1"].of_counts(cells, np.ones((1, len(cells))))[0] == pytest.approx(np.mean(values))


@pytest.mark.parametrize("name", ["both_recall@1", "both_recall@5", "both_ndcg@10"])
def test_where_all_queries_agree_the_next_one_may_not(name):
    """A bootstrap of queries that are all right, or all wrong, has no width, and would be sure of it."""
    good, wrong = ranked(0, 1, 2, 3), ranked(1, 2, 3, 0)
    found = quality(METRICS[name], good, TARGETS)
    assert found.value == found.high == 1.0
    wilson = quality(METRICS["recall@1"], good, TARGETS)
    assert found.low == pytest.approx(1 - (1 - wilson.low) / np.sqrt(2)), "as sure as twice the queries make it"
    none = quality(METRICS["both_recall@1"], wrong, TARGETS)
    assert (none.value, none.low, none.high) == (0.0, 0.0, pytest.approx(1 - found.low))
    same = quality_delta(METRICS[name], good, good, TARGETS)
    assert same.low < same.value == 0.0 < same.high


def test_one_direction_without_a_miss_is_not_certain_either():
    outputs = np.concatenate([np.eye(2), np.eye(2), np.eye(2)[[1, 1, 1, 1]]]).astype(np.float32)
    targets = np.array([0, 1, -1, -2, -1, -1, -2, -2])
    found = quality(METRICS["both_recall@1"], outputs, targets)
    assert found.low < found.value < found.high


def test_retention_is_paired_by_query():
    good, worse = ranked(0, 1, 2, 3), ranked(0, 1, 2, 0)
    kept = quality_ratio(METRICS["both_recall@1"], good, good, TARGETS)
    assert kept.low < kept.value == 1.0 < kept.high, "models that agree on four queries may differ on the next"
    assert quality_ratio(METRICS["both_recall@1"], worse, good, TARGETS).value < 1.0


def test_each_graph_answers_for_its_own_samples_by_its_own_preprocessing(two, make_splits):
    one, other = (split.inputs for split in make_splits(4, 3))
    found = predict(two, TowerSamples({"image": one, "text": other}))
    assert found.shape == (7, 3)
    np.testing.assert_array_equal(found[:4], predict(two.only("image"), one))
    np.testing.assert_array_equal(found[4:], predict(two.only("text"), other))
    assert not np.allclose(predict(two.only("text"), one), found[:4]), "another mean is taken off"
    with pytest.raises(ArtifactError, match="one graph is needed to answer"):
        predict(two, one)


def test_one_graph_as_if_there_were_no_other(two):
    alone = two.only("text").manifest
    assert (list(alone.graphs), alone.preprocessing, alone.params, alone.macs) == (["text"], BRIGHTER, 4, 6)
    assert two.manifest.preprocessing_of("text") == BRIGHTER
    assert two.only("text").digest != replace(two.only("image"), folder=two.folder).digest


def test_another_preprocessing_of_a_tower_is_another_artifact(two):
    towers = {**two.manifest.towers, "text": two.manifest.towers["text"].model_copy(update={"preprocessing": PIXELS})}
    other = Artifact(two.folder, two.graphs, two.manifest.model_copy(update={"towers": towers}))
    assert other.digest != two.digest


def test_graphs_are_timed_with_their_own_samples(two, make_splits):
    one, other = (split.inputs for split in make_splits(4, 3))
    made = subject_of(two, TowerSamples({"image": one, "text": other}), 2)
    np.testing.assert_array_equal(made.inputs["image"]["x"][:4], PIXELS.normalize(one))
    np.testing.assert_array_equal(made.inputs["text"]["x"][:3], BRIGHTER.normalize(other))


def test_a_call_of_each():
    one = LatencySamples((np.array([[1, 2], [3, 4]]), np.array([[5, 6]])))
    other = LatencySamples((np.array([[10, 20, 30]]), np.array([[50, 60, 70], [0, 0, 0]])))
    found = together([one, other])
    assert [process.tolist() for process in found.processes] == [[[11, 22]], [[55, 66]]]
    points = [BenchPoint(graph=name, batch=batch) for name, batch in (("text", 1), ("text", 8), ("image", 1))]
    assert first_of_each(points) == (0, 2)
    assert [process.tolist() for process in together([one]).processes] == [[[1, 2], [3, 4]], [[5, 6]]]


def test_both_towers_are_measured_together_and_by_themselves(two, make_splits):
    splits = []
    for name, split in zip(("validation", "test"), make_splits(12, 12), strict=True):
        inputs = TowerSamples({"image": split.inputs, "text": split.inputs})
        targets = np.concatenate([np.arange(12), -(np.arange(12) + 1)])
        splits.append(EvalSplit(name, inputs, targets))
    points = (BenchPoint(graph="image"), BenchPoint(graph="text"), BenchPoint(graph="text", batch=4))
    bench = BenchSettings(processes=1, min_seconds=0.01, min_count=20, warmup_seconds=0.01, points=points)
    there = EvalBenchmark("toy/text_to_image", splits[1].inputs, splits[1].targets, "recall@1")
    measurer = Measurer(splits, "toy", "both_recall@1", bench, [there])
    found = measurer.measure(two, parent=two)
    assert [(one.graph, one.batch) for one in found.latency] == [
        ("image + text", 1),
        ("image", 1),
        ("text", 1),
        ("text", 4),
    ]
    assert found.latency[0].p50 > max(one.p50 for one in found.latency[1:3])
    assert set(found.quality["test"]) == {"toy/recall@1", "toy/text_to_image/recall@1"}
    assert set(found.quality["validation"]) == {"toy/recall@1"}
    assert found.peak_rss_mb > 0


def latency(graph, p90):
    return Latency(
        graph, 1, 1, "example", "default", "CPU", p90 - 1, p90, None, p90 - 1, p90 - 1, 500, p90 - 0.1, p90 + 0.1
    )


def test_a_budget_limits_one_tower(make_measurement):
    measured = make_measurement(latency=(latency("image + text", 30.0), latency("image", 20.0), latency("text", 10.0)))
    assert check(Budget.model_validate({"text": {"p90_ms": 11.0}}), measured, 1).status == "pass"
    found = check(Budget.model_validate({"image": {"p90_ms": 11.0}, "text": {"p90_ms": 11.0}}), measured, 1)
    assert found.status == "fail"
    assert found.violations[0].startswith("image.p90_ms: at most 11 (batch 1, 1 thread), but measured 20")
    assert found.misses_cost
    assert not found.misses_quality
    assert check(Budget(p90_ms=25.0), measured, 1).status == "fail", "of both together"
    assert check(Budget(p90_ms=25.0, point=1), measured, 1).status == "pass"


def test_what_is_limited_must_be_measured():
    names = ("toy/recall@10",), 3, ("shop/recall@10",)
    assert unmeasured(Budget(retention={"shop/recall@10": 0.9}), *names) == []
    [(key, _)] = unmeasured(Budget(retention={"shop/recall@1": 0.9}), *names)
    assert key == "retention.shop/recall@1"


def test_a_budget_of_a_tower_knows_its_keys():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Budget.model_validate({"text": {"p95_ms": 1.0}})
