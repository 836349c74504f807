"""Accuracy against measured latency of the Fashion-MNIST teacher, pruned in four ways to four shares of its time.

python -m benchmarks.pruning_latency            four ways, four shares, three seeds; then INT8 on the fastest
python -m benchmarks.pruning_latency --quick    one share, one seed, one epoch on little data: proves that it runs
python -m benchmarks.pruning_latency --table    the tables of the last full run
python -m benchmarks.pruning_latency --finished the tables of the recoveries that are finished, without any more
python -m benchmarks.pruning_latency --beside   in a second process, on another core: every other recovery first

The cuts are made once: `latency-aware` by the `prune` stage with a target of latency; the others at the ratio whose
widths are predicted to take that share of the time. They are measured side by side, and each recovers with the same
recipe. The recipe was chosen on validation; test is measured once, here. What is finished is kept under
runs/pruning_latency, so an interrupted benchmark goes on.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch_pruning as tp
from torch import nn

from benchmarks.document import load, of_one_network, options, publish
from compresslab.candidate import Candidate, Step, TorchModel
from compresslab.clock import MachineClock
from compresslab.config import load_pipeline
from compresslab.digest import digest_of
from compresslab.distillation import Recipe, learn
from compresslab.distillation.scoring import predicted
from compresslab.export import export
from compresslab.measure.artifact import Artifact
from compresslab.measure.bench import BenchPoint, BenchSettings, interleaved
from compresslab.measure.evaluate import predict
from compresslab.measure.intervals import latency_ratio, over_examples
from compresslab.measure.measurement import Estimate
from compresslab.models import architecture
from compresslab.pruning import (
    CRITERIA,
    Costs,
    Groups,
    best_units,
    cut,
    find_groups,
    gather,
    judge,
    layers_of,
    reconstruct,
    shares,
    sizes,
)
from compresslab.pruning.damage import reestimate
from compresslab.stage import Context
from compresslab.stages import Prune, Quantize
from compresslab.store import Store
from compresslab.teacher import NetworkTeacher
from compresslab.testing import context

NAME = "pruning_latency"
PIPELINE = Path(__file__).parent.parent / "pipelines" / "fashion_mnist.yaml"
SHARES = (0.75, 0.5, 0.35, 0.25)
SEEDS = (0, 1, 2)
OURS, GLOBAL = "latency-aware", "global magnitude (torch-pruning)"
METHODS = (OURS, "isomorphic Taylor", GLOBAL, "uniform")
RECIPE = Recipe(epochs=3, learning_rate=0.06, temperature=4.0, kd_weight=0.9, task_weight=0.3, views=3)
ROUND_TO = 8
BENCH = BenchSettings(points=(BenchPoint(),), min_seconds=2.0, processes=5)


def main(arguments: Sequence[str] | None = None) -> None:
    """Cuts, measures, recovers, quantizes; prints the tables; publishes the document."""
    asked = options(__doc__, arguments, "--beside", "--finished")
    if asked.table:
        print(markdown(load(NAME)))
        return
    work = _Work(Path("runs") / f"{NAME}{'-quick' if asked.quick else ''}", asked.quick)
    wanted_shares, seeds = ((0.5,), (0,)) if asked.quick else (SHARES, SEEDS)
    for share in wanted_shares:
        for method in METHODS:
            work.cut(method, share)
    # The question is asked of two ways; the smallest networks first, as they are the quickest.
    ways = ((OURS, GLOBAL), tuple(method for method in METHODS if method not in (OURS, GLOBAL)))
    wanted = [
        (method, share, seed)
        for methods in ways
        for share in sorted(wanted_shares)
        for seed in seeds
        for method in methods
    ]
    first = int(asked.beside)
    for method, share, seed in () if asked.finished else (*wanted[first::2], *wanted[1 - first :: 2]):
        work.recovered(method, share, seed)
    if asked.beside:
        return
    body = {
        "recipe": RECIPE.model_dump(mode="json", exclude_defaults=True),
        "round_to": ROUND_TO,
        "seeds": list(seeds),
        "teacher": work.teacher_record(),
        "cuts": work.measured(wanted_shares),
        "accuracy": work.accuracies(wanted_shares, seeds),
        "untrained": work.untrained(wanted_shares),
        "int8": work.quantized(wanted_shares[-1], seeds),
    }
    print(markdown(body))
    publish(NAME, work.seconds(), body, quick=asked.quick)


class _Work:
    """Cuts and recoveries, each made once and kept."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self._folder, self._quick = folder, quick
        self._store = Store(folder / ".store")
        pipeline = load_pipeline(PIPELINE)
        self._task = of_one_network(pipeline.task.load(self._store.root / "data"))
        self._teacher = pipeline.model.build(self._task.signature)
        self._teacher_digest = architecture.digest(self._teacher)
        validation = self._task.splits["validation"].inputs
        self._clock = MachineClock(self._store, BENCH, validation, self._export, lambda what: print(what, flush=True))
        self._context = self._context_of("cuts", 0)
        self._groups = find_groups(self._teacher.module, self._example())
        self._costs: Costs | None = None

    # -- cuts --------------------------------------------------------------------------------------------------------

    def cut(self, method: str, share: float) -> TorchModel:
        """The teacher with so much of its time left, not recovered."""
        place = self._place(method, share, "cut")
        if not (place / "record.json").is_file():
            model, record = self._ours(share) if method == OURS else self._theirs(method, share)
            architecture.save(model, place)
            _write(place / "record.json", record)
            print(f"{method}, {share}: {record['widths']}", flush=True)
        return architecture.load(place)

    def _ours(self, share: float) -> tuple[TorchModel, dict[str, Any]]:
        stage = Prune(latency=share, precision="fp32", round_to=ROUND_TO, recover=None)
        start = Candidate(self._teacher, (Step("baseline", {}, {}, self._teacher_digest),))
        made = stage.apply(start, self._context)[0]
        decisions = made.lineage[-1].decisions
        return made.network, {
            "widths": {name: after for name, (_, after) in decisions["widths"].items()},
            "predicted": decisions["latency"]["predicted"],
            "attempts": decisions["latency"]["attempts"],
        }

    def _theirs(self, method: str, share: float) -> tuple[TorchModel, dict[str, Any]]:
        """At the least ratio whose widths are predicted to be fast enough."""
        low, high = 0.0, 0.9
        cut_at = _global_magnitude(self._teacher.module, self._example()) if method == GLOBAL else self._shares(method)
        found: nn.Module | None = None
        for _ in range(12):
            ratio = (low + high) / 2
            module = cut_at(ratio)
            if self._predicted(module) <= share:
                found, high = module, ratio
            else:
                low = ratio
        assert found is not None, "nine tenths of the channels are more than three quarters of the time"
        return TorchModel(found, self._teacher.builder), {
            "ratio": round(high, 4), "widths": _widths(found), "predicted": round(self._predicted(found), 4),
        }  # fmt: skip

    def _shares(self, method: str) -> Callable[[float], nn.Module]:
        criterion = CRITERIA["taylor" if "Taylor" in method else "magnitude"]
        split = self._task.splits["calibration"]
        assert split.targets is not None, "calibration is labelled"
        rows = np.arange(len(split.targets))
        inputs = torch.from_numpy(self._task.batch("calibration", rows, None))
        batches = zip(torch.split(inputs, 250), torch.split(torch.from_numpy(split.targets), 250), strict=True)
        teacher = self._teacher.module
        evidence = gather(teacher, self._groups, batches, self._task.loss, criterion.reads)
        scores = judge(criterion, evidence, self._groups)
        counted = sizes(teacher, self._groups, self._example())

        def cut_at(ratio: float) -> nn.Module:
            found = shares.widths(
                teacher, self._groups, scores, counted, target="channels", share=1 - ratio,
                scope="local" if method == "uniform" else "isomorphic", round_to=ROUND_TO,
                comparable=criterion.comparable,
            )  # fmt: skip
            return cut(teacher, self._groups, best_units(self._groups, scores, found.widths))

        return cut_at

    def _predicted(self, module: nn.Module) -> float:
        """Share of the teacher's time, by the table."""
        if self._costs is None:
            (timing,) = self._clock.measure([self._teacher])
            self._costs = Costs(
                layers_of(self._teacher.module, self._example()), self._groups, self._clock.table("fp32"),
                measured_ms=timing.ms, beside=self._clock.beside(self._teacher, "fp32"), step=ROUND_TO,
            )  # fmt: skip
        widths = _widths(module)
        return self._costs.share({group.name: widths[group.name] for group in self._groups})

    # -- recoveries --------------------------------------------------------------------------------------------------

    def recovered(self, method: str, share: float, seed: int) -> TorchModel:
        """The network of a cut after its recovery."""
        place = self._place(method, share, f"seed{seed}")
        if not (place / "record.json").is_file():
            model = self.cut(method, share)
            recipe = RECIPE.model_copy(update={"epochs": 1, "views": 1}) if self._quick else RECIPE
            begun = time.perf_counter()
            learn(model.module, recipe, self._context_of(f"{method} {share} {seed}", seed), "recover")
            seconds = round(time.perf_counter() - begun, 1)
            architecture.save(model, place)
            validation = float(self._right(model.module, "validation").mean())
            _write(place / "record.json", {"seconds": seconds, "validation": validation})
            print(f"{method}, {share}, seed {seed}: validation {validation:.4f}, {seconds:.0f} s", flush=True)
        return architecture.load(place)

    def _right(self, module: nn.Module, split: str) -> npt.NDArray[np.float64]:
        """1 for each sample that is answered rightly, 0 for the others."""
        targets = self._task.splits[split].targets
        assert targets is not None, "validation and test are labelled"
        outputs = predicted(module.eval(), self._task, split, np.arange(len(targets)))
        return np.asarray(outputs.argmax(1) == targets, np.float64)

    # -- measuring ---------------------------------------------------------------------------------------------------

    def teacher_record(self) -> dict[str, Any]:
        """The teacher as it is."""
        right = self._right(self._teacher.module, "test")
        return {"parameters": _parameters(self._teacher.module), "test": float(right.mean())}

    def measured(self, wanted: Sequence[float]) -> list[dict[str, Any]]:
        """Every cut beside the teacher, in one session."""
        names = [(method, share) for share in wanted for method in METHODS]
        timings = self._clock.measure([self._teacher, *(self.cut(*name) for name in names)])
        found = []
        for (method, share), timing in zip(names, timings[1:], strict=True):
            module = self.cut(method, share).module
            found.append(
                {"method": method, "asked": share, "measured": _plain(timing.share), "ms": timing.ms,
                 "parameters": _parameters(module), "predicted": round(self._predicted(module), 4),
                 "widths": _widths(module)}
            )  # fmt: skip
        return found

    def accuracies(self, wanted: Sequence[float], seeds: Sequence[int]) -> list[dict[str, Any]]:
        """Of every cut, the mean of its seeds on test against the teacher, and of ours against each other way."""
        teacher = self._right(self._teacher.module, "test")
        found = []
        for share in wanted:
            right = {
                method: {
                    seed: self._right(self.recovered(method, share, seed).module, "test")
                    for seed in seeds
                    if (self._place(method, share, f"seed{seed}") / "record.json").is_file()
                }
                for method in METHODS
            }
            for method, by_seed in right.items():
                if not by_seed:
                    continue
                records = [_read(self._place(method, share, f"seed{seed}") / "record.json") for seed in by_seed]
                mean = np.mean(list(by_seed.values()), 0)
                ours = np.mean([right[OURS][seed] for seed in by_seed], 0)
                found.append(
                    {"method": method, "asked": share, "seeds": list(by_seed),
                     "test": [float(one.mean()) for one in by_seed.values()],
                     "validation": [record["validation"] for record in records], "delta": _paired(mean, teacher),
                     "ours_minus_this": _paired(ours, mean)}
                )  # fmt: skip
        return found

    def untrained(self, wanted: Sequence[float]) -> list[dict[str, Any]]:
        """Every cut without any training: its statistics taken anew, and its weights refitted by least squares."""
        teacher = self._right(self._teacher.module, "test")
        count = len(self._task.splits["calibration"].inputs)
        inputs = torch.from_numpy(self._task.batch("calibration", np.arange(count), None))
        found = []
        for share in wanted:
            for method in METHODS:
                cut_alone, refitted = (self.cut(method, share).module for _ in range(2))
                reestimate(cut_alone, inputs)
                keep = _kept(self._teacher.module, self._groups, refitted)
                reconstruct(refitted, self._teacher.module, self._groups, keep, inputs)
                found.append(
                    {"method": method, "asked": share,
                     "statistics": _paired(self._right(cut_alone, "test"), teacher),
                     "refitted": _paired(self._right(refitted, "test"), teacher)}
                )  # fmt: skip
        return found

    def quantized(self, share: float, seeds: Sequence[int]) -> list[dict[str, Any]]:
        """INT8 by calibration on top of our cut: size and accuracy in ONNX Runtime, and speed beside the teacher."""
        teacher = self._right(self._teacher.module, "test")
        folder = self._folder / "int8"
        whole = self._export(self._teacher, folder / "teacher")
        made = []
        for seed in seeds:
            model = self.recovered(OURS, share, seed)
            start = Candidate(model, (Step("baseline", {}, {}, architecture.digest(model)),))
            int8 = Quantize().apply(start, self._context)[0]
            made.append(self._export(int8.model, folder / f"seed{seed}"))  # type: ignore[arg-type]
        ((first, *others),) = interleaved([whole, *made], self._task.splits["validation"].inputs, BENCH)
        found = []
        for artifact, samples in zip(made, others, strict=True):
            right = self._right_of(artifact)
            found.append(
                {"bytes": artifact.bytes, "size_ratio": whole.bytes / artifact.bytes, "test": float(right.mean()),
                 "speedup": _plain(latency_ratio(first.milliseconds, samples.milliseconds)),
                 "delta": _paired(right, teacher)}
            )  # fmt: skip
        return found

    def _right_of(self, artifact: Artifact) -> npt.NDArray[np.float64]:
        """The same of the test samples, answered by ONNX Runtime."""
        split = self._task.splits["test"]
        assert split.targets is not None, "test is labelled"
        return np.asarray(predict(artifact, split.inputs).argmax(1) == split.targets, np.float64)

    def seconds(self) -> float:
        """Of all recoveries, whichever process they were made in."""
        return float(sum(_read(file)["seconds"] for file in self._folder.glob("*/*/seed*/record.json")))

    # -- around ------------------------------------------------------------------------------------------------------

    def _example(self) -> torch.Tensor:
        return torch.from_numpy(self._task.batch("calibration", np.arange(2), None))

    def _place(self, method: str, share: float, what: str) -> Path:
        return self._folder / method.partition(" (")[0].replace(" ", "-") / f"{share:g}" / what

    def _export(self, model: TorchModel, folder: Path) -> Artifact:
        return export(
            model, folder, preprocessing=self._task.preprocessing, labels=self._task.labels,
            inputs=self._task.batch("validation", np.arange(64), None), provenance={"benchmark": NAME},
        )  # fmt: skip

    def _context_of(self, name: str, seed: int) -> Context:
        plain = context(self._folder / "scratch" / digest_of(name)[:16], self._task, seed=seed)
        teacher = NetworkTeacher(self._teacher.module, self._teacher_digest, self._task, self._store)
        return replace(plain, teacher=teacher, key=digest_of([name, seed]), clock=self._clock)


