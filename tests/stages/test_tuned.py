"""Tuned: variants compete on validation, losers stop early, and the winner is what it would have been alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pytest

from compresslab.candidate import Candidate
from compresslab.digest import digest_of
from compresslab.errors import Diverged
from compresslab.models import architecture
from compresslab.stage import Context
from compresslab.stages import Distill, Tuned
from compresslab.stages.tuned import Variant, dotted
from compresslab.testing import context, tiny_candidate, tiny_task

# -- the competition, with stages that only say how good they are ------------------------------------------------------


@dataclass(frozen=True)
class Scripted:
    """A stage that is as good as it says after each number of epochs; `None` diverges."""

    name: str
    quality: Mapping[int, float | None]
    epochs: int = 16
    log: list[str] = field(default_factory=list, compare=False)
    kind = "distill"
    version = 1

    def model_dump(self, *, mode: Literal["json", "python"] = "python") -> dict[str, Any]:
        return {"epochs": self.epochs, "temperature": self.name}

    def begin(self, candidate: Candidate, given: Context, epochs: int) -> float:
        self.log.append(f"{self.name} {epochs} {given.scratch.name}")
        found = self.quality[epochs]
        if found is None:
            raise Diverged(f"{self.name} diverged")
        return found

    def apply(self, candidate: Candidate, given: Context) -> tuple[Candidate, ...]:
        self.log.append(f"{self.name} all {given.scratch.name} {sorted(given.tuned)}")
        return tuple(
            candidate.then(candidate.network, given.step(self, {"explained": 0.9, "control": attempt == 1}, attempt))
            for attempt in range(2)
        )


class Competition:
    """Variants named a, b, c, ..., each with its qualities."""

    def __init__(self, folder: Path, **qualities: Mapping[int, float | None]) -> None:
        self.log: list[str] = []
        self.given = context(folder, None)  # type: ignore[arg-type]  # nobody asks for the task
        self.tuned = Tuned(
            tuple(
                Variant({("temperature",): name}, Scripted(name, quality, log=self.log))
                for name, quality in qualities.items()
            )
        )

    def run(self) -> tuple[Candidate, ...]:
        return self.tuned.apply(tiny_candidate(), self.given)


@pytest.fixture
def competition(tmp_path: Path) -> Callable[..., Competition]:
    return lambda **qualities: Competition(tmp_path, **qualities)


def test_the_worse_half_stops_after_a_quarter_and_after_a_half(competition) -> None:
    rising = {
        name: {4: start, 8: end}
        for name, start, end in (("a", 0.5, 0.6), ("b", 0.7, 0.8), ("c", 0.8, 0.7), ("d", 0.1, 0.99))
    }
    made = competition(**rising)
    made.run()
    assert made.log == [
        "a 4 variant0", "b 4 variant1", "c 4 variant2", "d 4 variant3",
        "c 8 variant2", "b 8 variant1",
        "b all variant1 ['temperature']",
    ]  # fmt: skip
    epochs = {"a": 4, "b": 16, "c": 8, "d": 4}
    assert sum(epochs.values()) == 32, "half of what four whole trainings take"
    assert made.given.progress.notes == [
        "tuning, after 25% of the epochs: temperature c 0.8000, temperature b 0.7000, temperature a 0.5000, "
        "temperature d 0.1000",
        "tuning, after 50% of the epochs: temperature b 0.8000, temperature c 0.7000",
    ]


@pytest.mark.parametrize(
    ("variants", "steps"),
    [(2, {4: 2}), (3, {4: 3, 8: 2}), (5, {4: 5, 8: 3, 16: 2}), (8, {4: 8, 8: 4, 16: 2}), (9, {4: 9, 8: 5, 16: 3})],
)
def test_however_many_there_are_one_is_left(competition, variants, steps) -> None:
    """And what was tried to the end is not trained again."""
    made = competition(**{chr(97 + index): dict.fromkeys((4, 8, 16), index / 10) for index in range(variants)})
    made.run()
    counts = Counter(int(entry.split()[1]) for entry in made.log[:-1])
    assert counts == steps
    assert made.log[-1].startswith(f"{chr(96 + variants)} all"), "the best is chosen"


def test_of_equals_the_first_that_was_named_wins(competition) -> None:
    made = competition(a={4: 0.5}, b={4: 0.5})
    made.run()
    assert made.log[-1].startswith("a all")


def test_decisions_tell_what_was_tried_and_what_was_chosen(competition) -> None:
    made = competition(a={4: 0.5, 8: 0.6}, b={4: 0.7, 8: 0.75}, c={4: 0.61234567, 8: 0.8})
    for index, candidate in enumerate(made.run()):
        step = candidate.lineage[-1]
        assert step.decisions == {
            "explained": 0.9, "control": index == 1,
            "tuned": {
                "chosen": {"temperature": "c"},
                "tried": [
                    {"temperature": "a", "epochs": 4, "validation": 0.5},
                    {"temperature": "b", "epochs": 4, "validation": 0.7},
                    {"temperature": "c", "epochs": 4, "validation": 0.612346},
                    {"temperature": "b", "epochs": 8, "validation": 0.75},
                    {"temperature": "c", "epochs": 8, "validation": 0.8},
                ],
            },
        }  # fmt: skip
        assert step.settings["temperature"] == "c"
        digest_of(dict(step.decisions))


def test_shares_are_of_each_ones_own_epochs(tmp_path) -> None:
    """Where the number of epochs is what is tuned; two of sixteen would say nothing about the sixteen."""
    log: list[str] = []
    short, long = (
        Variant({("epochs",): epochs}, Scripted(str(epochs), {epochs // 4: 0.5}, epochs, log)) for epochs in (8, 16)
    )
    Tuned((short, long)).apply(tiny_candidate(), context(tmp_path, None))  # type: ignore[arg-type]
    assert [entry.rpartition(" ")[0] for entry in log[:2]] == ["8 2", "16 4"]


def test_a_value_that_diverges_loses(competition) -> None:
    """The others are what it was tried against; and it is not gone on with, however few are left."""
    made = competition(a={4: None}, b={4: 0.2, 8: 0.2}, c={4: None}, d={4: None})
    (candidate, _) = made.run()
    assert [entry.split()[0] for entry in made.log] == ["a", "b", "c", "d", "b"]
    tried = candidate.lineage[-1].decisions["tuned"]["tried"]
    assert [one["validation"] for one in tried] == [None, 0.2, None, None]
    digest_of(dict(candidate.lineage[-1].decisions))
    assert made.given.progress.notes[0].endswith(
        "temperature a diverged, temperature c diverged, temperature d diverged"
    )


def test_where_all_diverge_that_is_an_error(competition) -> None:
    with pytest.raises(Diverged, match="every value that was to be tried diverged: temperature a, temperature b"):
        competition(a={4: None}, b={4: None}).run()


def test_what_was_measured_is_not_measured_again_after_a_kill(competition, monkeypatch) -> None:
    """The weights may be those of a later epoch by then, and another choice come of it."""
    qualities = {"a": {4: 0.5, 8: 0.9}, "b": {4: 0.7, 8: 0.6}, "c": {4: 0.6, 8: 0.8}}
    expected = competition(**qualities).run()[0].lineage[-1].decisions["tuned"]
    path = competition(**qualities).given.scratch / "tuning.json"
    whole = json.loads(path.read_text())
    for finished in range(len(whole) + 1):
        path.write_text(json.dumps(dict(list(whole.items())[:finished])))
        resumed = competition(**qualities)
        assert resumed.run()[0].lineage[-1].decisions["tuned"] == expected
        assert len(resumed.log) == len(whole) - finished + 1


def test_settings_say_what_is_to_be_chosen() -> None:
    """That is what the cache's key and the lock file are of: other values to try are another tuning."""

    def tuned(*values: float) -> Tuned:
        path = ("losses", 0, "kd", "temperature")
        return Tuned(
            tuple(
                Variant(
                    {path: value}, Distill.model_validate({"epochs": 1, "losses": [{"kd": {"temperature": value}}]})
                )
                for value in values
            )
        )

    made = tuned(1.0, 4.0)
    assert (made.kind, made.version) == ("distill", Distill.version)
    settings = made.model_dump(mode="json")
    assert settings["losses"][0]["kd"]["temperature"] == {"tune": [1.0, 4.0]}
    assert settings["epochs"] == 1
    assert digest_of(settings) != digest_of(tuned(1.0, 2.0).model_dump(mode="json"))
    assert made.variants[0].stage.model_dump(mode="json")["losses"][0]["kd"]["temperature"] == 1.0
    assert made.values(("losses", 0, "kd", "temperature")) == [1.0, 4.0]


