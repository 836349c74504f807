"""Retrieval and similarity: against scikit-learn and scipy, and by hand where ties count."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import ndcg_score

from compresslab.errors import DataError
from compresslab.measure.embedding_metrics import alike, retrieval_ranks
from compresslab.measure.index_effects import index_effects, int8_vectors
from compresslab.measure.metric_names import RETRIEVAL_METRICS
from compresslab.measure.metrics import METRICS
from compresslab.measure.quality import quality, quality_delta, quality_ratio


def angles(*degrees: float) -> np.ndarray:
    """Directions in the plane, of lengths that must not matter."""
    radians = np.radians(degrees)
    lengths = 1.0 + np.arange(len(degrees))
    return (lengths[:, None] * np.stack([np.cos(radians), np.sin(radians)], axis=1)).astype(np.float32)


def drawn(queries: int = 40, documents: int = 90, width: int = 12, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings in a mixed order, with one to four right documents a query."""
    random = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(queries), random.integers(0, queries, documents - queries)])
    targets = np.concatenate([-(np.arange(queries) + 1), groups])
    centres = random.normal(size=(queries, width))
    outputs = centres[np.where(targets < 0, -(targets + 1), targets)] + random.normal(0, 1.2, (len(targets), width))
    order = random.permutation(len(targets))
    return outputs[order].astype(np.float32), targets[order]


