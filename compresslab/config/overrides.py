"""`--set KEY=VALUE`: one key of a pipeline file replaced or added, before the same checks as the file.

A key is written with dots: `seed=3`, `bench.processes=5`, `model.residual.widths[0]=16`. A stage is named by its kind,
`stages.prune.ratio=0.4`, or where that is not unique by its index, `stages[1].ratio=0.4`.
"""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compresslab.errors import ConfigError, Problem, did_you_mean
from compresslab.strict_yaml import Document, KeyPath, Mark, Plain, dotted, parse

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = re.compile(r"[^.\[\]]+(\[\d+]|\.[^.\[\]]+)*")
_PART = re.compile(r"[^.\[\]]+")
_STAGE_LISTS = ("stages", "references")


def apply_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """The document with the overrides in it, in their order; what they set is marked as theirs.

    Args:
        document: A mapping.
        overrides: `KEY=VALUE` each; the value is YAML.

    Raises:
        ConfigError: An override is not of that form, or names a place that cannot be.
    """
    data = copy.deepcopy(document.data)
    assert isinstance(data, dict), "a pipeline file is read as a mapping"
    marks = dict(document.marks)
    problems: list[Problem] = []
    for override in overrides:
        mark = Mark(f"--set {override}", None, None)
        try:
            key, value = _split(override, mark)
            path = _Finder(data, mark).find(key)
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        _put(data, path, value, marks, mark)
    if problems:
        raise ConfigError(problems)
    return Document(data, marks)


def _split(override: str, mark: Mark) -> tuple[list[str], Plain]:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not _KEY.fullmatch(key):
        raise _error(mark, "must be KEY=VALUE, such as `--set stages.prune.ratio=0.4`")
    try:
        value = parse(text, mark.file).data
    except ConfigError as error:
        raise ConfigError([replace(problem, line=None) for problem in error.problems]) from error
    return _PART.findall(key), value


class _Finder:
    """Finds the place that a key means, which for stages is not written out."""

    def __init__(self, data: dict[str, Plain], mark: Mark) -> None:
        self.data = data
        self.mark = mark

    def find(self, parts: Sequence[str]) -> KeyPath:
        path: KeyPath = ()
        here: Plain = self.data
        for part in parts:
            if self._is_stage(path, here) and isinstance(here, dict) and part not in here:
                # `stages[1].ratio`: the entry's only key, its kind, goes without saying.
                [(kind, here)] = here.items()
                path = (*path, kind)
            if isinstance(here, list):
                index = self._index(path, here, part)
                path, here = (*path, index), here[index]
                if not part.isdigit() and isinstance(here, dict):
                    path, here = (*path, part), here[part]
            elif isinstance(here, dict) or here is None:
                path, here = (*path, part), here.get(part) if here else None
            else:
                raise _error(self.mark, f"`{dotted(path)}` is a single value and has no `{part}`")
        return path

    def _index(self, path: KeyPath, items: list[Plain], part: str) -> int:
        name = dotted(path)
        if part.isdigit():
            if int(part) >= len(items):
                count = f"{len(items)} {'entry' if len(items) == 1 else 'entries'}"
                raise _error(self.mark, f"`{name}` has {count}, counted from 0, so there is no `{name}[{part}]`")
            return int(part)
        if path[0] not in _STAGE_LISTS or len(path) > 1:
            raise _error(self.mark, f"`{name}` is a list; write an index, such as `{name}[0]`")
        kinds = [kind for item in items if isinstance(item, dict) for kind in item]
        found = [index for index, item in enumerate(items) if isinstance(item, dict) and part in item]
        if not found:
            there = ", ".join(f"`{kind}`" for kind in dict.fromkeys(kinds)) or "none"
            raise _error(self.mark, f"`{name}` has no `{part}`{did_you_mean(part, kinds) or f'; there is {there}'}")
        if len(found) > 1:
            which = " or ".join(f"`{name}[{index}]`" for index in found)
            raise _error(self.mark, f"`{name}` has `{part}` {len(found)} times; say which by its index: {which}")
        return found[0]

    @staticmethod
    def _is_stage(path: KeyPath, here: Plain) -> bool:
        return len(path) == 2 and path[0] in _STAGE_LISTS and isinstance(here, dict) and len(here) == 1


def _put(data: dict[str, Plain], path: KeyPath, value: Plain, marks: dict[KeyPath, Mark], mark: Mark) -> None:
    here: Any = data  # a mapping, or a list where the next part is an index that exists
    for depth, part in enumerate(path[:-1]):
        inside = here.get(part) if isinstance(here, dict) else here[part]
        if inside is None:
            inside = {}
            here[part] = inside
            marks.setdefault(path[: depth + 1], mark)
        here = inside
    here[path[-1]] = value
    for known in [known for known in marks if known[: len(path)] == path]:
        del marks[known]
    marks[path] = mark


def _error(mark: Mark, message: str) -> ConfigError:
    return ConfigError([Problem(mark.file, mark.line, "", message)])