@pytest.mark.parametrize(
    ("path", "text"),
    [(("temperature",), "temperature"), (("losses", 0, "kd", "weight"), "losses[0].kd.weight"), ((0, "a"), "[0].a")],
)
def test_paths_as_text(path, text) -> None:
    assert dotted(path) == text


# -- with trainings --------------------------------------------------------------------------------------------------


RATES = (1e-5, 0.05, 1e-4)


def variants(**more: Any) -> Tuned:
    settings = {
        "epochs": 8, "batch": 112, "views": 1, "precision": "fp32", "student": {"residual": {"widths": [8]}}, **more,
    }  # fmt: skip
    return Tuned(
        tuple(
            Variant({("learning_rate",): rate}, Distill.model_validate({**settings, "learning_rate": rate}))
            for rate in RATES
        )
    )


class Watch:
    """Counts the epochs that are trained, in any variant; and kills at the begin of the n-th."""

    class Killed(Exception):
        pass

    def __init__(self, kill_in: int = 0) -> None:
        self.notes: list[str] = []
        self.epochs = 0
        self._last: float | None = None
        self._kill_in = kill_in

    def start(self, phase: str, total: int) -> None:
        self._last = None

    def advance(self, steps: int = 1, **values: float) -> None:
        if values.get("epoch") not in (None, self._last):
            self._last = values["epoch"]
            self.epochs += 1
            if self.epochs == self._kill_in:
                raise self.Killed("in an epoch")

    def note(self, message: str) -> None:
        self.notes.append(message)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Context]:
    def make(name: str) -> Context:
        folder = tmp_path_factory.mktemp(name)
        return context(folder, tiny_task(folder), tiny_candidate((16, 16), seed=1).network)

    return make