def relevance(outputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and right documents [queries, documents]."""
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    queries = targets < 0
    right = (-(targets[queries] + 1))[:, None] == targets[~queries][None]
    return unit[queries] @ unit[~queries].T, right


def test_by_hand() -> None:
    """The last document is as near to its query as a wrong one is, and so comes behind it."""
    outputs, targets = angles(0, 10, 20, 30, 90, 50), np.array([-1, 0, 1, 0, 1, -2])
    ranks, rows = retrieval_ranks(outputs, targets)
    assert [one.tolist() for one in ranks] == [[1, 3], [2, 4]]
    assert rows.tolist() == [0, 5]
    assert METRICS["recall@1"].outcomes(outputs, targets).tolist() == [[0.5], [0.0]]
    assert METRICS["recall@5"].value(outputs, targets) == 1.0
    best = 1 + 1 / np.log2(3)
    expected = [(1 + 0.5) / best, (1 / np.log2(3) + 1 / np.log2(5)) / best]
    assert METRICS["ndcg@10"].outcomes(outputs, targets)[:, 0] == pytest.approx(expected)


def test_ndcg_is_scikit_learns() -> None:
    outputs, targets = drawn()
    scores, right = relevance(outputs, targets)
    assert METRICS["ndcg@10"].value(outputs, targets) == pytest.approx(
        ndcg_score(right, scores, k=10, ignore_ties=True)
    )


@pytest.mark.parametrize("cutoff", [1, 5, 10])
def test_recall_is_the_share_of_right_documents_among_the_nearest(cutoff: int) -> None:
    outputs, targets = drawn()
    scores, right = relevance(outputs, targets)
    nearest = np.argsort(-scores, axis=1)[:, :cutoff]
    expected = np.take_along_axis(right, nearest, axis=1).sum(axis=1) / right.sum(axis=1)
    found = METRICS[f"recall@{cutoff}"].outcomes(outputs, targets)[:, 0]
    assert found == pytest.approx(expected)
    assert METRICS[f"recall@{cutoff}"].value(outputs, targets) == pytest.approx(expected.mean())


def test_queries_in_many_chunks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, targets = drawn()
    whole = METRICS["ndcg@10"].outcomes(outputs, targets)
    monkeypatch.setattr("compresslab.measure.embedding_metrics._CHUNK", 200)
    np.testing.assert_allclose(METRICS["ndcg@10"].outcomes(outputs, targets), whole)


@pytest.mark.parametrize("name", RETRIEVAL_METRICS)
def test_a_network_that_tells_nothing_apart_finds_nothing(name: str) -> None:
    """Any order of equal cosines would be luck: the right document comes last."""
    targets = np.concatenate([-(np.arange(30) + 1), np.arange(30)])
    outputs = np.tile(np.float32([0.6, 0.8, 0.3]), (60, 1)) * np.linspace(1, 2, 60, dtype=np.float32)[:, None]
    assert METRICS[name].value(outputs, targets) == 0.0


def test_a_right_document_is_behind_a_wrong_one_that_is_as_near() -> None:
    outputs, targets = angles(0, 10, -10, 40), np.array([-1, 0, 1, 1])
    assert [one.tolist() for one in retrieval_ranks(outputs, targets)[0]] == [[2]]


def test_similarity_is_scipys_over_pairs() -> None:
    random = np.random.default_rng(0)
    outputs, scores = random.normal(size=(80, 6)).astype(np.float32), random.normal(size=40).astype(np.float32)
    unit = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    cosines = (unit[::2] * unit[1::2]).sum(axis=1)
    found = quality(METRICS["similarity"], outputs, np.repeat(scores, 2))
    assert found.value == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-6)
    assert found.n == 40
    assert found.low < found.value < found.high


def test_intervals_resample_queries_and_are_paired() -> None:
    """Of samples, which are more, they would be too narrow; unpaired, as wide as those of two models."""
    outputs, targets = drawn(queries=300, documents=700)
    near = outputs + np.random.default_rng(5).normal(0, 0.1, outputs.shape).astype(np.float32)
    metric = METRICS["ndcg@10"]
    one, delta = quality(metric, outputs, targets), quality_delta(metric, near, outputs, targets)
    ratio = quality_ratio(metric, near, outputs, targets)
    assert ratio is not None
    assert one.n == delta.n == ratio.n == 300
    of_queries = metric.outcomes(outputs, targets)[:, 0]
    assert (one.high - one.low) / 2 == pytest.approx(1.96 * of_queries.std() / np.sqrt(300), rel=0.1)
    assert delta.high - delta.low < 0.5 * (one.high - one.low)
    assert ratio.value == pytest.approx(metric.value(near, targets) / one.value)


def test_models_that_agree_on_few_queries_are_not_known_to_agree_on_all() -> None:
    outputs, targets = drawn(queries=20, documents=20)
    ratio = quality_ratio(METRICS["recall@10"], outputs * 2, outputs, targets)
    assert ratio is not None
    assert ratio.low < ratio.value == 1.0 < ratio.high


def test_agreement_works_for_different_widths() -> None:
    outputs, _ = drawn()
    wider = outputs @ np.linalg.qr(np.random.default_rng(1).normal(size=(30, 30)))[0][:12].astype(np.float32)
    assert alike(outputs, wider) == pytest.approx(1.0, abs=1e-4)
    other = np.random.default_rng(2).normal(size=(len(outputs), 7)).astype(np.float32)
    assert abs(alike(outputs, other)) < 0.1
    flat = np.ones_like(outputs)
    assert (alike(flat, flat), alike(flat, outputs), alike(outputs, flat)) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (angles(0, 1), np.array([-1]), "2 outputs for 1 targets"),
        (angles(0, 1), np.array([0.5, 0.5], np.float32), "needs whole group numbers, but the targets are float32"),
        (angles(0, 1), np.array([-1, -1]), r"there are no documents .* among 2 samples"),
        (angles(0, 1), np.array([0, 1]), r"there are no queries .* among 2 samples"),
        (angles(0, 1, 2), np.array([-1, -2, 0]), r"1 of 2 queries have no document of their group \(rows 1\)"),
        (angles(0, 1) * [[1], [0]], np.array([-1, 0]), r"1 of 2 embeddings are zero \(rows 1\), which is no direction"),
        (angles(0, 1) * [[1], [np.nan]], np.array([-1, 0]), r"1 of 2 embeddings hold NaN or infinity \(rows 1\)"),
    ],
)
def test_what_nothing_can_be_found_in_is_told(outputs: np.ndarray, targets: np.ndarray, message: str) -> None:
    for name in RETRIEVAL_METRICS:
        with pytest.raises(DataError, match=message):
            quality(METRICS[name], outputs.astype(np.float32), targets)


@pytest.mark.parametrize("scores", [[1.0, 1.0, 2.0], [1.0, 2.0, 3.0, 3.0]])
def test_scores_that_are_not_of_pairs_are_told(scores: list[float]) -> None:
    with pytest.raises(DataError, match=r"`similarity` needs pairs: rows 2i and 2i \+ 1"):
        quality(METRICS["similarity"], angles(*range(len(scores))), np.array(scores, np.float32))


def test_int8_vectors_have_a_step_of_their_own_in_every_dimension() -> None:
    documents = np.array([[3.0, 0.0, 4.0], [-1.0, 0.0, 0.0]], np.float32)
    codes, scales = int8_vectors(documents)
    assert codes.tolist() == [[76, 0, 127], [-127, 0, 0]]
    assert scales == pytest.approx([1 / 127, 1.0, 0.8 / 127])


def test_what_an_index_takes_and_what_int8_costs_in_it() -> None:
    outputs, targets = drawn()
    found = index_effects(METRICS["recall@5"], outputs, targets)
    assert (found.width, found.bytes_float32, found.bytes_int8) == (12, 48, 12)
    rounded = outputs.copy()
    codes, scales = int8_vectors(outputs[targets >= 0])
    rounded[targets >= 0] = codes * scales
    assert found.int8.value == pytest.approx(METRICS["recall@5"].value(rounded, targets))
    expected = found.int8.value - METRICS["recall@5"].value(outputs, targets)
    assert found.int8_delta.value == pytest.approx(expected)
    assert abs(expected) < 0.05