def _global_magnitude(teacher: nn.Module, example: torch.Tensor) -> Callable[[float], nn.Module]:
    """torch-pruning's own pruner: global L2, rounded."""

    def cut_at(ratio: float) -> nn.Module:
        module = copy.deepcopy(teacher)
        pruner = tp.pruner.BasePruner(
            module, example, importance=tp.importance.GroupMagnitudeImportance(p=2), global_pruning=True,
            pruning_ratio=ratio, max_pruning_ratio=0.9, round_to=ROUND_TO, ignored_layers=[module.head],
        )  # fmt: skip
        pruner.step()
        return module.eval()

    return cut_at


def _kept(whole: nn.Module, groups: Groups, smaller: nn.Module) -> dict[str, tuple[int, ...]]:
    """Which units a cut left, told by the weights: those of torch-pruning's own pruner are named nowhere."""
    found = {}
    for group in groups:
        for member in group.members:
            before, after = whole.get_submodule(member.layer), smaller.get_submodule(member.layer)
            if isinstance(before, nn.BatchNorm2d) and isinstance(after, nn.BatchNorm2d):
                # Scale, shift and statistics together are as good as a name: they are the outputs' own.
                theirs, ours = (
                    torch.stack([norm.weight, norm.bias, *(value for value in norm.buffers() if value.ndim == 1)], 1)
                    for norm in (before, after)
                )
                found[group.name] = tuple((theirs == row).all(1).nonzero()[0].item() for row in ours)
                break
    return found