@pytest.fixture(scope="module")
def whole(given) -> list[tuple[str, str, str]]:
    """What the competition of three comes to."""
    return outcome(variants().apply(tiny_candidate(), given("whole")))


def outcome(made: tuple[Candidate, ...]) -> list[tuple[str, str, str]]:
    return [(architecture.digest(one.network), one.digest, digest_of(dict(one.lineage[-1].decisions))) for one in made]


def test_losers_stop_and_the_winner_is_what_it_would_have_been_alone(given) -> None:
    """Its training goes on from where it was judged, so it is not trained twice; it keeps the stage's contract."""
    watch, start = Watch(), tiny_candidate()
    made = variants(control=True).apply(start, replace(given("tuned"), progress=watch))
    student, control = made
    chosen = RATES.index(student.lineage[-1].decisions["tuned"]["chosen"]["learning_rate"])
    # 2 each after a quarter, 2 more for two of them, then 4 of the winner; and the control.
    assert watch.epochs == 3 * 2 + 2 * 2 + 4 + 8
    alone = variants(control=True).variants[chosen].stage.apply(start, given("alone"))
    assert [one[0] for one in outcome(made)] == [one[0] for one in outcome(alone)]
    assert architecture.digest(start.network) == architecture.digest(tiny_candidate().network)
    assert student.lineage[:-1] == start.lineage
    assert student.digest != control.digest
    assert control.lineage[-1].decisions["control"] is True


@pytest.mark.slow
@pytest.mark.parametrize("kill_in", [2, 6, 8, 12])
def test_killed_anywhere_it_comes_to_the_same_choice_and_bytes(given, whole, kill_in) -> None:
    """In the first variant, in the last of the first round, in the second round, in the winner's last part."""
    made = given("killed")
    with pytest.raises(Watch.Killed, match="in an epoch"):
        variants().apply(tiny_candidate(), replace(made, progress=Watch(kill_in)))
    watch = Watch()
    assert outcome(variants().apply(tiny_candidate(), replace(made, progress=watch))) == whole
    assert watch.epochs == 14 - kill_in + 1, "finished epochs are not trained again"
