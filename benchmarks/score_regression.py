"""A network learns people's scores of film reviews from a teacher that is no network: arrays of predictions teach.

python -m benchmarks.score_regression            five seeds
python -m benchmarks.score_regression --quick    one seed
python -m benchmarks.score_regression --table    the table of the last full run

The teacher is the mean of gradient-boosted trees and ridge regression, by scikit-learn, on words and parts of words;
the student is a small network on hashed words alone, in INT8 at the end. On its own training lines the teacher answers
from folds that left them out, since what it remembers of them would teach nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import FeatureUnion

from benchmarks.document import load, options, publish
from benchmarks.movie_lines import movie_lines
from compresslab import BenchSettings, Distill, Mlp, ModelSpec, Pipeline, Quantize, Regression, Report, TaskSpec, run
from compresslab.report import Point
from compresslab.teacher import TeacherSpec

NAME = "score_regression"
FEATURES = 4096
SEEDS = (0, 1, 2, 3, 4)
METRIC = "movie_lines/pearson"
_SPLIT, _FOLDS = 7, 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the teacher once and the students for each seed, prints the table, publishes the document."""
    asked = options(__doc__, arguments)
    if asked.table:
        print(markdown(load(NAME)))
        return
    begun = time.perf_counter()
    folder = Path("runs") / NAME
    data, predictions, teacher = _prepared(folder)
    seeds = SEEDS[:1] if asked.quick else SEEDS
    reports = [_run(seed, data, predictions, folder) for seed in seeds]
    body = {"seeds": list(seeds), "features": FEATURES, "teacher": teacher, "runs": [_rows(one) for one in reports]}
    print(markdown(body))
    publish(NAME, time.perf_counter() - begun, body, quick=asked.quick)


def _prepared(folder: Path) -> tuple[Path, Path, dict[str, float]]:
    """The data, the teacher's predictions of all of it, and the teacher's own correlations."""
    texts, scores = movie_lines(folder / "data")
    order = np.random.default_rng(_SPLIT).permutation(len(texts))
    test, validation, train = np.split(order, [2000, 3000])
    parts = {"train": train, "validation": validation, "test": test}
    hashed = HashingVectorizer(n_features=FEATURES, norm="l2")
    features = csr_matrix(hashed.transform(texts)).toarray().astype(np.float32)
    data = folder / "movie_lines.npz"
    arrays = {"features": features[train], "targets": scores[train]}
    for name in ("validation", "test"):
        arrays |= {f"{name}_features": features[parts[name]], f"{name}_targets": scores[parts[name]]}
    np.savez(data, allow_pickle=False, **arrays)

    chosen = np.array(texts, dtype=object)
    predicted = {"train": np.empty(len(train), np.float32)}
    for kept, left_out in KFold(_FOLDS, shuffle=True, random_state=_SPLIT).split(train):
        (predicted["train"][left_out],) = _taught(chosen[train[kept]], scores[train[kept]], chosen[train[left_out]])
    rest = _taught(chosen[train], scores[train], chosen[validation], chosen[test])
    predicted |= dict(zip(("validation", "test"), rest, strict=True))
    predictions = folder / "teacher.npz"
    np.savez(predictions, allow_pickle=False, **predicted)
    quality = {name: float(stats.pearsonr(predicted[name], scores[rows])[0]) for name, rows in parts.items()}
    return data, predictions, quality


def _taught(texts: np.ndarray, scores: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Predictions for other texts of a teacher that learns from these."""
    words = FeatureUnion(
        [
            ("words", TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2)),
            ("parts", TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True, min_df=5)),
        ]
    )
    sparse = words.fit_transform(texts)
    narrow = TruncatedSVD(200, random_state=_SPLIT)
    trees = HistGradientBoostingRegressor(max_iter=200, learning_rate=0.05, random_state=_SPLIT)
    trees.fit(narrow.fit_transform(sparse), scores)
    ridge = Ridge(alpha=3.0).fit(sparse, scores)
    found = []
    for other in others:
        seen = words.transform(other)
        found.append(((trees.predict(narrow.transform(seen)) + ridge.predict(seen)) / 2).astype(np.float32))
    return found


def _run(seed: int, data: Path, predictions: Path, folder: Path) -> Report:
    pipeline = Pipeline(
        name=f"seed{seed}",
        task=TaskSpec(
            regression=Regression(
                npz=str(data), name="movie_lines", target_name="score", metric="pearson", standardise=False
            )
        ),
        model=ModelSpec(mlp=Mlp(widths=(64,))),
        teacher=TeacherSpec(predictions=str(predictions)),
        stages=(
            Distill(
                student=ModelSpec(mlp=Mlp(widths=(32, 16), dropout=0.3)), control=True, epochs=30, batch=64,
                optimizer="adamw", learning_rate=0.003, weight_decay=0.05, precision="fp32",
                kd_weight=0.7, task_weight=0.3,
            ),
            Quantize(mode="ptq"),
        ),
        bench=BenchSettings(processes=3, min_seconds=0.2),
        seed=seed,
    )  # fmt: skip
    return run(pipeline, folder / f"seed{seed}", store=folder / ".store")


def _rows(report: Report) -> dict[str, dict[str, Any]]:
    return {_name(point): _row(point) for point in report.points[1:]}


def _name(point: Point) -> str:
    return "control" if point.decisions.get("control") else point.stage


def _row(point: Point) -> dict[str, Any]:
    measured = point.measurement
    retained, control = measured.retention[METRIC], measured.versus_control
    return {
        "bytes": point.artifact.bytes,
        "test": measured.quality["test"][METRIC].value,
        "retention": [retained.value, retained.low, retained.high],
        "versus_control": None if control is None else [control.value, control.low, control.high],
    }


_NAMES = {
    "control": "control: the same student without the teacher",
    "distill": "student",
    "quantize": "student, INT8",
}


def markdown(body: Mapping[str, Any]) -> str:
    """The table."""
    teacher = body["teacher"]
    lines = [
        "| model | kB | Pearson, test | of the teacher's [95 %] | against its control [95 %] |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| teacher: trees and ridge regression | | {teacher['test']:.3f} | | |",
    ]
    runs: Sequence[Mapping[str, Any]] = body["runs"]
    for stage, name in _NAMES.items():
        rows = [one[stage] for one in runs]
        gains = [row["versus_control"] for row in rows]
        first = gains[0]
        gain = (
            "" if first is None else f"{np.mean([one[0] for one in gains]):+.3f} {_across([one[0] for one in gains])}"
        )
        retention = np.mean([row["retention"] for row in rows], axis=0)
        lines.append(
            f"| {name} | {np.mean([row['bytes'] for row in rows]) / 1000:.0f} | "
            f"{np.mean([row['test'] for row in rows]):.3f} | "
            f"{100 * retention[0]:.1f} % [{100 * retention[1]:.1f}, {100 * retention[2]:.1f}] | {gain} |"
        )
    lines += [
        "",
        f"Means of {len(runs)} seeds. Retention's interval is over the test lines, the mean of the seeds'; that of the "
        f"gain is Student's over the seeds. Student: {body['features']} hashed words, 32 and 16 "
        "hidden.",
    ]
    return "\n".join(lines)


def _across(values: Sequence[float]) -> str:
    if len(values) < 2:
        return ""
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    return f"[{low:+.3f}, {high:+.3f}]"


if __name__ == "__main__":
    main()