def _widths(module: nn.Module) -> dict[str, int]:
    return {name: layer.out_channels for name, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _paired(this: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> dict[str, float]:
    """The mean of this - other over examples, with its 95 % bootstrap interval."""
    values, counts = np.unique(this - other, return_counts=True)
    weights = counts.astype(np.float64)
    mean = float((values * weights).sum() / weights.sum())
    return _plain(over_examples(mean, lambda drawn: drawn @ values / drawn.sum(1), weights, len(this)))


def _plain(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def _write(file: Path, record: Mapping[str, Any]) -> None:
    draft = file.with_suffix(".draft")
    draft.write_text(json.dumps(record), encoding="utf-8")
    draft.replace(file)


def _read(file: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return record


def _text(estimate: Mapping[str, float], scale: float, form: str) -> str:
    value, low, high = (scale * estimate[name] for name in ("value", "low", "high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def markdown(body: Mapping[str, Any]) -> str:
    """The tables."""
    lines = [
        "| asked | way | parameters | predicted | measured share of the time | seeds | test, points against the "
        "teacher | latency-aware is better by |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    accuracy = {(one["method"], one["asked"]): one for one in body["accuracy"]}
    errors = []
    for one in body["cuts"]:
        found = accuracy.get((one["method"], one["asked"]))
        delta = "not recovered" if found is None else _text(found["delta"], 100, "+.2f")
        ours = "" if found is None or one["method"] == OURS else _text(found["ours_minus_this"], 100, "+.2f")
        errors.append(abs(one["predicted"] / one["measured"]["value"] - 1))
        cells = (
            f"{one['asked']:g}", one["method"], f"{one['parameters']:,}", f"{one['predicted']:.3f}",
            _text(one["measured"], 1, ".3f"), str(0 if found is None else len(found["seeds"])), delta, ours,
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    teacher, seeds = body["teacher"], body["seeds"]
    lines += [
        "",
        f"The teacher: {teacher['parameters']:,} parameters, {100 * teacher['test']:.2f} % on test. Means of "
        f"the seeds; intervals of accuracy are paired over the test images, differences also by seed, of time over "
        f"rounds and processes, all networks measured side by side. Each recovered for "
        f"{body['recipe']['epochs']} epochs with the teacher's answers. Predicted and measured time differ by "
        f"{100 * float(np.median(errors)):.1f} % (median), {100 * max(errors):.1f} % at most.",
        "",
        *_untrained(body),
        "| INT8 on top of the last latency-aware cut | kB | smaller | faster | test, points against the teacher |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for seed, one in zip(seeds, body["int8"], strict=True):
        lines.append(
            f"| seed {seed} | {one['bytes'] / 1000:.0f} | {one['size_ratio']:.1f}x | {_text(one['speedup'], 1, '.1f')} "
            f"| {_text(one['delta'], 100, '+.2f')} |"
        )
    return "\n".join(lines)


def _untrained(body: Mapping[str, Any]) -> list[str]:
    """What a cut is worth without any training."""
    if "untrained" not in body:
        return []
    lines = [
        "| asked | way | no training, statistics taken anew: points against the teacher | weights refitted "
        "(`reconstruct`) |",
        "| ---: | --- | ---: | ---: |",
    ]
    for one in body["untrained"]:
        deltas = (_text(one[what], 100, "+.2f") for what in ("statistics", "refitted"))
        lines.append(f"| {one['asked']:g} | {one['method']} | {' | '.join(deltas)} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
