"""What commands share: their common options, and how errors become exit codes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rlhf_engine import remote_code
from rlhf_engine.console import say
from rlhf_engine.errors import ConfigError, RlhfError, RunError
from rlhf_engine.run_dir import RunDir
from rlhf_engine.run_list import find_run

F = TypeVar("F", bound=Callable[..., Any])

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder that holds the runs.")]
Overrides = Annotated[list[str] | None,
                      typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs rather than text for people.")]
Preset = Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name, or a path ending in .toml.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name under --runs-dir, or its path.")]


def _trust(argument: str | None) -> None:
    if argument is None:
        return
    try:
        say(remote_code.trust(argument))
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


# the callback does it all, so that no command has to pass it on, and none can be told by a preset
TrustRemoteCode = Annotated[str | None, typer.Option(
    remote_code.FLAG, metavar="OWNER/NAME@COMMIT|FOLDER", callback=_trust, expose_value=False,
    help="Run the Python code that comes with this model, for this start. Read it first.",
)]


def command_of(function: F) -> F:
    """The function, with what a user can cause told in one sentence and as an exit code, never as a traceback."""

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            code = function(*args, **options)
        except RlhfError as error:
            say(f"error: {error}" if "\n" not in str(error) else str(error))
            code = 2 if isinstance(error, ConfigError) else 1
        except KeyboardInterrupt:
            code = 130
        if code is not None:
            raise typer.Exit(code)

    guarded.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return guarded  # type: ignore[return-value]


class wrong_usage:
    """Turns a RunError into the error of a command line that asked for what cannot be."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RunError):
            raise ConfigError(str(error)) from error


def the_run(name_or_path: str, runs_dir: Path) -> RunDir:
    """The run that an argument means. Raises ConfigError when there is none."""
    with wrong_usage():
        return find_run(name_or_path, runs_dir)


def run_at_step(source: str, runs_dir: Path) -> tuple[RunDir, int | None]:
    """What RUN or RUN@STEP means; the step is None where none is given. Raises ConfigError when there is no such run.

    A path may hold an @ of its own, so the whole is tried first.
    """
    if run := run_if_any(source, runs_dir):
        return run, None
    name, at, step = source.rpartition("@")
    if not at:
        return the_run(source, runs_dir), None
    if not (step.isascii() and step.isdigit()):
        raise ConfigError(f"{source}: after the @ goes the step of a checkpoint, a whole number")
    return the_run(name, runs_dir), int(step)


def run_if_any(name_or_path: str, runs_dir: Path) -> RunDir | None:
    """The run that an argument means, or None when it means none."""
    try:
        return find_run(name_or_path, runs_dir)
    except RunError:
        return None
