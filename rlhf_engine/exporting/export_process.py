"""An export in a process of its own, for those that have a screen to draw or a run to train. No torch here.

Loading a model sets, for as long as it takes, in which numbers the whole process computes by default: a run that trains
in the same one would be disturbed.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.errors import RunError
from rlhf_engine.exporting.model_card import loss_told
from rlhf_engine.files.disk import folder_to_make, os_error_reason
from rlhf_engine.model_folders import remote_code
from rlhf_engine.runs.base_model import ACCEPT
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.system.own_process import environment, python
from rlhf_engine.system.units import format_bytes


@dataclass(frozen=True)
class Wanted:
    """What is to be exported: a run at a step, into which new folder, merged with its base or not."""

    run: Path
    step: int
    target: Path
    merged: bool
    accept_base: bool = False


def export_apart(wanted: Wanted) -> str:
    """Exports, which takes seconds or minutes, and returns a sentence about it. Raises RunError with the reason."""
    target = folder_to_make(wanted.target)
    run = RunDir.open(wanted.run)
    options = [*(["--merged"] if wanted.merged else []), *([ACCEPT] if wanted.accept_base else [])]
    command = python("rlhf_engine", ["export", f"{run.path.resolve()}@{wanted.step}", str(target), "--json", *options,
                                     *remote_code.arguments()])
    try:
        # a session of its own: Ctrl+C at a terminal, or its end, does not reach it
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                              env=environment(), start_new_session=True, check=False)
    except OSError as error:
        raise RunError(f"{run.name} could not be exported: {os_error_reason(error)}.") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        raise RunError(said[-1].removeprefix("error: ") if said else f"The export ended with {done.returncode}.")
    told = json.loads(done.stdout.splitlines()[-1])
    what = f"merged model in {told['dtype']}" if wanted.merged else "adapter"
    here = target.relative_to(Path.cwd()) if target.is_relative_to(Path.cwd()) else target
    lost = f"; {found}" if (found := loss_told(told["kept"], told["dtype"])) else ""
    return f"exported {run.name}@{told['step']}, {what}, {format_bytes(told['bytes'])}: {here}{lost}"
