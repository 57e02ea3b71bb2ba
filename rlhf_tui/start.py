"""Where `rlhf-tui` begins. Without arguments the workbench opens before anything that it does not need is imported."""

from __future__ import annotations

import gc
import sys

PRESET = "animals"
"""The preset that is opened when none is named."""


def main() -> None:
    """The console script `rlhf-tui`; leaves by SystemExit."""
    # nearly all that is made while starting stays: looking for garbage in it takes a tenth of the time
    gc.disable()
    if len(sys.argv) == 1 and _on_a_terminal():
        code = _open_workbench()
        if code is not None:
            sys.exit(code)
    from rlhf_tui.cli import main as command_line

    gc.enable()
    command_line()


def _on_a_terminal() -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.isatty() for stream in streams)


def _open_workbench() -> int | None:
    """What the command line does without arguments; None where that is for the command line to say in words."""
    from rlhf_engine import presets
    from rlhf_engine.cores import share_cores
    from rlhf_engine.errors import RlhfError
    from rlhf_engine.run_dir import DEFAULT_RUNS_ROOT

    share_cores()
    try:
        config = presets.load(PRESET)
    except RlhfError:
        return None
    from rlhf_tui.app import run_workbench

    return run_workbench(config, PRESET, runs_root=DEFAULT_RUNS_ROOT)
