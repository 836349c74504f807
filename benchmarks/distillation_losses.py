"""Which way of distilling helps a small student on Fashion-MNIST, and whether the best one's gain is real.

python -m benchmarks.distillation_losses            five seeds an arm, then tuning, then five fresh seeds
python -m benchmarks.distillation_losses --quick    one epoch, one seed an arm: proves that it runs
python -m benchmarks.distillation_losses --table    the tables of the last full run
python -m benchmarks.distillation_losses --beside   in a second process, on another core: the last arms first

Arms are compared and chosen on validation. The best is confirmed on seeds that chose nothing, against a control that
was tuned alike and costs as many steps; test is measured there alone. What is finished is kept under
runs/distillation_losses, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from benchmarks.clip_art import clip_art
from benchmarks.document import load, of_one_network, options, publish
from compresslab.candidate import Candidate, Step
from compresslab.config import load_pipeline
from compresslab.digest import digest_of
from compresslab.distillation.scoring import predicted, validation_score
from compresslab.distillation.terms import Dist, Dkd, Hint, Kd, LossTerm, StandardisedKd, TaskTerm
from compresslab.models import ModelSpec, Residual, architecture
from compresslab.stage import Context, Stage
from compresslab.stages import Distill, Mutual, Train
from compresslab.store import Store
from compresslab.tasks import Task, TaskSpec
from compresslab.teacher import Cache, NetworkTeacher
from compresslab.testing import context
from compresslab.training import FitSettings

NAME = "distillation_losses"
PIPELINE = Path(__file__).parent.parent / "pipelines" / "fashion_mnist.yaml"
STUDENT = ModelSpec(residual=Residual(widths=(8, 16, 32), strides=(2, 2, 2), blocks=1))
EPOCHS, VIEWS, PATIENCE = 5, 2, 2
SEEDS, TUNING, FRESH = (0, 1, 2, 3, 4), 100, (10, 11, 12, 13, 14)
RATES = (0.1, 0.2, 0.4)
CONTROL, PATIENT_CONTROL = "control", "control, twice the epochs"


@dataclass(frozen=True)
class Arm:
    """A way of training the student: a stage for a learning rate, and whether it sees the unlabelled images."""

    epochs: int
    losses: tuple[LossTerm, ...] | None = None
    mixup: float = 0.0
    peers: bool = False
    transfer: bool = False

    def stage(self, rate: float, share: float, views: int) -> Stage:
        """The stage at a learning rate; `share` shortens it."""
        fit = FitSettings(epochs=max(1, round(self.epochs * share)), learning_rate=rate)
        if self.peers:
            return Mutual(**fit.model_dump(), peers=(STUDENT, STUDENT), views=views)
        if self.losses is None:
            return Train(**fit.model_dump())
        cache = Cache(dtype="float16", features="stored")
        return Distill(
            **fit.model_dump(), student=STUDENT, losses=self.losses, views=views, mixup=self.mixup, cache=cache
        )


def _terms(*terms: Mapping[str, Any]) -> tuple[LossTerm, ...]:
    return tuple(LossTerm(**term) for term in terms)


_TASK = {"task": TaskTerm(weight=0.1)}
_KD = {"kd": Kd(temperature=4.0, weight=0.9)}
ARMS: Mapping[str, Arm] = {
    CONTROL: Arm(EPOCHS),
    "KD": Arm(EPOCHS, _terms(_KD, _TASK)),
    "standardised KD": Arm(EPOCHS, _terms({"standardised_kd": StandardisedKd(weight=0.9)}, _TASK)),
    "DIST": Arm(EPOCHS, _terms({"dist": Dist()}, {"task": TaskTerm()})),
    "DKD": Arm(
        EPOCHS, _terms({"dkd": Dkd(temperature=4.0, target_weight=1.0, other_weight=2.0)}, {"task": TaskTerm()})
    ),
    "KD + hint": Arm(EPOCHS, _terms(_KD, _TASK, {"hint": Hint(student="stages.2", teacher="stages.2", weight=1.0)})),
    "mutual, two peers": Arm(EPOCHS, peers=True),
    "KD + clip art": Arm(EPOCHS, _terms(_KD, _TASK), transfer=True),
    "function matching, twice the epochs": Arm(EPOCHS * PATIENCE, _terms({"kd": Kd(temperature=4.0)}), mixup=1.0),
    PATIENT_CONTROL: Arm(EPOCHS * PATIENCE),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains all arms, tunes and confirms the best, prints the tables, publishes the document."""
    asked = options(__doc__, arguments, "--beside")
    if asked.table:
        print(markdown(load(NAME)))
        return
    trainings = Trainings(Path("runs") / f"{NAME}{'-quick' if asked.quick else ''}", asked.quick)
    seeds, fresh = ((0,), (10,)) if asked.quick else (SEEDS, FRESH)
    wanted = [(name, seed) for name in ARMS for seed in seeds]
    for name, seed in reversed(wanted) if asked.beside else wanted:
        trainings.score(name, 0.2, seed)
    screened = {name: [trainings.score(name, 0.2, seed) for seed in seeds] for name in ARMS}
    taught = {name: float(np.mean([one["validation"] for one in found])) for name, found in screened.items()
              if not name.startswith(CONTROL)}  # fmt: skip
    best = max(taught, key=lambda name: taught[name])
    control = trainings.control_of(best)
    pair = (control, best) if asked.beside else (best, control)
    rates: dict[str, float] = {}
    confirmed: dict[str, list[dict[str, Any]]] = {}
    for name in pair:
        rates[name] = 0.2 if asked.quick else _tuned(trainings, name)
        confirmed[name] = [trainings.score(name, rates[name], seed, test=True) for seed in fresh]
    if asked.beside:
        return
    body = {
        "student_parameters": trainings.parameters(), "epochs": EPOCHS, "views": VIEWS, "seeds": list(seeds),
        "unlabelled": trainings.unlabelled(), "arms": screened, "best": best, "control": control, "rates": rates,
        "fresh_seeds": list(fresh), "confirmed": confirmed,
    }  # fmt: skip
    print(markdown(body))
    publish(NAME, trainings.seconds(), body, quick=asked.quick)


