"""What is tried, what wins and what is refused; which options are faster here today is nobody's promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from compresslab.measure import session_choice
from compresslab.measure.artifact import Artifact
from compresslab.measure.bench import BenchPoint, BenchSettings
from compresslab.measure.samples import LatencySamples
from compresslab.measure.session import SessionOptions
from compresslab.measure.subject import Subject

SETTINGS = BenchSettings(points=(BenchPoint(threads=2),), processes=2, min_seconds=0.01, min_count=10)
OWN = SessionOptions()
LESS, SPINS = SessionOptions(graph_optimization="extended"), SessionOptions(allow_spinning=True)


@pytest.fixture
def model(make_artifact: Callable[..., Artifact], right: np.ndarray) -> Artifact:
    return make_artifact("model", right)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[SessionOptions, float]], list[list[SessionOptions]]]:
    """Sets what a call takes under which options; returns the list of what was measured together."""

    def set_to(nanoseconds: dict[SessionOptions, float]) -> list[list[SessionOptions]]:
        visits: list[list[SessionOptions]] = []

        def record(subjects: Sequence[Subject], settings: BenchSettings) -> tuple[tuple[LatencySamples, ...], ...]:
            visits.append([subject.session for subject in subjects])
            random = np.random.default_rng(len(visits))

            def samples(session: SessionOptions) -> LatencySamples:
                noise = random.normal(1, 0.001, (settings.processes, 6, 50))
                times = nanoseconds.get(session, 1e6) * noise
                return LatencySamples(tuple(times.astype(np.int64)))

            return (tuple(samples(subject.session) for subject in subjects),)

        monkeypatch.setattr(session_choice, "record", record)
        return visits

    return set_to


@pytest.fixture
def examples(model: Artifact) -> np.ndarray:
    from compresslab.measure.subject import made_up_samples

    return made_up_samples(model.manifest.preprocessing)


def alternatives(monkeypatch: pytest.MonkeyPatch, beside: list[SessionOptions], apart: list[SessionOptions]) -> None:
    monkeypatch.setattr(session_choice, "_alternatives", lambda *_: (beside, apart))


def test_the_faster_one_is_chosen(model, clock, examples, monkeypatch) -> None:
    alternatives(monkeypatch, [LESS], [])
    clock({LESS: 0.9e6})
    found = session_choice.choose_session(model, examples, SETTINGS)
    assert found.session == LESS
    (tried,) = found.tried
    assert tried.speedup is not None
    assert tried.speedup[0] == pytest.approx(1 / 0.9, rel=0.01)
    assert tried.plain()["session"] == "graph_optimization=extended"


def test_a_difference_that_proves_nothing_changes_nothing(model, clock, examples, monkeypatch) -> None:
    alternatives(monkeypatch, [LESS], [])
    clock({LESS: 0.99e6})
    assert session_choice.choose_session(model, examples, SETTINGS).session == OWN


def test_spinning_is_measured_in_processes_of_its_own_in_turn(model, clock, examples, monkeypatch) -> None:
    """Side by side it would slow down what it is compared with, and win by that."""
    alternatives(monkeypatch, [], [SPINS])
    visits = clock({SPINS: 0.5e6})
    assert session_choice.choose_session(model, examples, SETTINGS).session == SPINS
    assert visits == [[OWN], [SPINS], [OWN], [SPINS]]


def test_what_wins_is_tried_together(model, clock, examples, monkeypatch) -> None:
    both = SessionOptions(graph_optimization="extended", allow_spinning=True)
    alternatives(monkeypatch, [LESS], [SPINS])
    clock({LESS: 0.9e6, SPINS: 0.8e6, both: 0.7e6})
    assert session_choice.choose_session(model, examples, SETTINGS).session == both


def test_options_that_change_answers_are_refused(model, clock, examples, monkeypatch) -> None:
    alternatives(monkeypatch, [LESS], [])
    clock({LESS: 0.5e6})
    answers = session_choice.predict

    def other(artifact: Artifact, inputs: np.ndarray) -> np.ndarray:
        found = answers(artifact, inputs)
        return found + 1 if artifact.manifest.session == LESS else found

    monkeypatch.setattr(session_choice, "predict", other)
    found = session_choice.choose_session(model, examples, SETTINGS)
    assert found.session == OWN
    assert found.tried[0].refused is not None
    assert "its outputs differ by 1" in found.tried[0].refused


def test_threads_spin_only_where_there_are_several(model) -> None:
    path = model.graphs["model"]
    assert session_choice._alternatives(path, OWN, 1)[1] == []
    assert session_choice._alternatives(path, OWN, 2)[1] == [SPINS]
    assert session_choice._alternatives(path, SPINS, 2)[1] == []
