"""`rlhf-tui`: the workbench when no command is given, else the engine's commands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from rlhf_engine import __version__
from rlhf_engine.commands.cli import make_app
from rlhf_engine.commands.console import out, say
from rlhf_engine.commands.following import print_run
from rlhf_engine.commands.labelling import LabelTask
from rlhf_engine.commands.shared import (
    AsJson,
    Overrides,
    RunOrNewest,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    command_of,
    run_to_watch,
)
from rlhf_engine.commands.training import train_config
from rlhf_engine.config import fields, presets
from rlhf_engine.errors import ConfigError
from rlhf_engine.requests import TUNED, Side
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT
from rlhf_engine.system.cores import share_cores
from rlhf_engine.system.streams import degrade
from rlhf_tui.option_order import AnyOrder
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.what_to_open import PRESET, no_screen, preset_of_last_time

_WIDTH, _HEIGHT = 76, 20  # of a picture

HELP = "A workbench for RLHF in the terminal. Without a command it opens the workbench."


def workbench(
    context: typer.Context,
    preset: Annotated[str | None, typer.Option(help="The preset to open, by name or path; else the one that was "
                                                    "open last, or animals.", show_default=False)] = None,
    overrides: Overrides = None,
    runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
    start: Annotated[bool, typer.Option("--start", help="Start training at once.")] = False,
    trust: TrustRemoteCode = None,
    trust_code: TrustCode = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version and leave.")] = False,
) -> int | None:
    """A workbench for RLHF in the terminal. Without a command it opens the workbench.

    Where stdin or stdout is no terminal, or TERM is dumb, it trains the preset (animals where none is named) and
    prints a line a step.
    """
    if context.invoked_subcommand is not None:
        if given := AnyOrder.left_before(context):
            command, verb = context.invoked_subcommand, "is" if len(given) == 1 else "are"
            how = f"write `rlhf-tui {command} {preset}`" if preset and "preset" in AnyOrder.arguments(context) else \
                f"`rlhf-tui {command} --help` tells what it takes"
            raise ConfigError(f"{', '.join(given)} {verb} for the workbench, and {command} takes no such option: {how}")
        return None
    if version:
        out(f"rlhf-tui {__version__}")
        return 0
    if why := no_screen():
        # what a script trains must not depend on what someone looked at last
        preset = preset or PRESET
        config = presets.load_with_overrides(preset, overrides or [])
        say(f"{why}: training without the workbench")
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
    trust_code: TrustCode = None, as_json: AsJson = False,
) -> int:
    """Watch a run that another process drives, in the workbench. There, t takes it over; leaving does not stop it.

    Where no run is named: the one that is training, or else the newest.

    With --json (as for train), or where stdin or stdout is no terminal, it prints the run's lines from the first step
    to its end. The exit code is then 0 if the run finished, else 1.
    """
    run_dir = run_to_watch(run, runs_dir)
    if as_json or no_screen():
        return print_run(run_dir, as_json)
    from rlhf_tui.launch import run_workbench

    return run_workbench(run_dir.config(), run_dir.preset, runs_root=runs_dir, view=run_dir)


def judge_by_hand(task: LabelTask) -> int:
    """The workbench with the label screen open; of a run, the workbench shows that."""
    from rlhf_tui.areas.label.label_start import LabelStart
    from rlhf_tui.launch import run_workbench

    if why := no_screen():
        raise ConfigError(f"{why}: nobody can judge here; with --rater a reward does")
    run_dir = task.run_dir
    sides: tuple[Side, Side] | None = (task.first, task.second)
    if run_dir is not None:
        status = run_dir.status()
        driven = status is not None and not (status.state.ended or status.interrupted)
        here = Side("checkpoint", run_dir.path, task.step)
        # a model that trains in another process cannot be asked: what it has recorded is judged
        sides = None if driven and sides == (TUNED, TUNED) and task.step is None else \
            (here if task.first == TUNED else task.first, here if task.second == TUNED else task.second)
    start = LabelStart(task.file, more=task.count, rater=clean_line(task.rater), sides=sides, ask=task.ask,
                       responses=task.responses, seed=task.seed, repeat_every=task.repeat_every,
                       accept_base=task.base.accept, moves=task.base.moves)
    return run_workbench(task.config, run_dir.preset if run_dir else task.source, runs_root=task.runs_dir,
                         view=run_dir, label=start)


def picture(curve: Sequence[tuple[float, float]], marks: Sequence[tuple[str, float, float]]) -> list[str]:
    """Score against KL as lines of a terminal, without colours."""
    from rlhf_tui.areas.charts.frontier import draw_frontier
    from rlhf_tui.areas.charts.sheet import Sheet

    sheet = draw_frontier(list(curve), marks, _WIDTH, _HEIGHT)
    return ["".join(line).rstrip() for line in sheet.cells] if isinstance(sheet, Sheet) else []


def make_workbench_app() -> typer.Typer:
    """The engine's commands, and the workbench where none is named."""
    app = make_app(help=HELP, attach=attach, picture=picture, label=judge_by_hand)
    app.info.no_args_is_help = False
    app.callback(invoke_without_command=True, cls=AnyOrder)(command_of(workbench))
    return app


def main() -> None:
    """The console script `rlhf-tui`; leaves by SystemExit."""
    share_cores()
    degrade()
    make_workbench_app()(prog_name="rlhf-tui")
