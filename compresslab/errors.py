"""Every error that compresslab raises on purpose, and the exit code each one means.

    CompresslabError                exit 4
    ├── BadInput                    exit 2   the user can mend it; nothing was trained yet
    │   ├── ConfigError             a YAML file or an override; carries every Problem found
    │   ├── DataError               a data set that is missing, broken, or not what was said
    │   ├── ModelError              a network or weights that cannot be used
    │   │   └── NothingToQuantize   no operator is left that could become an integer one
    │   └── ArtifactError           an exported file that is missing, changed or not ours
    ├── StageFailed                 exit 4   a stage began and could not finish
    │   ├── Diverged                the loss became NaN or infinite
    │   ├── ParityError             ONNX Runtime and torch disagree on the same inputs
    │   └── BenchmarkFailed         a measuring process died or gave nothing
    ├── StoreError                  exit 4   the cache cannot be read or written (disk full, ...)
    └── Interrupted                 exit 130 Ctrl-C or SIGTERM; the same command resumes

Being over a budget (exit 1) or not able to tell (exit 3) is an answer, not an error: see `measure.budget`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import ClassVar


class CompresslabError(Exception):
    """Root of the tree. `exit_code` is what the command line ends with."""

    exit_code: ClassVar[int] = 4


class BadInput(CompresslabError):
    """Something the user gave is wrong; the message names it and the remedy."""

    exit_code: ClassVar[int] = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: where (`line` is 1-based, `path` dotted) and what."""

    file: str
    line: int | None
    path: str
    message: str

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.path}: {self.message}" if self.path else f"{where}: {self.message}"


class ConfigError(BadInput):
    """A configuration with one or more problems, all of them told at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataError(BadInput):
    """A data set is missing, unreadable, or not what the configuration says."""


class ModelError(BadInput):
    """A network or its weights cannot be built, loaded or used."""


class NothingToQuantize(ModelError):
    """A network of which no operator is left that could become an integer one."""


class ArtifactError(BadInput):
    """An exported model is missing, was changed after export, or is not one of ours."""


class StageFailed(CompresslabError):
    """A stage began and could not finish."""


class Diverged(StageFailed):
    """The training loss became NaN or infinite."""


class ParityError(StageFailed):
    """The exported graph does not compute what the torch module computes."""


class BenchmarkFailed(StageFailed):
    """A measuring process died, or measured nothing."""


class StoreError(CompresslabError):
    """The cache cannot be read or written."""


class Interrupted(CompresslabError):
    """Stopped by Ctrl-C or SIGTERM; what was finished is kept."""

    exit_code: ClassVar[int] = 130


def did_you_mean(found: str, allowed: Sequence[str]) -> str:
    """The nearest of `allowed` as the end of a message, "; did you mean ...?", or an empty string."""
    near = get_close_matches(found, allowed, n=1, cutoff=0.6)
    return f"; did you mean `{near[0]}`?" if near else ""
