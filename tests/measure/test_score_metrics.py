from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from compresslab.errors import DataError
from compresslab.measure.metric_names import SCORE_METRICS
from compresslab.measure.metrics import METRICS
from compresslab.measure.quality import quality, quality_delta, quality_ratio


def follow(targets: np.ndarray, correlation: float, seed: int = 1) -> np.ndarray:
    """Outputs [n, 1] that are correlated so with standard normal targets; the least squares prediction of them."""
    noise = np.random.default_rng(seed).normal(size=len(targets))
    answers = correlation * targets + np.sqrt(1.0 - correlation**2) * noise
    return (correlation * answers).astype(np.float32)[:, np.newaxis]


def normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=n).astype(np.float32)


def textbook(name: str, targets: np.ndarray, answers: np.ndarray) -> float:
    return {
        "pearson": lambda: stats.pearsonr(targets, answers).statistic,
        "spearman": lambda: stats.spearmanr(targets, answers).statistic,
        "r2": lambda: r2_score(targets, answers),
    }[name]()


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", SCORE_METRICS)
def test_counts_give_what_the_libraries_give_on_every_resample(name: str, ties: bool) -> None:
    """The intervals come from counts, the value from scipy; far from zero, where sums of squares lose their digits."""
    targets = normal(30).astype(float)
    answers = follow(targets, 0.7)[:, 0].astype(float)
    if ties:
        targets, answers = np.round(targets), np.round(2.0 * answers)
    targets, answers = 5000.0 + targets, 5000.0 + answers
    metric = METRICS[name]
    outcomes = metric.outcomes(answers[:, np.newaxis], targets)
    rng = np.random.default_rng(1)
    for _ in range(30):
        drawn = rng.integers(0, 30, 30)
        counts = np.bincount(drawn, minlength=30).astype(float)
        expected = textbook(name, targets[drawn], answers[drawn])
        assert metric.of_counts(outcomes, counts[np.newaxis])[0] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_the_value_is_that_of_all_examples_each_once(name: str) -> None:
    targets = normal(200)
    outputs = follow(targets, 0.6)
    metric = METRICS[name]
    value = metric.value(outputs, targets)
    assert value == pytest.approx(textbook(name, targets, outputs[:, 0]))
    assert metric.of_counts(metric.outcomes(outputs, targets), np.ones((1, 200)))[0] == pytest.approx(value)


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_the_value_lies_in_its_interval_which_shrinks_with_examples(name: str) -> None:
    widths = []
    for n in (200, 3200):
        targets = normal(n)
        estimate = quality(METRICS[name], follow(targets, 0.6), targets)
        assert estimate.n == n
        assert estimate.low < estimate.value < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.25)


def test_the_interval_of_a_correlation_is_about_fishers() -> None:
    """For normal data the z-transform's interval is known to be right."""
    targets = normal(1000)
    estimate = quality(METRICS["pearson"], follow(targets, 0.8), targets)
    z, half = np.arctanh(estimate.value), 1.96 / np.sqrt(1000 - 3)
    assert (estimate.low, estimate.high) == pytest.approx((np.tanh(z - half), np.tanh(z + half)), abs=0.005)


