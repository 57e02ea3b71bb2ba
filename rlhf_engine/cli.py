"""The command line without a screen. `rlhf_tui.cli` adds the workbench to the same commands.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted, 143 terminated (both saved first).
torch is imported by the commands that need it, so that help and mistakes come at once.
"""

from __future__ import annotations

import os

import typer

from rlhf_engine.commands.health import doctor, verify
from rlhf_engine.commands.listing import list_presets, runs
from rlhf_engine.commands.sampling import compare, generate, score
from rlhf_engine.commands.shared import command_of
from rlhf_engine.commands.training import fork, resume, train


def make_app(*, help: str = "RLHF without a screen.") -> typer.Typer:
    """All commands in an app of their own."""
    app = typer.Typer(help=help, no_args_is_help=True, add_completion=False, rich_markup_mode=None,
                      pretty_exceptions_enable=False)
    for command in (train, resume, fork, compare, generate, score, list_presets, runs, verify, doctor):
        app.command(name="presets" if command is list_presets else None)(command_of(command))
    return app


def main() -> None:
    """Runs the command line of `python -m rlhf_engine`; leaves by SystemExit."""
    share_cores()
    make_app()(prog_name="python -m rlhf_engine")


def share_cores() -> None:
    """Lets torch's threads sleep while they wait; to be called before torch is imported.

    By default they spin. When anything else wants a core, even the screen, each hand-over then costs a time slice:
    two busy neighbours on two cores made steps of the storyteller twenty times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
