"""YAML text -> plain data, and where each key stands. Nothing in a file is ever executed.

Read from PyYAML's event stream with the scalars of YAML 1.2, so that what surprises people in YAML 1.1 is gone: `on`,
`off`, `yes` and `no` are text, `1e-3` is a number, `1:30` and `2024-01-01` are text. Tags are refused, so no object
can be made; a key may not be given twice; aliases may not grow into more than `MAX_NODES` values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from compresslab.errors import ConfigError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

Plain: TypeAlias = "bool | int | float | str | list[Plain] | dict[str, Plain] | None"
KeyPath: TypeAlias = tuple[str | int, ...]

MAX_BYTES: Final = 1_000_000
MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 40
_EXCERPT: Final = 100

_INT = re.compile(r"[-+]?[0-9]{1,40}")
_BASED_INT = re.compile(r"0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,4})?")
_WORDS: Final[Mapping[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}


@dataclass(frozen=True)
class Mark:
    """Where something stands: a file (or an override, without a line), and line and column counted from 1."""

    file: str
    line: int | None
    column: int | None


@dataclass(frozen=True)
class Document:
    """Plain data, and the mark of every key and list item in it by its path; `()` is the whole."""

    data: Plain
    marks: Mapping[KeyPath, Mark]

    def mark(self, path: KeyPath) -> Mark:
        """Where `path` stands; for a key that is not there, the mapping that should have it."""
        while path not in self.marks:
            path = path[:-1]
        return self.marks[path]


def read(path: Path) -> Document:
    """Reads a file that holds one mapping.

    Raises:
        ConfigError: It is not there, is not text, or is not what `parse` accepts.
    """
    file = str(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError([Problem(file, None, "", f"cannot be read: {error.strerror}")]) from error
    if len(content) > MAX_BYTES:
        raise ConfigError([Problem(file, None, "", f"is larger than {MAX_BYTES:,} bytes; is it the right file?")])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([Problem(file, line, "", "is not UTF-8 text; save it as UTF-8")]) from error
    document = parse(text, file)
    if document.data is None:
        raise ConfigError([Problem(file, None, "", "is empty")])
    if not isinstance(document.data, dict):
        found = "a list" if isinstance(document.data, list) else f"only {document.data!r}"
        mark = document.marks[()]
        raise ConfigError([Problem(file, mark.line, "", f"must hold lines of `key: value`, but holds {found}")])
    return document


def parse(text: str, file: str) -> Document:
    """Reads one YAML document.

    Args:
        text: The YAML.
        file: What to call it in errors and marks.

    Raises:
        ConfigError: The text is not YAML, or has tags, a key twice, or too much in it. Syntax ends the reading; all
            else is told at once.
    """
    reader = _Reader(text, file)
    try:
        root = reader.document()
    except yaml.MarkedYAMLError as error:
        raise ConfigError([_syntax_problem(error, text, file)]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        message = f"the character {text[error.position]!r} is not allowed in YAML"
        raise ConfigError([Problem(file, line, "", message)]) from error
    except _TooMuchError as error:
        raise ConfigError([*reader.problems, error.problem]) from error
    if reader.problems:
        raise ConfigError(sorted(reader.problems, key=lambda problem: problem.line or 0))
    marks: dict[KeyPath, Mark] = {(): root.mark}
    return Document(_flatten(root, (), marks), marks)


@dataclass(frozen=True)
class _Node:
    """`size` counts the values below, each alias with all it stands for."""

    value: bool | int | float | str | list[_Node] | dict[str, tuple[Mark, _Node]] | None
    mark: Mark
    size: int = 1


class _TooMuchError(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass
class _Reader:
    """Builds nodes from the events of one text; collects what is wrong and reads on."""

    text: str
    file: str
    problems: list[Problem] = field(default_factory=list)
    anchors: dict[str, _Node] = field(default_factory=dict)

    def document(self) -> _Node:
        # BaseLoader resolves nothing: every scalar arrives as text, with its style, and is interpreted below.
        events = iter(yaml.parse(self.text, Loader=yaml.BaseLoader))
        root: _Node | None = None
        for event in events:
            if isinstance(event, DocumentStartEvent):
                if root is not None:
                    self._problem(event, "a second document begins here; a file holds one")
                    break
                root = self._node(next(events), events, ())
            elif isinstance(event, DocumentEndEvent):
                continue
        return root if root is not None else _Node(None, Mark(self.file, 1, 1))

    def _node(self, event: Event, events: Iterator[Event], path: KeyPath) -> _Node:
        if len(path) > MAX_DEPTH:
            raise _TooMuchError(self._told(event, f"is nested more than {MAX_DEPTH} levels deep"))
        if isinstance(event, AliasEvent):
            return self._alias(event)
        self._refuse_tag(event)
        if isinstance(event, ScalarEvent):
            node = _Node(_scalar(event.value) if event.style is None else event.value, self._mark(event))
        elif isinstance(event, SequenceStartEvent):
            node = self._sequence(event, events, path)
        else:
            assert isinstance(event, MappingStartEvent), f"no other event can begin a node: {event}"
            node = self._mapping(event, events, path)
        if node.size > MAX_NODES:
            raise _TooMuchError(self._told(event, f"grows to more than {MAX_NODES:,} values; use fewer aliases"))
        if event.anchor is not None:
            # Known only from here on, so an alias inside its own anchor is an unknown one and nothing is endless.
            self.anchors[event.anchor] = node
        return node

    def _alias(self, event: AliasEvent) -> _Node:
        known = self.anchors.get(event.anchor or "")
        if known is None:
            self._problem(event, f"the alias `*{event.anchor}` has no anchor `&{event.anchor}` before it")
            return _Node(None, self._mark(event))
        return known

    def _sequence(self, start: Event, events: Iterator[Event], path: KeyPath) -> _Node:
        items: list[_Node] = []
        while not isinstance(event := next(events), SequenceEndEvent):
            items.append(self._node(event, events, (*path, len(items))))
        return _Node(items, self._mark(start), 1 + sum(item.size for item in items))

    def _mapping(self, start: Event, events: Iterator[Event], path: KeyPath) -> _Node:
        entries: dict[str, tuple[Mark, _Node]] = {}
        merged: dict[str, tuple[Mark, _Node]] = {}
        while not isinstance(event := next(events), MappingEndEvent):
            mark = self._mark(event)
            if not isinstance(event, ScalarEvent):
                self._problem(event, "a key must be text, not a list, a mapping or an alias", path)
                self._node(event, events, path)
                self._node(next(events), events, path)
                continue
            self._refuse_tag(event)
            key = event.value
            value = self._node(next(events), events, (*path, key))
            if key == "<<" and event.style is None:
                merged.update(self._merge(value, mark, path))
            elif key in entries:
                first = entries[key][0].line
                self._problem(event, f"the key `{key}` is given twice, first in line {first}", path)
            else:
                entries[key] = (mark, value)
        entries = {**merged, **entries}
        return _Node(entries, self._mark(start), 1 + sum(value.size for _, value in entries.values()))

    def _merge(self, value: _Node, mark: Mark, path: KeyPath) -> dict[str, tuple[Mark, _Node]]:
        """The entries that `<<: *anchor` brings in; keys written out win over them."""
        if not isinstance(value.value, dict):
            message = "`<<` takes one alias of a mapping"
            self.problems.append(Problem(self.file, mark.line, dotted(path), message))
            return {}
        return value.value

    def _refuse_tag(self, event: ScalarEvent | SequenceStartEvent | MappingStartEvent | Event) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._problem(event, f"the tag `{shown}` is not allowed: a file is plain data and runs nothing; remove it")

    def _problem(self, event: Event, message: str, path: KeyPath = ()) -> None:
        self.problems.append(self._told(event, message, path))

    def _told(self, event: Event, message: str, path: KeyPath = ()) -> Problem:
        return Problem(self.file, self._mark(event).line, dotted(path), message)

    def _mark(self, event: Event) -> Mark:
        start = event.start_mark
        return Mark(self.file, start.line + 1, start.column + 1) if start else Mark(self.file, None, None)


def dotted(path: KeyPath) -> str:
    """`("stages", 1, "prune")` -> `stages[1].prune`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _scalar(text: str) -> bool | int | float | str | None:
    """A plain scalar by the core schema of YAML 1.2."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED_INT.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def _flatten(node: _Node, path: KeyPath, marks: dict[KeyPath, Mark]) -> Plain:
    """Plain data in fresh containers, also below aliases, so that editing one place edits no other."""
    if isinstance(node.value, dict):
        mapping: dict[str, Plain] = {}
        for key, (mark, value) in node.value.items():
            marks[*path, key] = mark
            mapping[key] = _flatten(value, (*path, key), marks)
        return mapping
    if isinstance(node.value, list):
        items: list[Plain] = []
        for index, value in enumerate(node.value):
            marks[*path, index] = value.mark
            items.append(_flatten(value, (*path, index), marks))
        return items
    return node.value


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, file: str) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = " ".join(part for part in (error.context, error.problem) if part)
    if "'\\t'" in said:
        said += "; indent with spaces, not tabs"
    if mark is None:
        return Problem(file, None, "", f"not valid YAML: {said}")
    lines = text.splitlines() or [""]
    # Where the text ends too early, the mark is after the last line.
    shown = min(mark.line, len(lines) - 1)
    column = mark.column if shown == mark.line else len(lines[shown])
    start = max(0, column - _EXCERPT // 2)
    excerpt = lines[shown][start : start + _EXCERPT].replace("\t", " ")
    number = str(shown + 1)
    pointer = f"\n  {number} | {excerpt}\n  {' ' * len(number)} | {' ' * (column - start)}^"
    return Problem(file, shown + 1, "", f"not valid YAML, column {column + 1}: {said}{pointer}")