def test_intervals_cover_what_they_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 150 samples of 300 examples, 95 % of the intervals should hold the truth; 0.95 - 3 sigma is 134."""
    monkeypatch.setattr("compresslab.measure.intervals._RESAMPLES_OF_EXAMPLES", 400)
    truth = {"pearson": 0.8, "spearman": 6.0 / np.pi * np.arcsin(0.4), "r2": 0.64}
    covered = dict.fromkeys(truth, 0)
    for seed in range(150):
        targets = normal(300, seed)
        outputs = follow(targets, 0.8, 1000 + seed)
        for name, value in truth.items():
            estimate = quality(METRICS[name], outputs, targets)
            covered[name] += estimate.low <= value <= estimate.high
    assert min(covered.values()) >= 134, covered


@pytest.mark.parametrize("name", SCORE_METRICS)
def test_a_difference_is_paired(name: str) -> None:
    """A model that differs from another by a little noise: unpaired, the interval would be several times wider."""
    targets = normal(1000)
    reference = follow(targets, 0.8)
    this = reference + 0.25 * normal(1000, 5)[:, np.newaxis]
    metric = METRICS[name]
    delta, ratio = quality_delta(metric, this, reference, targets), quality_ratio(metric, this, reference, targets)
    single = quality(metric, this, targets)
    assert ratio is not None
    assert delta.low < delta.value < delta.high < 0.0
    assert ratio.low < ratio.value < ratio.high < 1.0
    assert delta.high - delta.low < 0.6 * (single.high - single.low)
    assert ratio.value == pytest.approx(1.0 + delta.value / metric.value(reference, targets))


def test_correlations_do_not_depend_on_the_units() -> None:
    targets = normal(300)
    outputs = follow(targets, 0.7)
    for name in ("pearson", "spearman"):
        one = quality(METRICS[name], outputs, targets)
        other = quality(METRICS[name], outputs * np.float32(1e-4) + np.float32(2.0), targets * 1000.0)
        assert (other.value, other.low) == pytest.approx((one.value, one.low), abs=1e-3)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_answers_that_are_all_the_same_tell_nothing(name: str) -> None:
    """A dead network: no NaN, no warning, and nothing to be proud of."""
    targets = normal(50)
    estimate = quality(METRICS[name], np.full((50, 1), 3.0, np.float32), targets)
    assert (estimate.value, estimate.low, estimate.high) == (0.0, 0.0, 0.0)
    assert quality_ratio(METRICS[name], follow(targets, 0.5), np.full((50, 1), 3.0, np.float32), targets) is None


def test_there_is_no_share_of_what_is_below_nothing() -> None:
    targets = normal(50)
    assert quality_ratio(METRICS["r2"], follow(targets, 0.5), -follow(targets, 0.5), targets) is None


def test_few_distinct_targets_give_an_interval_all_the_same() -> None:
    """Some resamples have one target only, and no correlation."""
    targets = np.array([0.0] * 7 + [1.0], np.float32)
    estimate = quality(METRICS["spearman"], np.arange(8, dtype=np.float32)[:, np.newaxis], targets)
    assert -1.0 <= estimate.low <= estimate.value <= estimate.high <= 1.0


def test_agreement_is_the_correlation_of_the_answers() -> None:
    """By their largest output, which is the only one, any two models would agree on everything."""
    one, other = follow(normal(100), 0.9), follow(normal(100), 0.9, seed=2)
    agreement = METRICS["spearman"].agreement
    assert agreement(one, other) == pytest.approx(np.corrcoef(one[:, 0], other[:, 0])[0, 1])
    assert agreement(one, 3.0 * one + 1.0) == pytest.approx(1.0)
    same = np.ones((10, 1), np.float32)
    assert (agreement(same, same), agreement(same, one[:10]), agreement(one[:10], same)) == (1.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (np.zeros((3, 1)), np.arange(2.0), "3 outputs for 2 targets"),
        (np.zeros((0, 1)), np.zeros(0), "at least one"),
        (
            np.zeros((3, 10)),
            np.arange(3.0),
            "the model has 10 outputs, but a score is one number; it was made for other",
        ),
        (np.zeros((3, 1)), np.ones(3), "all 3 targets are 1, so nothing can follow them"),
        (np.zeros((2, 1)), np.array([1.0, np.nan]), "some targets are NaN or infinite"),
    ],
)
def test_what_has_no_correlation_is_refused(outputs: np.ndarray, targets: np.ndarray, message: str) -> None:
    for name in SCORE_METRICS:
        with pytest.raises(DataError, match=message):
            quality(METRICS[name], outputs.astype(np.float32), targets.astype(np.float32))
