from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from compresslab.errors import DataError
from compresslab.measure.metric_names import CLASS_METRICS
from compresslab.measure.metrics import METRICS, check_targets
from compresslab.measure.quality import quality, quality_delta, quality_ratio


def outputs_for(predictions: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[predictions]


def examples(n: int, classes: int, right: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and predictions that are right on a share of them."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, classes, n)
    return targets, np.where(rng.random(n) < right, targets, rng.integers(0, classes, n))


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_counts_give_what_scikit_learn_gives_on_every_resample(name: str) -> None:
    """The intervals come from counts, the value from scikit-learn; with a class that some resamples lack."""
    metric = METRICS[name]
    targets, predictions = examples(25, 6, 0.6)
    outcomes = metric.outcomes(outputs_for(predictions, 6), targets)
    cells, cell_of = np.unique(outcomes, axis=0, return_inverse=True)
    rng = np.random.default_rng(1)
    for _ in range(30):
        drawn = rng.integers(0, 25, 25)
        counts = np.bincount(cell_of.ravel()[drawn], minlength=len(cells)).astype(float)
        expected = {
            "accuracy": accuracy_score(targets[drawn], predictions[drawn]),
            "f1_macro": f1_score(targets[drawn], predictions[drawn], average="macro", zero_division=0.0),
        }[name]
        assert metric.of_counts(cells, counts[np.newaxis])[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_the_value_lies_in_its_interval_which_shrinks_with_examples(name: str) -> None:
    widths = []
    for n in (200, 3200):
        targets, predictions = examples(n, 5, 0.8)
        estimate = quality(METRICS[name], outputs_for(predictions, 5), targets)
        assert estimate.n == n
        assert estimate.low < estimate.value < estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[0] / widths[1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize("name", CLASS_METRICS)
def test_a_difference_is_paired(name: str) -> None:
    """Two models that differ on 2 % of the examples: unpaired, the interval would be several times wider."""
    targets, predictions = examples(2000, 5, 0.8)
    other = predictions.copy()
    other[:40] = (targets[:40] + 1) % 5
    this, reference = outputs_for(other, 5), outputs_for(predictions, 5)
    delta = quality_delta(METRICS[name], this, reference, targets)
    ratio = quality_ratio(METRICS[name], this, reference, targets)
    single = quality(METRICS[name], this, targets)
    assert delta.low < delta.value < delta.high < 0.0
    assert delta.high - delta.low < 0.5 * (single.high - single.low)
    assert ratio is not None
    assert ratio.low < ratio.value < ratio.high < 1.0
    assert ratio.value == pytest.approx(1.0 + delta.value / quality(METRICS[name], reference, targets).value)


def test_models_that_agree_on_all_examples_may_still_differ_on_the_next() -> None:
    """A plain bootstrap says [0, 0], which would pass a budget of no loss at all on ten examples."""
    targets, predictions = examples(500, 5, 0.9)
    outputs = outputs_for(predictions, 5)
    delta = quality_delta(METRICS["accuracy"], outputs, outputs, targets)
    assert delta.value == 0.0
    assert -0.02 < delta.low < 0.0 < delta.high < 0.02


def test_the_interval_of_a_difference_covers_it() -> None:
    """Of 200 samples of 500 examples about 190 intervals should hold the true -0.01; 0.95 +- 3 sigma."""
    rng = np.random.default_rng(0)
    targets, covered = np.zeros(500, np.int64), 0
    for _ in range(200):
        counts = rng.multinomial(500, [0.07, 0.02, 0.01, 0.90])  # both wrong, other right, this right, both right
        this, other = np.repeat([1, 1, 0, 0], counts), np.repeat([1, 0, 1, 0], counts)
        delta = quality_delta(METRICS["accuracy"], outputs_for(this, 2), outputs_for(other, 2), targets)
        covered += delta.low <= -0.01 <= delta.high
    assert covered >= 181


def test_the_ratio_to_a_model_that_is_always_wrong_does_not_exist() -> None:
    targets = np.zeros(10, np.int64)
    wrong, right = outputs_for(np.ones(10, np.int64), 2), outputs_for(targets, 2)
    assert quality_ratio(METRICS["accuracy"], right, wrong, targets) is None


def test_a_thousand_classes_are_no_trouble() -> None:
    """Dense class indicators would be 4,000 x 2,000 x 1,000 multiplications."""
    targets, predictions = examples(2000, 1000, 0.7)
    estimate = quality(METRICS["f1_macro"], outputs_for(predictions, 1000), targets)
    assert 0.5 < estimate.low < estimate.high < 0.9


def test_agreement_is_the_share_of_equal_answers() -> None:
    one, other = outputs_for(np.array([0, 1, 2, 0]), 3), outputs_for(np.array([0, 1, 1, 1]), 3)
    assert METRICS["accuracy"].agreement(one, other) == 0.5


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([0, 5], "targets run from 0 to 5, but the model has 5 outputs; .* or its head was cut"),
        ([-1, 0], "targets run from -1 to 0"),
        ([0], "2 outputs for 1 targets"),
    ],
)
def test_targets_without_an_output_are_refused(targets: list[int], message: str) -> None:
    """A head cut by pruning would otherwise be reported as a mere loss of accuracy."""
    with pytest.raises(DataError, match=message):
        check_targets(np.zeros((2, 5), np.float32), np.array(targets))
    with pytest.raises(DataError, match=message):
        quality(METRICS["f1_macro"], np.zeros((2, 5), np.float32), np.array(targets))


def test_no_examples_are_refused() -> None:
    with pytest.raises(DataError, match="at least one"):
        check_targets(np.zeros((0, 5), np.float32), np.zeros(0, np.int64))
