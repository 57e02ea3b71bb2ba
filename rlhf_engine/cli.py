"""The command line without a screen. `rlhf_tui.cli` adds the workbench to the same commands.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted, 143 terminated (both saved first).
torch is imported by the commands that need it, so that help and mistakes come at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import typer

from rlhf_engine.commands.following import attach
from rlhf_engine.commands.health import doctor, verify
from rlhf_engine.commands.listing import list_presets, runs
from rlhf_engine.commands.sampling import compare, generate, score
from rlhf_engine.commands.shared import command_of
from rlhf_engine.commands.tidying import delete, note, rename, trash
from rlhf_engine.commands.training import fork, resume, train


def make_app(*, help: str = "RLHF without a screen.", attach: Callable[..., int] = attach) -> typer.Typer:
    """All commands in an app of their own. attach: the command of that name, which may have a screen to show a run on.
    """
    app = typer.Typer(help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                      pretty_exceptions_enable=False)
    for command in (train, resume, fork, attach, compare, generate, score, list_presets, runs, rename, note,
                    delete, trash, verify, doctor):
        app.command(name="presets" if command is list_presets else None)(command_of(command))
    return app


def main() -> None:
    """Runs the command line of `python -m rlhf_engine`; leaves by SystemExit."""
    share_cores()
    make_app()(prog_name="python -m rlhf_engine")


def share_cores() -> None:
    """Lets torch's threads sleep soon when they wait; to be called before torch is imported.

    By default they spin for as long as it takes. When anything else wants a core, each hand-over then costs a time
    slice: two busy neighbours on two cores made steps of the storyteller twenty times slower. Threads that sleep at
    once (OMP_WAIT_POLICY=passive) cost a run with the cores to itself a quarter of its speed. Ten thousand turns, a few
    hundredths of a millisecond, keep nearly all of it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
