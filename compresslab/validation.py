"""Plain data -> Settings, with everything that is wrong told at once, in words of our own and with its line.

pydantic finds the mistakes; the JSON Schema of the same model says what would have been right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from pydantic import ValidationError

from compresslab.errors import ConfigError, Problem, did_you_mean
from compresslab.settings import Settings
from compresslab.strict_yaml import Document, KeyPath, Plain, dotted

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_core import ErrorDetails

Schema: TypeAlias = Mapping[str, Any]
S = TypeVar("S", bound=Settings)

_RANGE: Final = frozenset({"greater_than", "greater_than_equal", "less_than", "less_than_equal"})
_BOUNDS: Final = ("exclusiveMinimum", "minimum", "exclusiveMaximum", "maximum")
_TYPES: Final = {int: "integer", float: "number"}
_LENGTH: Final = frozenset({"too_short", "too_long"})
_WORDS_FOR_BOOLEANS: Final = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_SHOWN_KEYS: Final = 20
_SHOWN_SAMPLES: Final = 5
_SHOWN_TEXT: Final = 60


def validate(document: Document, model: type[S], *, base: Path | None = None) -> S:
    """Checks plain data against a Settings class and builds it.

    Args:
        document: The data, and where each key stands.
        model: What it should be.
        base: The folder that relative paths in the data start from; the working directory if not given.

    Raises:
        ConfigError: Every problem there is, sorted by line.
    """
    context = None if base is None else {"base": base}
    try:
        # As JSON, in which strict pydantic takes a list for a tuple and a whole number for a float, and nothing else.
        return model.model_validate_json(json.dumps(document.data), context=context)
    except ValidationError as error:
        teller = _Teller(document, model.model_json_schema())
        problems = teller.problems(error.errors(include_url=False))
        raise ConfigError(sorted(problems, key=lambda problem: (problem.line is None, problem.line or 0))) from None


class _Teller:
    def __init__(self, document: Document, schema: Schema) -> None:
        self.document = document
        self.root = schema

    def problems(self, errors: Sequence[ErrorDetails]) -> Iterator[Problem]:
        """One problem a place: a value that fits no branch of a union is one mistake, not one a branch."""
        places: dict[KeyPath, list[ErrorDetails]] = {}
        for error in errors:
            places.setdefault(self._place(error), []).append(error)
        for path, found in places.items():
            if not self._is_outdone(path, found, places):
                yield self._problem(path, found)

    def _place(self, error: ErrorDetails) -> KeyPath:
        """The path of an error in the data; pydantic's own has the branches of unions in it."""
        path: KeyPath = ()
        here = self.document.data
        for part in error["loc"]:
            if isinstance(here, dict) and part in here:
                here = here[str(part)]
            elif isinstance(here, list) and isinstance(part, int) and part < len(here):
                here = here[part]
            else:
                continue
            path = (*path, part)
        return (*path, error["loc"][-1]) if error["type"] == "missing" else path

    @staticmethod
    def _is_outdone(path: KeyPath, found: Sequence[ErrorDetails], places: Mapping[KeyPath, object]) -> bool:
        """Whether something inside is wrong, so that what is said of the whole is not to the point.

        That is the branch of a union which only wants another type, and a list called too short because pydantic
        counts its valid items.
        """
        below = any(len(other) > len(path) and other[: len(path)] == path for other in places)
        return below and all(_is_of_another_type(error) or error["type"] in _LENGTH for error in found)

    def _problem(self, path: KeyPath, found: Sequence[ErrorDetails]) -> Problem:
        error = next((error for error in found if error["type"] in _RANGE | _LENGTH), found[0])
        kind = error["type"]
        parent, label = _split(path)
        if kind == "missing":
            mark, message = self.document.mark(path[:-1]), self._missing(path)
        elif kind == "extra_forbidden":
            mark, message = self.document.mark(path), self._unknown_key(path)
            parent = path[:-1]
        else:
            mark = self.document.mark(path)
            if kind in ("value_error", "assertion_error"):
                parent, message = path, str(error.get("ctx", {}).get("error", error["msg"]))
            else:
                message = self._wrong_value(path, label, error)
        return Problem(mark.file, mark.line, dotted(parent), message)

    def _missing(self, path: KeyPath) -> str:
        _, label = _split(path)
        says = " ".join(str(self._schema(path).get("description", "")).split()).partition(". ")[0].removesuffix(".")
        if says[1:2].islower():
            says = says[0].lower() + says[1:]
        return f"`{label}` is required" + (f": {says}" if says else "")

    def _unknown_key(self, path: KeyPath) -> str:
        key = str(path[-1])
        mapping = self._schema(path[:-1])
        noun = "stage" if mapping.get("title") == "StageEntry" else "key"
        known = self._properties(mapping)
        hint = did_you_mean(key, list(known))
        if not hint:
            hint = next(
                (f"; did you mean `{name}.{key}`?" for name in known if key in self._properties(known[name])),
                f"; allowed {'is' if len(known) == 1 else 'are'} {_names(known)}",
            )
        return f"unknown {noun} `{key}`{hint}"

    def _wrong_value(self, path: KeyPath, label: str, error: ErrorDetails) -> str:
        value = _at(self.document.data, path)
        schema = self._schema(path)
        kind = error["type"]
        name = f"`{label}`" if label else "this"
        if kind in _RANGE:
            bounded = [branch for branch in self._branches(schema) if any(bound in branch for bound in _BOUNDS)]
            fitting = [branch for branch in bounded if branch.get("type") == _TYPES.get(type(value))]
            [limits, *_] = fitting or bounded or [schema]
            return f"`{_interval(label, limits)}` must hold, but got {_shown(value)}"
        if kind in _LENGTH and isinstance(value, list):
            context = error.get("ctx", {})
            count = context["min_length" if kind == "too_short" else "max_length"]
            bound = f"at {'least' if kind == 'too_short' else 'most'} {count}"
            return f"{name} must have {bound} {'entry' if count == 1 else 'entries'}, but has {len(value)}"
        if kind == "finite_number":
            return f"{name} must be a finite number, but got {_shown(value)}"
        if _is_of_another_type(error):
            return f"{name} must be {self._expected(schema)}, but got {_shown(value)}{self._hint(schema, value)}"
        said = re.sub(r"^\w+ should", f"{name} must", error["msg"])
        return f"{said if said.startswith(name) else f'{name}: {said}'}, but got {_shown(value)}"

    def _hint(self, schema: Schema, value: Plain) -> str:
        branches = self._branches(schema)
        types = {branch.get("type") for branch in branches}
        if isinstance(value, float) and value.is_integer() and "integer" in types:
            return f"; write `{value:.0f}`"
        if not isinstance(value, str):
            return ""
        if "boolean" in types and value.lower() in _WORDS_FOR_BOOLEANS:
            return f"; write `{_WORDS_FOR_BOOLEANS[value.lower()]}`"
        if types & {"integer", "number"} and value.replace("_", "").replace(".", "", 1).isdigit():
            return f"; write `{value.replace('_', '')}`, without quotes or underscores"
        if any(value in self._properties(branch) for branch in branches):
            return f"; write `{value}: {{}}`"
        allowed = [str(choice) for branch in branches for choice in _choices(branch)]
        return did_you_mean(value, allowed)

    def _expected(self, schema: Schema) -> str:
        words: dict[str, None] = {}
        for branch in self._branches(schema):
            words.update(dict.fromkeys(self._words(branch)))
        *most, last = words or ["another value"]
        return f"{', '.join(most)} or {last}" if most else last

    def _words(self, branch: Schema) -> list[str]:
        choices = _choices(branch)
        if choices:
            return [f"`{_shown_choice(choice)}`" for choice in choices]
        match branch.get("type"):
            case "integer":
                return ["a whole number"]
            case "number":
                return ["a number"]
            case "string":
                examples = branch.get("examples", ())
                return [f"text such as `{examples[0]}`" if examples else "text"]
            case "boolean":
                return ["`true`", "`false`"]
            case "null":
                return ["`null`"]
            case "array":
                items = self._branches(branch.get("items", {}))
                plurals = {"integer": "whole numbers", "number": "numbers", "string": "texts", "object": "mappings"}
                of = [plurals[item["type"]] for item in items if item.get("type") in plurals]
                return [f"a list of {' or '.join(of)}" if of else "a list"]
            case "object":
                known = self._properties(branch)
                return [f"a mapping with {_names(known, _SHOWN_SAMPLES)}" if known else "a mapping"]
        return []

    # -- the schema ----------------------------------------------------------------------------------------------------

    def _schema(self, path: KeyPath) -> Schema:
        """What is said about a path; {} where nothing is."""
        schema = self.root
        for part in path:
            schema = self._below(schema, part)
        return schema

    def _below(self, schema: Schema, part: str | int) -> Schema:
        for branch in self._branches(schema):
            if isinstance(part, str) and part in branch.get("properties", {}):
                return self._resolved(branch["properties"][part])
            inside = branch.get("items" if isinstance(part, int) else "additionalProperties")
            if isinstance(inside, Mapping):
                return self._resolved(inside)
        return {}

    def _branches(self, schema: Schema) -> list[Schema]:
        """The alternatives of a union; the schema itself where it is none."""
        resolved = self._resolved(schema)
        alternatives = resolved.get("anyOf") or resolved.get("oneOf")
        if not alternatives:
            return [resolved]
        return [branch for alternative in alternatives for branch in self._branches(alternative)]

    def _resolved(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            target = self.root["$defs"][schema["$ref"].rpartition("/")[2]]
            # What stands beside the reference, such as the field's own description, wins.
            schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return schema

    def _properties(self, schema: Schema) -> dict[str, Schema]:
        return {name: one for branch in self._branches(schema) for name, one in branch.get("properties", {}).items()}


def _is_of_another_type(error: ErrorDetails) -> bool:
    return error["type"].endswith("_type") or error["type"] in ("literal_error", "enum", "int_from_float")


def _split(path: KeyPath) -> tuple[KeyPath, str]:
    """The mapping that holds a place, and the place's name in it: `("a", "widths", 1)` -> `("a",)`, `widths[1]`."""
    last_key = max((index for index, part in enumerate(path) if isinstance(part, str)), default=0)
    return path[:last_key], dotted(path[last_key:])


def _at(data: Plain, path: KeyPath) -> Plain:
    for part in path:
        data = data[part]  # type: ignore[index]
    return data


def _interval(name: str, schema: Schema) -> str:
    """`0 < ratio < 1` from the bounds of a schema."""
    low = high = ""
    if "exclusiveMinimum" in schema:
        low = f"{_number(schema['exclusiveMinimum'])} < "
    elif "minimum" in schema:
        low = f"{_number(schema['minimum'])} <= "
    if "exclusiveMaximum" in schema:
        high = f" < {_number(schema['exclusiveMaximum'])}"
    elif "maximum" in schema:
        high = f" <= {_number(schema['maximum'])}"
    if low and not high:
        # One bound reads better from the name on.
        return f"{name} {'>' if low.endswith(' < ') else '>='} {low.split()[0]}"
    return f"{low}{name}{high}"


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _choices(branch: Schema) -> list[Any]:
    return [branch["const"]] if "const" in branch else list(branch.get("enum", ()))


def _shown_choice(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shown(value: Plain) -> str:
    if isinstance(value, str):
        return f"{value if len(value) <= _SHOWN_TEXT else value[:_SHOWN_TEXT] + '...'!r} (text)"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    if isinstance(value, dict):
        return "a mapping" if value else "an empty mapping"
    return json.dumps(value)


def _names(names: Iterable[str], most: int = _SHOWN_KEYS) -> str:
    """`a`, `b` and `c`; of many names the first `most`."""
    quoted = [f"`{name}`" for name in names]
    if len(quoted) > most:
        return f"{', '.join(quoted[:most])}, ..."
    return " and ".join(filter(None, [", ".join(quoted[:-1]), quoted[-1]]))
