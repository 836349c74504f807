"""The `compresslab` command: its sub-commands, and how the process ends."""

from __future__ import annotations

import gc
import signal
import sys
import traceback
from io import TextIOWrapper
from typing import TYPE_CHECKING, NoReturn

import typer

from compresslab.cli import bench, cache, compare, doctor, export, gate, init, predict, report, run, schema, verify
from compresslab.cli.options import Debug, Log, State
from compresslab.errors import CompresslabError, ConfigError, Interrupted
from compresslab.launcher import helps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_UNEXPECTED = 4

app = typer.Typer(
    name="compresslab",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 fine or within budget, 1 over budget, 2 bad input, 3 inconclusive, 4 a stage failed, "
    "130 interrupted (the same command goes on where it stopped).",
)
app.command("init")(init.init)
app.command("run")(run.run)
app.command("gate")(gate.gate)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("predict")(predict.predict)
app.command("verify")(verify.verify)
app.command("report")(report.report)
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)
app.add_typer(cache.app, name="cache")


def _version(asked: bool) -> None:
    if asked:
        from compresslab import __version__

        typer.echo(f"compresslab {__version__}")
        raise typer.Exit


@app.callback()
def _compresslab(
    debug: Debug = False,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Tell the version."),
) -> None:
    """Give it a trained model, data and a budget; get the Pareto-optimal deployment model, with the evidence."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and ends the process.

    Args:
        arguments: Without the program's name; `sys.argv` if not given.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal that cannot show `★` gets a `?`, not a traceback.
            stream.reconfigure(errors="replace")
    code = invoke(sys.argv[1:] if arguments is None else arguments)
    # It ends now anyway, and with this code; a signal would only be told as an error in whatever is cleaned up last.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # With torch loaded, the collections at the end of a process take more than a second of computing, and whoever has
    # sent a signal waits for it.
    gc.freeze()
    sys.exit(code)


def invoke(arguments: Sequence[str]) -> int:
    """Runs the command line and returns the exit code; errors are told on stderr."""
    state = State()
    # Like Ctrl-C, and not an exception of ours: libraries that catch every Exception must not swallow it.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app(args=list(arguments), prog_name="compresslab", obj=state)
    except SystemExit as ending:
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    except CompresslabError as error:
        _tell(error, error.exit_code, state)
        return error.exit_code
    except Exception as error:
        # Left to Python it would end with 1, which says "over budget" to whoever reads exit codes.
        _tell(error, _UNEXPECTED, state)
        return _UNEXPECTED
    return 0


def _tell(error: Exception, code: int, state: State) -> None:
    """Says on stderr what ended the command; the traceback where it is asked for, or nobody expected the error."""
    with_traceback = state.debug or not isinstance(error, CompresslabError)
    if helps() and not with_traceback:
        return  # the process that this one helps has told the same
    if state.log is Log.json:
        from compresslab.cli.progress import json_line

        trace = {"traceback": "".join(traceback.format_exception(error))} if with_traceback else {}
        event = "interrupted" if isinstance(error, Interrupted) else "error"
        line = json_line(event, kind=type(error).__name__, message=str(error), exit_code=code, **trace)
        typer.echo(line, err=True)
    elif with_traceback:
        traceback.print_exception(error)
    else:
        # A configuration error begins with its file and line, which editors and terminals make a link of.
        typer.echo(str(error) if isinstance(error, ConfigError | Interrupted) else f"error: {error}", err=True)


def _interrupt(signal_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt(f"signal {signal_number}")
