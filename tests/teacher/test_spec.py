"""TeacherSpec: one source, and nothing beside it that would be ignored. Its words are in golden/config/teacher_*."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from compresslab.models import Mlp, Residual
from compresslab.teacher import TeacherSpec

CHECKPOINT = TeacherSpec(checkpoint="a")
NEW = TeacherSpec(residual=Residual(widths=(8,)))


@pytest.mark.parametrize("two", [("predictions", "residual"), ("predictions", "mlp"), ("predictions", "checkpoint"),
                                 ("predictions", "python"), ("average", "mlp"), ("average", "best_of"),
                                 ("best_of", "checkpoint"), ("residual", "mlp")])  # fmt: skip
def test_exactly_one_source(two):
    sources = {
        "residual": Residual(widths=(8,)), "mlp": Mlp(widths=(8,)), "checkpoint": "a", "python": "mine:network",
        "predictions": "p.npz", "average": (CHECKPOINT, CHECKPOINT), "best_of": (CHECKPOINT, CHECKPOINT),
    }  # fmt: skip
    for name in two:
        assert getattr(TeacherSpec(**{name: sources[name]}), name) is not None
    with pytest.raises(ValidationError, match=f"exactly one of .*, but got .*`{two[0]}`|exactly one of .*`{two[1]}`"):
        TeacherSpec(**{name: sources[name] for name in two})


def test_the_code_of_a_checkpoint_may_stand_beside_it():
    assert TeacherSpec(checkpoint="a", python="mine:network").trusted == ("mine:network",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"predictions": "p.npz", "weights": "w.pt"}, "those of a network; leave them out beside `predictions`"),
        ({"average": (CHECKPOINT, CHECKPOINT), "arguments": {"depth": 2}}, "leave them out beside `average`"),
        ({"best_of": (CHECKPOINT, TeacherSpec(checkpoint="b", weight=2.0))}, "leave it out of `best_of`"),
        ({"average": (CHECKPOINT,)}, "at least 2 items"),
        ({"best_of": ()}, "at least 2 items"),
        ({"checkpoint": "a", "weight": 0.0}, "greater than 0"),
        ({"predictons": "p.npz"}, "Extra inputs are not permitted"),
    ],
)
def test_what_would_be_ignored_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        TeacherSpec(**given)


def test_which_of_them_are_one_network():
    assert CHECKPOINT.network
    assert NEW.network
    assert not TeacherSpec(predictions="p.npz").network
    assert not TeacherSpec(best_of=(CHECKPOINT, CHECKPOINT)).network


def test_every_function_that_may_run_is_named_also_inside():
    inner = TeacherSpec(average=(TeacherSpec(python="a:f"), TeacherSpec(checkpoint="x", python="b:g")))
    assert TeacherSpec(best_of=(inner, TeacherSpec(python="c:h"))).trusted == ("a:f", "b:g", "c:h")


def test_networks_without_weights_are_found_also_inside():
    assert NEW.untrained("teacher") == ["teacher"]
    assert CHECKPOINT.untrained("teacher") == []
    assert TeacherSpec(predictions="p.npz").untrained("teacher") == []
    weighted = TeacherSpec(residual=Residual(widths=(8,)), weights="w.pt")
    several = TeacherSpec(average=(CHECKPOINT, NEW, TeacherSpec(best_of=(NEW, weighted))))
    assert several.untrained("teacher") == ["teacher.average[1]", "teacher.average[2].best_of[0]"]


def test_paths_are_beside_the_pipeline_also_inside(tmp_path):
    plain = {"average": [{"checkpoint": "a", "weight": 2}, {"best_of": [{"predictions": "b.npz"}, {"python": "c:d"}]}]}
    spec = TeacherSpec.model_validate(plain, context={"base": str(tmp_path)})
    first, second = spec.members
    assert first.checkpoint == str(tmp_path / "a")
    assert second.members[0].predictions == str(tmp_path / "b.npz")
    assert TeacherSpec.model_validate(spec.model_dump(mode="json")) == spec
