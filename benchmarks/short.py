"""The pipelines that run on packages, with little data and one epoch of everything: whether they run, not how well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

PIPELINES = Path(__file__).parent.parent / "pipelines"
_BENCH = ("bench.min_seconds=0.1", "bench.min_count=60", "bench.processes=2", "bench.warmup_seconds=0.1")
_SCORES = ("task.text_regression.python=package_data.movies:few_scores", "stages.train.epochs=1", *_BENCH)
_PAIRS = ("task.cross_modal.python=package_data.emoji_pairs:few_pairs", *_BENCH)

SHORT: Mapping[str, tuple[str, ...]] = {
    "minilm_retrieval": (
        "task.text_embedding.pairs.python=package_data.retrieval:few_packages",
        "task.text_embedding.calibration=64",
        *(
            f"task.text_embedding.benchmarks.{name}.python=package_data.retrieval:few_{name}"
            for name in ("news", "reviews", "news_sentences", "review_sentences", "lee")
        ),
        "stages.distill.epochs=1",
        "stages.distill.student.from_teacher.vocabulary.trim.min_count=1",
        *_BENCH,
    ),
    "sentiment_teacher": _SCORES,
    "sentiment_regression": (*_SCORES, "stages.distill.epochs=1"),
    "emoji_teacher": (*_PAIRS, "stages.train.epochs=2"),
    "emoji_retrieval": (
        *_PAIRS,
        "stages[0].image.distill.epochs=2",
        "stages[0].image.distill.views=1",
        "stages[0].text.distill.epochs=1",
        "stages[0].text.distill.transfer_ratio=0.5",
        "stages[1].image.prune.recover.epochs=1",
        "stages[1].image.prune.recover.views=1",
        "stages[1].text.prune.recover.epochs=1",
        "stages[2].image.quantize.qat.epochs=1",
        "stages[2].image.quantize.qat.views=1",
    ),
}
"""By the pipeline's name, what `load_pipeline` is given beside its file."""
