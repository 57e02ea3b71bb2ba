"""Where `rlhf-tui` begins. Without arguments the workbench opens before anything that it does not need is imported."""

from __future__ import annotations

import gc
import os
import sys

from rlhf_tui.what_to_open import no_screen, preset_of_last_time


def main() -> None:
    """The console script `rlhf-tui`; leaves by SystemExit."""
    # nearly all that is made while starting stays: looking for garbage in it takes a tenth of the time
    gc.disable()
    # pydantic would look for plugins in the metadata of every installed package
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if len(sys.argv) == 1 and not no_screen():
        code = _open_workbench()
        if code is not None:
            sys.exit(code)
    from rlhf_tui.cli import main as command_line

    gc.enable()
    command_line()


def _open_workbench() -> int | None:
    """What the command line does without arguments; None where that is for the command line to say in words."""
    from rlhf_engine.config import presets
    from rlhf_engine.errors import RlhfError
    from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT
    from rlhf_engine.system.cores import share_cores

    share_cores()
    preset, said = preset_of_last_time()
    try:
        config = presets.load(preset)
    except RlhfError:
        return None
    from rlhf_tui.launch import run_workbench

    return run_workbench(config, preset, runs_root=DEFAULT_RUNS_ROOT, said=said)
