"""A YAML file -> Pipeline; a Pipeline -> plain data that says the same; the JSON Schema of both."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from compresslab.config.document import PipelineDocument, folder_name
from compresslab.config.overrides import apply_overrides
from compresslab.config.tuning import KEY, chosen, find_choices, with_tune
from compresslab.errors import ConfigError, Problem
from compresslab.models.spec import TOWERS
from compresslab.settings import Settings
from compresslab.stages import Distill, EachTower, Quantize, Train, Tuned
from compresslab.stages.tuned import Variant, put
from compresslab.strict_yaml import Document, KeyPath, Plain, read
from compresslab.validation import validate

if TYPE_CHECKING:
    from pathlib import Path

    from compresslab.pipeline import Pipeline
    from compresslab.stage import Stage

_DECIDED = TypeAdapter(dict[str, list[dict[str, Any]]])
_PART = re.compile(r"\[(\d+)]|([^.\[\]]+)")


def load_pipeline(path: Path, overrides: Sequence[str] = ()) -> Pipeline:
    """Reads a pipeline file, or the pipeline in a run's lock.yaml with what that run decided by measuring.

    Args:
        path: The YAML file. Relative paths in it, and in overrides, start from its folder.
        overrides: `KEY=VALUE` each, as `stages.prune.ratio=0.4`; the value is YAML. See `overrides`.

    Raises:
        ConfigError: With every problem that was found, each with its line and key.
    """
    whole = read(path)
    document = _with_bare_stages(apply_overrides(_unlocked(whole), overrides))
    choices = find_choices(document)

    def checked(choice: dict[KeyPath, Plain]) -> PipelineDocument:
        return validate(chosen(document, choice), PipelineDocument, base=path.absolute().parent)

    firsts = [next(one.variants()) for one in choices]
    first = {key: value for one in firsts for key, value in one.items()}
    plain = checked(first)
    tuned = {
        one.stage: Tuned(
            tuple(_variant(checked({**first, **choice}).stages[one.stage].stage, choice) for choice in one.variants())
        )
        for one in choices
    }
    try:
        return replace(plain.pipeline(folder_name(path.stem), tuned), decided=_decided(whole))
    except ConfigError as error:
        raise ConfigError([_placed(problem, document) for problem in error.problems]) from None


def dump_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """The pipeline as plain data with every setting written out; as YAML, `load_pipeline` reads the same from it."""
    return {
        "name": pipeline.name,
        "task": _plain(pipeline.task),
        "model": _plain(pipeline.model),
        "teacher": _plain(pipeline.teacher),
        "stages": [_entry(stage) for stage in pipeline.stages],
        "references": [_entry(stage) for stage in pipeline.references],
        "bench": _plain(pipeline.bench),
        "budget": _plain(pipeline.budget),
        "select": pipeline.select,
        "seed": pipeline.seed,
        "device": pipeline.device,
    } | ({"freeze": list(pipeline.freeze)} if pipeline.freeze else {})


def pipeline_schema() -> dict[str, Any]:
    """The JSON Schema of a pipeline file, from which editors complete and check."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **with_tune(PipelineDocument.model_json_schema()),
        "title": "compresslab pipeline",
    }


def _unlocked(document: Document) -> Document:
    """The pipeline that a lock.yaml keeps beside what became of it."""
    data = document.data
    if not isinstance(data, dict) or "lock_version" not in data or "pipeline" not in data:
        return document
    return Document(
        data["pipeline"], {path[1:]: mark for path, mark in document.marks.items() if path[:1] == ("pipeline",)}
    )


def _decided(document: Document) -> dict[str, list[dict[str, Any]]]:
    """What the run of a lock.yaml decided by measuring; empty for a pipeline file.

    Raises:
        ConfigError: It is not what a run writes.
    """
    data = document.data
    found = data.get("decided") if isinstance(data, dict) and "lock_version" in data else None
    if found is None:
        return {}
    try:
        return _DECIDED.validate_python(found, strict=True)
    except ValidationError as error:
        mark = document.mark(("decided",))
        message = f"must be what a run wrote there ({error.errors()[0]['msg']}); leave it out to decide anew"
        raise ConfigError([Problem(mark.file, mark.line, "decided", message)]) from error


def _with_bare_stages(document: Document) -> Document:
    """`- quantize:` with nothing after it is the stage with its defaults, not a stage that is not there."""
    if not isinstance(document.data, dict):
        return document
    data = dict(document.data)
    for key in ("stages", "references"):
        entries = data.get(key)
        if isinstance(entries, list):
            data[key] = [_with_settings(entry) for entry in entries]
    return replace(document, data=data)


def _with_settings(entry: Plain) -> Plain:
    if isinstance(entry, dict) and set(entry) <= set(TOWERS):
        return {name: _with_settings(inside) for name, inside in entry.items()}
    if isinstance(entry, dict) and len(entry) == 1:
        return {kind: {} if settings is None else settings for kind, settings in entry.items()}
    return entry


def _placed(problem: Problem, document: Document) -> Problem:
    """A broken rule of order with the file and line of the stage that breaks it."""
    parts = [(index, name) for index, name in _PART.findall(problem.path)]
    path: KeyPath = tuple(int(index) if index else name for index, name in parts)
    mark = document.mark(path)
    return replace(problem, file=mark.file, line=mark.line)


def _variant(stage: Stage, choice: Iterable[KeyPath]) -> Variant:
    """The stage with the values that were chosen, as its checked settings have them: paths are absolute there."""
    assert isinstance(stage, Train | Distill | Quantize), "other stages are not tuned"
    settings = _plain(stage)
    return Variant({path[3:]: _at(settings, path[3:]) for path in choice}, stage)


def _at(settings: Any, path: KeyPath) -> Any:
    """One value of plain settings, which say nothing of a null that is the default."""
    for part in path[:-1]:
        settings = settings[part]
    last = path[-1]
    return settings.get(last) if isinstance(settings, dict) else settings[last]


def _entry(stage: Stage) -> dict[str, Any]:
    if isinstance(stage, EachTower):
        return {name: _entry(one) for name, one in stage.towers.items()}
    return {stage.kind: _plain_stage(stage)}


def _plain_stage(stage: Stage) -> Any:
    if not isinstance(stage, Tuned):
        return _plain(stage)
    settings = _plain(stage.first)
    for path in stage.variants[0].choice:
        put(settings, path, {KEY: stage.values(path)})
    return settings


def _plain(value: object) -> Any:
    """Settings as plain data; a key whose default is null and that is null says nothing and is left out."""
    if isinstance(value, Settings):
        fields = type(value).model_fields
        return {name: _plain(inside) for name, inside in value if not (inside is None and fields[name].default is None)}
    if isinstance(value, Mapping):
        return {key: _plain(inside) for key, inside in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(inside) for inside in value]
    return to_jsonable_python(value)
