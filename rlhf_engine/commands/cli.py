"""The command line without a screen. `rlhf_tui.cli` adds the workbench to the same commands.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted, 143 terminated (both saved first).
torch is imported by the commands that need it, so that help and mistakes come at once.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from rlhf_engine.commands.exporting import export
from rlhf_engine.commands.following import attach
from rlhf_engine.commands.health import doctor, verify
from rlhf_engine.commands.label_files import labels_app
from rlhf_engine.commands.labelling import ByHand, label_command
from rlhf_engine.commands.listing import list_presets, runs
from rlhf_engine.commands.over_optimizing import overoptimization
from rlhf_engine.commands.pairing import pairs
from rlhf_engine.commands.parsing import CommandLine
from rlhf_engine.commands.pipelining import pipeline
from rlhf_engine.commands.sampling import compare, generate, score
from rlhf_engine.commands.shared import command_of
from rlhf_engine.commands.sweep_report import Picture
from rlhf_engine.commands.sweeping import sweep_command
from rlhf_engine.commands.tidying import delete, note, rename, trash
from rlhf_engine.commands.training import fork, resume, train
from rlhf_engine.commands.trusting import trust
from rlhf_engine.system.cores import share_cores
from rlhf_engine.system.streams import degrade


def make_app(
    *, help: str = "RLHF without a screen.", attach: Callable[..., int] = attach, picture: Picture | None = None,
    label: ByHand | None = None,
) -> typer.Typer:
    """All commands in an app of their own. attach: the command of that name, which may have a screen to show a run on.
    picture: draws what `sweep` found. label: lets a person judge on a screen."""
    app = typer.Typer(cls=CommandLine, help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                      pretty_exceptions_enable=False)
    for command in (train, resume, fork, sweep_command(picture), attach, compare, overoptimization, generate, pairs,
                    score, export, label_command(label), pipeline, list_presets, runs, rename, note, delete, trash,
                    trust, verify, doctor):
        app.command(name="presets" if command is list_presets else None)(command_of(command))
    app.add_typer(labels_app(), name="labels")
    return app


def main() -> None:
    """Runs the command line of `python -m rlhf_engine`; leaves by SystemExit."""
    share_cores()
    degrade()
    make_app()(prog_name="python -m rlhf_engine")
