"""The student that a stage trains: built, or made of the teacher by the task's own samples."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from compresslab.candidate import TorchModel
from compresslab.errors import ModelError
from compresslab.measure.text_preprocessing import TOKENIZER, TextPreprocessing
from compresslab.models.builder import StaticBuilder, construct_again
from compresslab.students.derive import EXAMPLES, Corpus, Derived, derive, derive_static, require_static, unspelt
from compresslab.students.seeing import Examples, at_rest
from compresslab.students.vocabulary import trim
from compresslab.tasks.reading import reading_as
from compresslab.teacher.network import NetworkTeacher

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compresslab.students.settings import Static
    from compresslab.students.spec import StudentSpec
    from compresslab.tasks import Task
    from compresslab.teacher import Teacher

_BATCH = 64
_REHEARSED = 32


def make_student(spec: StudentSpec, teacher: Teacher | None, task: Task, seed: int, folder: Path) -> Derived:
    """The network before the training, reading as the task says unless its tokenizer is its own.

    Args:
        spec: What the pipeline says.
        teacher: Of which it may be made; it must be one network then.
        task: Whose `train` and `transfer` samples are looked at.
        seed: Of new weights.
        folder: Where a tokenizer of its own is written.

    Raises:
        ModelError: The student cannot be built, or not be made of this teacher.
    """
    if not spec.derived:
        return Derived(reading_as(spec.build(task.signature, seed), task))
    whole, seen = _teacher(teacher)
    corpus = _samples(seen)
    made = _made(spec, whole, corpus)
    if made.corpus is None:
        own = None if seen.preprocessing == task.preprocessing else seen.preprocessing
        return replace(made, model=replace(made.model, preprocessing=own))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / TOKENIZER).write_text(made.corpus.tokenizer, encoding="utf-8")
    how = seen.preprocessing
    assert how.kind == "text", "only texts have a vocabulary"
    own = TextPreprocessing.of(
        folder / TOKENIZER, pad_id=made.corpus.pad_id, max_length=how.max_length, truncate=how.truncate
    )
    told = tuple(_unspelt(corpus, made.corpus, task))
    return replace(made, model=replace(made.model, preprocessing=own), notes=(*made.notes, *told))


def _unspelt(teacher: Corpus | Examples, student: Corpus, task: Task) -> Iterator[str]:
    """Of held-out texts, which the vocabulary was not trimmed by."""
    assert isinstance(teacher, Corpus), "only texts have a vocabulary"
    for name in ("validation", "test"):
        texts = [str(text) for text in task.splits[name].inputs]
        lost = unspelt(*(replace(reads, parts=(texts,), known=()) for reads in (teacher, student)))
        if lost:
            yield (
                f"{lost:,} of {len(texts):,} {name} texts have parts that the trimmed vocabulary cannot spell and the "
                "teacher's can; add texts of their kind to the training or as `transfer`"
            )


def rehearse_student(spec: StudentSpec, teacher: Teacher | None, task: Task) -> TorchModel:
    """A student like that of `make_student`, made in seconds: of a few samples, by the teacher's own tokenizer.

    Raises:
        ModelError: As `make_student`.
    """
    if spec.static is not None and not task.any_width:
        raise ModelError(
            "`static` makes embeddings, and the task asks for none; give `from_teacher` or another network"
        )
    whole, seen = _teacher(teacher)
    corpus = _samples(seen, _REHEARSED)
    asked = spec.from_teacher or spec.static
    assert asked is not None, "it is made of the teacher"
    if asked.vocabulary is not None and isinstance(corpus, Corpus):
        trim(corpus.tokenizer, np.zeros(0, np.int64), 1)
    untrimmed = asked.model_copy(update={"vocabulary": None})
    name = "from_teacher" if spec.from_teacher is not None else "static"
    if spec.static is not None and isinstance(corpus, Corpus):
        made = _unfilled(spec.static, whole, seen, corpus)
    else:
        made = _made(spec.model_copy(update={name: untrimmed}), whole, corpus).model
    own = None if seen.preprocessing == task.preprocessing else seen.preprocessing
    return replace(made, preprocessing=own)


def _unfilled(asked: Static, whole: TorchModel, task: Task, corpus: Corpus) -> TorchModel:
    """A table of the right size: a forward pass for each token takes long."""
    with at_rest(whole.module):
        width = whole.module(corpus.examples().batches[0][:2]).shape[1]
    if asked.width is not None:
        texts = _samples(task)
        assert isinstance(texts, Corpus), "as the few of them are"
        require_static(asked, width, texts)
    builder = StaticBuilder(tokens=corpus.vocabulary, width=asked.width or width, pad_id=corpus.pad_id)
    return TorchModel(construct_again(builder, ()), builder.plain())


def _made(spec: StudentSpec, whole: TorchModel, corpus: Corpus | Examples) -> Derived:
    assert whole.builder is not None, "checked before"
    if spec.static is not None:
        if not isinstance(corpus, Corpus):
            raise ModelError("`static` is a table of tokens, and this task's samples are no texts; leave it out")
        return derive_static(whole, spec.static, corpus)
    assert spec.from_teacher is not None, "it is made of the teacher"
    # The pipeline itself has named the function that built the teacher.
    trusted = (str(whole.builder["function"]),) if whole.builder["kind"] == "python" else ()
    return derive(whole, spec.from_teacher, corpus, trusted)


def _teacher(teacher: Teacher | None) -> tuple[TorchModel, Task]:
    """The teacher's network on the CPU, and the task as it reads it."""
    if not isinstance(teacher, NetworkTeacher) or teacher.builder is None:
        what = "there is no teacher" if teacher is None else "the teacher is not one network"
        raise ModelError(
            f"the student is made of the teacher's weights, but {what}; give a trained network as `model` or `teacher`"
        )
    return TorchModel(copy.deepcopy(teacher.module).cpu(), teacher.builder), teacher.task


def _samples(task: Task, most: int | None = None) -> Corpus | Examples:
    how = task.preprocessing
    if how.kind == "text":
        splits = [task.splits[name] for name in ("train", "transfer") if name in task.splits]
        texts = [split.inputs if most is None else split.inputs[:most] for split in splits]
        known = () if most is not None else [task.ids(split.name) for split in splits]
        vocabulary = how.file.read_text(encoding="utf-8")
        return Corpus(texts, vocabulary, how.pad_id, how.max_length, known)  # type: ignore[arg-type]  # texts are read
    count = len(task.splits["train"].inputs)
    rows = np.linspace(0, count - 1, min(count, most or EXAMPLES)).astype(np.int64)
    parts = [rows[at : at + _BATCH] for at in range(0, len(rows), _BATCH)]
    return Examples(tuple(torch.from_numpy(task.batch("train", part, None)) for part in parts))
