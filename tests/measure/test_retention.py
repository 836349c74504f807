from __future__ import annotations

import numpy as np
import pytest

from compresslab.errors import DataError
from compresslab.measure.measurement import Flip
from compresslab.measure.metrics import METRICS
from compresslab.measure.quality import quality_delta
from compresslab.measure.retention import holm, retained

# right class, teacher's answer, student's answer, examples
TABLE = (
    (0, 0, 0, 10), (0, 0, 1, 8), (0, 1, 2, 2),
    (1, 1, 1, 7), (1, 0, 1, 1), (1, 2, 2, 2),
    (2, 2, 2, 4), (2, 1, 2, 6),
)  # fmt: skip
LABELS = ("coat", "shirt", "boot", "bag")


def answers(*table: tuple[int, int, int, int], classes: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The student's outputs, the teacher's, and the targets, in an order of no meaning."""
    examples = np.repeat([row[:3] for row in table], [row[3] for row in table], axis=0)
    np.random.default_rng(0).shuffle(examples)
    one_hot = np.eye(classes, dtype=np.float32)
    return one_hot[examples[:, 2]], one_hot[examples[:, 1]], examples[:, 0]


def test_every_figure_of_a_small_table() -> None:
    """By hand. McNemar: 2 / 2^8 for 8 lost and none won, 1 for 1 won, 2 / 2^6 for 6 won; Holm: times 3, 1 and 2."""
    found = retained("test", *answers(*TABLE), LABELS)
    assert (found.split, found.n, found.measured, found.lost, found.gained) == ("test", 40, 3, 1, 0)
    assert [
        (one.label, one.n, one.right_to_wrong, one.wrong_to_right, one.wrong_to_other_wrong) for one in found.classes
    ] == [("coat", 20, 8, 0, 2), ("shirt", 10, 0, 1, 0), ("boot", 10, 0, 6, 0)]
    assert [one.teacher for one in found.classes] == pytest.approx([0.9, 0.7, 0.4])
    assert [one.student for one in found.classes] == pytest.approx([0.5, 0.8, 1.0])
    assert [one.delta.value for one in found.classes] == pytest.approx([-0.4, 0.1, 0.6])
    assert [one.p_value for one in found.classes] == pytest.approx([3 / 128, 1.0, 2 / 32])
    # Boots would be gained by a test of their own: 1 / 32.
    assert [one.change for one in found.classes] == ["lost", "unclear", "unclear"]


def test_flips_say_what_the_change_of_answer_did() -> None:
    """Coat to shirt is wrong for 8 coats and right for a shirt; shirt to boot is right for 6 boots, and 2 are coats."""
    flips = retained("test", *answers(*TABLE), LABELS).flips
    assert (flips.right_to_wrong, flips.wrong_to_right, flips.wrong_to_other_wrong) == (8, 7, 2)
    assert flips.frequent == (Flip("coat", "shirt", 9, 8, 1), Flip("shirt", "boot", 8, 0, 6))


def test_ten_flips_are_told_the_commonest_first() -> None:
    table = [(0, before, 0, 1 + before) for before in range(1, 13)]
    frequent = retained("test", *answers(*table, classes=13)).flips.frequent
    assert [(flip.teacher, flip.count) for flip in frequent] == [(str(n), n + 1) for n in range(12, 2, -1)]


def test_the_interval_of_a_class_is_the_paired_one() -> None:
    """Both are right on half of 400: unpaired, the difference would be known to 0.07 either way, paired to 0.034."""
    table = ((0, 0, 0, 180), (0, 0, 1, 30), (0, 1, 0, 20), (0, 1, 1, 170), (1, 1, 1, 50))
    outputs, reference, targets = answers(*table)
    delta = retained("test", outputs, reference, targets).classes[0].delta
    error = 1.96 * np.sqrt((30 + 20 - (30 - 20) ** 2 / 400) / 400**2)
    assert (delta.value, delta.n) == (pytest.approx(-10 / 400), 400)
    assert (delta.low, delta.high) == pytest.approx((delta.value - error, delta.value + error), abs=0.005)
    rows = targets == 0
    assert delta == quality_delta(METRICS["accuracy"], outputs[rows], reference[rows], targets[rows])


def test_a_student_that_answers_as_its_teacher_keeps_every_class() -> None:
    outputs, _, targets = answers(*TABLE)
    found = retained("test", outputs, outputs, targets)
    assert (found.lost, found.gained, found.flips.frequent) == (0, 0, ())
    assert all((one.delta.value, one.p_value, one.change) == (0.0, 1.0, "unclear") for one in found.classes)


def test_a_class_may_be_gained() -> None:
    found = retained("test", *answers((0, 1, 0, 9), (1, 1, 1, 9)))
    assert (found.lost, found.gained, found.classes[0].change) == (0, 1, "gained")


def test_of_many_classes_the_worst_are_told_lost_ones_first() -> None:
    """Class 3 has one example, which is lost: by its difference alone it would come before the 20 lost of class 7."""
    table = [(label, label, label, 4) for label in range(120) if label not in (3, 7)]
    table += [(3, 3, 0, 1), (7, 7, 7, 20), (7, 7, 0, 20), (11, 11, 0, 1)]
    found = retained("test", *answers(*table, classes=130))
    assert (found.measured, found.lost, len(found.classes)) == (120, 1, 20)
    assert [one.label for one in found.classes[:3]] == ["7", "3", "11"]
    assert found.classes[0].p_value == pytest.approx(120 * 2 * 0.5**20)
    assert found.flips.right_to_wrong == 22, "the totals are of all classes"


def test_a_hundred_classes_are_all_told_in_their_order() -> None:
    found = retained("test", *answers(*((label, label, label, 1) for label in range(100)), classes=100))
    assert [one.label for one in found.classes] == [str(label) for label in range(100)]


def test_holms_correction() -> None:
    """By hand: 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 may not be below its predecessor."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1.0, 1.0])


@pytest.mark.parametrize("cut", [0, 1])
def test_a_class_that_one_of_them_has_no_output_for_is_refused(cut: int) -> None:
    *outputs, targets = answers(*TABLE)
    outputs[cut] = outputs[cut][:, :2]
    with pytest.raises(DataError, match="targets run from 0 to 2, but the model has 2 outputs"):
        retained("test", outputs[0], outputs[1], targets)