def _tuned(trainings: Trainings, name: str) -> float:
    """The learning rate with the best quality on validation, of a seed that is used for nothing else."""
    means = {rate: float(trainings.score(name, rate, TUNING)["validation"]) for rate in RATES}
    return max(means, key=lambda rate: means[rate])


class Trainings:
    """Trainings of arms, each made once and kept as one line of a file."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self._folder = folder
        self._arms = dict(ARMS)
        self._share, self._views = (0.1, 1) if quick else (1.0, VIEWS)
        self._file = folder / "trainings.jsonl"
        self._done: dict[str, dict[str, Any]] = {}
        self._read()
        pipeline = load_pipeline(PIPELINE)
        self._store = Store(folder / ".store")
        images = pipeline.task.image_classification
        assert images is not None, "the main job classifies images"
        self._plain = of_one_network(pipeline.task.load(self._store.root / "data"))
        clips = clip_art(self._store.root / "data")
        more = TaskSpec(image_classification=images.model_copy(update={"transfer": str(clips)}))
        self._more = of_one_network(more.load(self._store.root / "data"))
        self._teacher = pipeline.model.build(self._plain.signature)

    def _read(self) -> None:
        """What this process or another one has finished."""
        if self._file.is_file():
            for line in self._file.read_text(encoding="utf-8").splitlines():
                one = json.loads(line)
                self._done.setdefault(one["key"], one)

    def control_of(self, arm: str) -> str:
        """The name of a control with as many steps as an arm, or a few more."""
        taught = ARMS[arm]
        task = self._more if taught.transfer else self._plain
        shown = sum(len(task.splits[name].inputs) for name in ("train", "transfer") if name in task.splits)
        epochs = math.ceil(taught.epochs * shown / len(self._plain.splits["train"].inputs))
        same = next((name for name, one in ARMS.items() if name.startswith(CONTROL) and one.epochs == epochs), None)
        name = same or f"{CONTROL}, {epochs} epochs"
        self._arms[name] = Arm(epochs)
        return name

    def unlabelled(self) -> str:
        """What the extra images are."""
        return f"{len(self._more.splits['transfer'].inputs):,} pictures of Debian's package openclipart-png, 28x28 grey"

    def seconds(self) -> float:
        """Of all trainings, whichever process and start they were made in."""
        return float(sum(one["seconds"] for one in self._done.values()))

    def parameters(self) -> int:
        """Of the student."""
        module = STUDENT.build(self._plain.signature).module
        return sum(parameter.numel() for parameter in module.parameters())

    def score(self, arm: str, rate: float, seed: int, *, test: bool = False) -> dict[str, Any]:
        """Validation accuracy (and test, when asked) of one training, and its seconds."""
        key = f"{arm} | {rate} | {seed} | {'test' if test else 'validation'}"
        self._read()
        if key in self._done:
            return self._done[key]
        settings = self._arms[arm]
        task = self._more if settings.transfer else self._plain
        stage = settings.stage(rate, self._share, self._views)
        around = self._context(task, seed, digest_of(key))
        begun = time.perf_counter()
        made = stage.apply(self._fresh(seed), around)[0].network
        found: dict[str, Any] = {"key": key, "seconds": round(time.perf_counter() - begun, 1)}
        found["validation"] = validation_score(made.module, task)
        if test:
            split = task.splits["test"]
            assert split.targets is not None, "test is labelled"
            outputs = predicted(made.module, task, "test", np.arange(len(split.targets)))
            found["test"] = float((outputs.argmax(axis=1) == split.targets).mean())
        self._done[key] = found
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(found) + "\n")
        print(f"{key}: validation {found['validation']:.4f}, {found['seconds']:.0f} s", flush=True)
        return found

    def _fresh(self, seed: int) -> Candidate:
        """The student before any training; `train` starts from it as `distill` and `mutual` do from their own."""
        model = STUDENT.build(self._plain.signature, seed)
        return Candidate(model, (Step("baseline", {}, {}, architecture.digest(model)),))

    def _context(self, task: Task, seed: int, key: str) -> Context:
        teacher = NetworkTeacher(self._teacher.module, architecture.digest(self._teacher), task, self._store)
        plain = context(self._folder / "scratch" / key[:16], task, seed=seed)
        return replace(plain, teacher=teacher, key=key, tuned=frozenset({"temperature"}))


def markdown(body: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "| arm | validation, mean of the seeds [95 %] | against control | seconds |",
        "| --- | ---: | ---: | ---: |",
    ]
    control = [one["validation"] for one in body["arms"][CONTROL]]
    for name, found in body["arms"].items():
        values = [one["validation"] for one in found]
        delta = "" if name == CONTROL else _interval(np.subtract(values, control), signed=True)
        seconds = float(np.median([one["seconds"] for one in found]))
        lines.append(f"| {name} | {_interval(values)} | {delta} | {seconds:.0f} |")
    best, other = body["best"], body["control"]
    ours, theirs = ([one["test"] for one in body["confirmed"][name]] for name in (best, other))
    gain = np.subtract(ours, theirs)
    low, high = _bounds(gain)
    verdict = "confirmed" if low > 0 else "not confirmed: a null result" if high > 0 else "it hurts"
    lines += [
        "",
        f"{body['student_parameters']:,} parameters, {body['epochs']} epochs, {len(body['seeds'])} seeds; intervals "
        f"are Student's over the seeds, differences paired by seed. Unlabelled data: {body['unlabelled']}. Seconds on "
        "one thread, the teacher's answers included where nothing before had asked for them.",
        "",
        f"Best on validation: {best}. On {len(body['fresh_seeds'])} fresh seeds, learning rates tuned alike "
        f"({best}: {body['rates'][best]}, {other}: {body['rates'][other]}): test {_interval(ours)} against "
        f"{_interval(theirs)} of {other}; gain {_interval(gain, signed=True)} points, {verdict}.",
    ]
    return "\n".join(lines)


def _bounds(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    array = np.asarray(values, np.float64)
    if len(array) < 2 or np.ptp(array) == 0:
        return float(array.mean()), float(array.mean())
    low, high = stats.t.interval(0.95, len(array) - 1, loc=array.mean(), scale=stats.sem(array))
    return float(low), float(high)


def _interval(values: Sequence[float] | np.ndarray, *, signed: bool = False) -> str:
    low, high = _bounds(values)
    form = "+.2f" if signed else ".2f"
    return f"{100 * float(np.mean(values)):{form}} [{100 * low:{form}}, {100 * high:{form}}]"


if __name__ == "__main__":
    main()
