"""`rlhf-tui`: the workbench when no command is given, else the engine's commands."""

from __future__ import annotations

from typing import Annotated

import typer

from rlhf_engine import __version__, fields, presets
from rlhf_engine.cli import make_app
from rlhf_engine.commands.following import print_run
from rlhf_engine.commands.shared import (
    AsJson,
    Overrides,
    RunOrNewest,
    RunsDir,
    TrustRemoteCode,
    command_of,
    run_to_watch,
)
from rlhf_engine.commands.training import train_config
from rlhf_engine.console import out, say
from rlhf_engine.cores import share_cores
from rlhf_engine.errors import ConfigError
from rlhf_engine.run_dir import DEFAULT_RUNS_ROOT
from rlhf_engine.streams import degrade, on_a_terminal
from rlhf_tui.start import PRESET, preset_of_last_time

HELP = "A workbench for RLHF in the terminal. Without a command it opens the workbench."


def workbench(
    context: typer.Context,
    preset: Annotated[str | None, typer.Option(help="The preset to open, by name or path; else the one that was "
                                                    "open last, or animals.", show_default=False)] = None,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    start: Annotated[bool, typer.Option("--start", help="Begin to train at once.")] = False,
    trust: TrustRemoteCode = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> int | None:
    """A workbench for RLHF in the terminal. Without a command it opens the workbench.

    Where stdin or stdout is no terminal, it trains the preset (animals where none is named) and prints a line a step.
    """
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        if given := [name for name, source in sources.items() if source and source.name == "COMMANDLINE"]:
            names, command = ", ".join("--" + name.replace("_", "-") for name in given), context.invoked_subcommand
            raise ConfigError(f"{names} before {command} would be for the workbench; write it after {command}")
        return None
    if version:
        out(f"rlhf-tui {__version__}")
        return 0
    if not on_a_terminal():
        # what a script trains must not depend on what someone looked at last
        preset = preset or PRESET
        config = presets.load_with_overrides(preset, overrides or [])
        say("this is no terminal: training without the workbench")
        return train_config(config, preset, runs_dir)
    said = ""
    if preset is None:
        preset, said = preset_of_last_time()
    original = presets.load(preset)
    config = fields.replace(original, presets.parse_overrides(original, overrides)) if overrides else original
    from rlhf_tui.launch import run_workbench

    return run_workbench(config, preset, runs_root=runs_dir, start=start, original=original, said=said)


def attach(
    run: RunOrNewest = None, runs_dir: RunsDir = DEFAULT_RUNS_ROOT, trust: TrustRemoteCode = None,
    as_json: AsJson = False,
) -> int:
    """Watch a run that another process drives, in the workbench. There, t takes it over; leaving leaves it alone.

    Where no run is named: the one that is going on, or else the newest.

    With --json (as for train), or where stdin or stdout is no terminal, it prints the run's lines from the first step
    to its end. The exit code is then 0 if the run finished, else 1.
    """
    run_dir = run_to_watch(run, runs_dir)
    if as_json or not on_a_terminal():
        return print_run(run_dir, as_json)
    from rlhf_tui.launch import run_workbench

    return run_workbench(run_dir.config(), run_dir.preset, runs_root=runs_dir, view=run_dir)


def make_workbench_app() -> typer.Typer:
    """The engine's commands, and the workbench where none is named."""
    app = make_app(help=HELP, attach=attach)
    app.info.no_args_is_help = False
    app.callback(invoke_without_command=True)(command_of(workbench))
    return app


def main() -> None:
    """The console script `rlhf-tui`; leaves by SystemExit."""
    share_cores()
    degrade()
    make_workbench_app()(prog_name="rlhf-tui")
