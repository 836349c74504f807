"""`{tune: [...]}` in place of a stage's setting: one document for each choice, every one checked like any other."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from compresslab.errors import ConfigError, Problem
from compresslab.strict_yaml import Document, KeyPath, Plain, dotted

KEY = "tune"
MAX_VARIANTS = 32
"""How many variants a stage may have; each trains for a quarter of the epochs at least, or is measured."""
_TUNABLE = ("train", "distill", "quantize")
# What follows is handed to the user's own function as it is.
_OPAQUE = "arguments"
# A variant that trains for longer would win for that alone.
_FIXED = "epochs"


@dataclass(frozen=True)
class Choices:
    """The tuned settings of one stage: each one's path in the document, and its values."""

    stage: int
    values: dict[KeyPath, list[Plain]]

    def variants(self) -> Iterator[dict[KeyPath, Plain]]:
        """Every combination, the first values first."""
        for combination in product(*self.values.values()):
            yield dict(zip(self.values, combination, strict=True))


def find_choices(document: Document) -> tuple[Choices, ...]:
    """What a pipeline file leaves to be chosen, by stage.

    Raises:
        ConfigError: There is a `tune` that is no list of two values or more, in a stage that cannot be tuned, or with
            more combinations than are allowed.
    """
    data = document.data
    if not isinstance(data, dict):
        return ()
    problems: list[Problem] = []

    def tell(path: KeyPath, message: str) -> None:
        mark = document.mark(path)
        problems.append(Problem(mark.file, mark.line, dotted(path), message))

    found: dict[int, dict[KeyPath, list[Plain]]] = {}
    for key, value in data.items():
        for path, values in _marked((key,), value):
            if len(path) < 4 or path[0] != "stages" or not isinstance(path[1], int):
                tell(path, "`tune` chooses settings of stages; give one value here")
            elif path[2] not in _TUNABLE:
                *others, last = (f"`{kind}`" for kind in _TUNABLE)
                tell(path, f"`tune` is for settings of {', '.join(others)} and {last}; give one value here")
            elif not isinstance(values, list) or len(values) < 2:
                tell(path, "`tune` needs a list of two values or more to choose from, such as `{tune: [1, 2, 4, 8]}`")
            elif any(value in values[:place] for place, value in enumerate(values)):
                tell(path, "`tune` lists a value twice; each is tried once")
            elif path[3] == _FIXED:
                tell(path, f"all variants train for the same `{_FIXED}`, or the longest would win; give one value here")
            else:
                found.setdefault(path[1], {})[path] = values
    for stage, choices in found.items():
        count = math.prod(len(values) for values in choices.values())
        if count > MAX_VARIANTS:
            tell(("stages", stage), f"`tune` makes {count} combinations; at most {MAX_VARIANTS} are tried")
    if problems:
        raise ConfigError(problems)
    # In the order of their names, so that a lock file, which lists all settings, means the same variants.
    return tuple(
        Choices(stage, dict(sorted(values.items(), key=lambda one: dotted(one[0]))))
        for stage, values in sorted(found.items())
    )


def chosen(document: Document, choice: dict[KeyPath, Plain]) -> Document:
    """The document with values in place of `tune`; they stand where the `tune` stood."""
    data: Any = copy.deepcopy(document.data)
    for path, value in choice.items():
        here = data
        for part in path[:-1]:
            here = here[part]
        here[path[-1]] = value
    return Document(data, document.marks)


def _marked(path: KeyPath, value: Plain) -> Iterator[tuple[KeyPath, Plain]]:
    if isinstance(value, dict):
        if set(value) == {KEY}:
            yield path, value[KEY]
            return
        for key, inside in value.items():
            if key != _OPAQUE:
                yield from _marked((*path, key), inside)
    elif isinstance(value, list):
        for index, inside in enumerate(value):
            yield from _marked((*path, index), inside)


def with_tune(schema: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a pipeline file in which settings of a stage may also be a `tune`, where the loader takes one.

    What a stage shares with other places, such as the description of a network, is there a second time for it.
    """
    definitions = schema["$defs"]
    copies: dict[str, Any] = {}

    def copied(reference: str) -> str:
        name = reference.rpartition("/")[2]
        copy = f"Tunable{name}"
        if copy not in copies:
            copies[copy] = {}  # what refers to itself finds its copy begun
            copies[copy] = inside(definitions[name])
        return f"#/$defs/{copy}"

    def inside(node: dict[str, Any]) -> dict[str, Any]:
        return {key: part(key, value) for key, value in node.items()}

    def part(key: str, value: Any) -> Any:
        match key:
            case "$ref":
                return copied(value)
            case "anyOf" | "oneOf" | "allOf":
                return [inside(one) for one in value]
            case "properties":
                return {name: one if name in (_OPAQUE, _FIXED) else tunable(one) for name, one in value.items()}
            case "items":
                return tunable(value)
        return value

    def tunable(value: dict[str, Any]) -> dict[str, Any]:
        tune = {
            "type": "object", "description": "Chosen on validation.",
            "properties": {KEY: {"type": "array", "items": value, "minItems": 2, "uniqueItems": True}},
            "required": [KEY], "additionalProperties": False,
        }  # fmt: skip
        told: dict[str, Any] = {key: value[key] for key in ("description", "default") if key in value}
        return {**told, "anyOf": [inside(value), tune]}

    entry = definitions["StageEntry"]
    properties = {
        kind: {**one, "anyOf": [inside(branch) for branch in one["anyOf"]]} if kind in _TUNABLE else one
        for kind, one in entry["properties"].items()
    }
    stages = {**schema["properties"]["stages"], "items": {"$ref": "#/$defs/TunableStageEntry"}}
    return {
        **schema,
        "properties": {**schema["properties"], "stages": stages},
        "$defs": {**definitions, **copies, "TunableStageEntry": {**entry, "properties": properties}},
    }
