"""What commands share: their common options, and how errors become exit codes."""

from __future__ import annotations

import functools
import inspect
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from rlhf_engine.commands.console import say
from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import (
    BaseChangedError,
    CheckpointError,
    ConfigError,
    OutputError,
    RlhfError,
    RunError,
    first_few,
)
from rlhf_engine.model_folders import remote_code
from rlhf_engine.runs import base_model, trust
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import UNREADABLE, RunSummary, find_run, list_runs
from rlhf_engine.system.streams import own_stdout

F = TypeVar("F", bound=Callable[..., Any])

RunsDir = Annotated[Path, typer.Option("--runs-dir", help="The folder that holds the runs.")]
Overrides = Annotated[list[str] | None,
                      typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; repeatable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs rather than text for people.")]
Preset = Annotated[str, typer.Argument(metavar="PRESET", help="A preset's name, or a path ending in .toml.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="A run's name under --runs-dir, or its path.")]
RunOrNewest = Annotated[str | None, typer.Argument(
    metavar="[RUN]", help="A run's name under --runs-dir, or its path; the newest if omitted.",
    show_default=False)]
AtStep = Annotated[str | None, typer.Argument(
    metavar="[RUN[@STEP]]", help="A run, and which checkpoint: a step, or best; the newest if omitted.",
    show_default=False)]


AcceptBase = Annotated[bool, typer.Option(
    base_model.ACCEPT, help="Continue although the base model is not the one that the run was trained on.")]
BaseMoved = Annotated[list[str] | None, typer.Option(
    "--set", metavar="model.name=PATH", help="Where the base model is now, if it has moved.")]


def base_choice(config: RunConfig, overrides: list[str] | None, accept: bool) -> base_model.BaseChoice:
    """What a command line says about the base of a run, whose other settings it cannot change. Raises ConfigError."""
    moves = presets.parse_overrides(config, overrides or [])
    if others := [path for path in moves if path not in base_model.MOVES]:
        raise ConfigError([f"--set {path}: the run's settings are taken as they are; only "
                           f"{' and '.join(base_model.MOVES)} tell where its base model is now" for path in others])
    return base_model.BaseChoice(accept, moves)


def told_how(error: BaseChangedError) -> ConfigError:
    """The error of a command line, with what can be done about it."""
    return ConfigError(f"{error} If it has moved, --set model.name=/new/path says where it is; {base_model.ACCEPT} "
                       "continues with what is there now.")


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


def _trust_code(digests: list[str] | None) -> None:
    for digest in digests or []:
        try:
            trust.trust_once(digest.lower())
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None


# of every command that may run the code of rewards; as above, no command has to pass it on
TrustCode = Annotated[list[str] | None, typer.Option(
    trust.FLAG, metavar="SHA-256", callback=_trust_code, expose_value=False,
    help="Run the reward code of this digest, for this once; repeatable. Read it first; `trust` tells the digest.",
)]


def command_of(function: F) -> F:
    """The function, with what a user can cause told in one sentence and as an exit code, never as a traceback."""

    @functools.wraps(function)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            with own_stdout():
                code = function(*args, **options)
        except OutputError as problem:
            if not problem.gone:
                say(f"error: {problem}")
            code = 128 + (signal.SIGHUP if problem.hung_up else signal.SIGPIPE) if problem.gone else 1
        except RlhfError as problem:
            error = told_how(problem) if isinstance(problem, BaseChangedError) else problem
            say(*_error_lines(error))
            code = 2 if isinstance(error, ConfigError) else 1
        except KeyboardInterrupt:
            code = 130
        if code is not None:
            raise typer.Exit(code)

    guarded.__signature__ = inspect.signature(function, eval_str=True)  # type: ignore[attr-defined]
    return guarded  # type: ignore[return-value]


def _error_lines(error: RlhfError) -> list[str]:
    """The lines of an error: one, or one for each mistake of a configuration, of which a file may hold any number."""
    if not isinstance(error, ConfigError) or len(error.problems) == 1:
        return [f"error: {error}"]
    return first_few(error.problems)


class wrong_usage:
    """Turns a RunError into the error of a command line that asked for what cannot be."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, RunError) and not isinstance(error, BaseChangedError):
            raise ConfigError(str(error)) from error


def the_run(name_or_path: str, runs_dir: Path) -> RunDir:
    """The run that an argument means. Raises ConfigError when there is none."""
    with wrong_usage():
        return find_run(name_or_path, runs_dir)


def run_or_newest(name_or_path: str | None, runs_dir: Path) -> RunDir:
    """`the_run`, or the run that changed last where none is named, which is then said. Raises ConfigError."""
    return the_run(name_or_path, runs_dir) if name_or_path is not None else _newest(list_runs(runs_dir), runs_dir)


def run_to_resume(name_or_path: str | None, runs_dir: Path) -> RunDir:
    """`the_run`, or where none is named the newest that no process drives, which is then said. Raises ConfigError."""
    if name_or_path is not None:
        return the_run(name_or_path, runs_dir)
    return _newest([run for run in list_runs(runs_dir) if not run.driven], runs_dir, "to resume ")


def run_to_watch(name_or_path: str | None, runs_dir: Path) -> RunDir:
    """`the_run`, or where none is named the only one that a process drives, or else the newest; which is then said.

    Raises ConfigError when there is none, or several are driven.
    """
    if name_or_path is not None:
        return the_run(name_or_path, runs_dir)
    found = list_runs(runs_dir)
    driven = [run for run in found if run.driven]
    if len(driven) > 1:
        raise ConfigError(f"{len(driven)} runs are training under {runs_dir}: "
                          f"{', '.join(run.name for run in driven)}; name one of them")
    return _newest(driven or found, runs_dir)


def _newest(runs: list[RunSummary], runs_dir: Path, wanted: str = "") -> RunDir:
    runs = [run for run in runs if run.state != UNREADABLE]
    if not runs:
        raise ConfigError(f"there is no run {wanted}under {runs_dir} yet; name one, or its path")
    say(f"run {runs[0].name}, {runs[0].state} at step {runs[0].step}/{runs[0].total_steps}, since none was named")
    return RunDir(runs[0].path)


def run_at_step(source: str | None, runs_dir: Path) -> tuple[RunDir, int | None]:
    """What RUN, RUN@STEP or RUN@best means; the step is None where none is given, and the run the newest, which is then
    said, where nothing is. Raises ConfigError when there is no such run, CheckpointError when it has no best.

    A path may hold an @ of its own, so the whole is tried first.
    """
    if source is None:
        return run_or_newest(None, runs_dir), None
    if run := run_if_any(source, runs_dir):
        return run, None
    name, at, step = source.rpartition("@")
    if not at:
        return the_run(source, runs_dir), None
    if step == "best":
        return _at_best(the_run(name, runs_dir))
    if not (step.isascii() and step.isdigit()):
        raise ConfigError(f"{source}: after the @ goes the step of a checkpoint, a whole number, or best")
    return the_run(name, runs_dir), int(step)


def _at_best(run_dir: RunDir) -> tuple[RunDir, int]:
    from rlhf_engine.runs import checkpoint

    best = checkpoint.best(run_dir)
    if best is None:
        raise CheckpointError(f"The run {run_dir.name} has no best checkpoint; train.keep_best says what that is.")
    return run_dir, checkpoint.step_of(best)


def run_if_any(name_or_path: str, runs_dir: Path) -> RunDir | None:
    """The run that an argument means, or None when it means none."""
    try:
        return find_run(name_or_path, runs_dir)
    except RunError:
        return None
