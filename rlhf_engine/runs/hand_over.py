"""A run handed to a process without a terminal, which resumes it and goes on when this one has left.

It is the ordinary `rlhf-tui resume`, in an OS session of its own: no hang-up of a terminal reaches it.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import platformdirs

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.own_files import own_folder
from rlhf_engine.model_folders import remote_code
from rlhf_engine.runs import trust
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir
from rlhf_engine.system.own_process import environment, python

_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class HandOver:
    """A run and the process that was started for it. `log` holds what that prints; None where there is no such file."""

    run_dir: RunDir
    process: subprocess.Popen[bytes]
    log: Path | None

    def wait(self, seconds: float) -> None:
        """Returns when the process drives the run. Raises RunError if it ended before, or is not that far in time."""
        deadline = time.monotonic() + seconds
        while True:
            ended, status = self.process.poll(), self.run_dir.status()
            if status is not None and status.process.pid == self.process.pid:
                return
            if ended is not None or time.monotonic() > deadline:
                what = f"ended with exit code {ended}" if ended is not None else f"was not ready within {seconds:g} s"
                raise RunError(f"The process that was to continue {self.run_dir.name} {what}; "
                               f"{f'{self.log} says why' if self.log else 'its output could not be kept'}.")
            time.sleep(_POLL_SECONDS)


def hand_over(run_dir: RunDir) -> HandOver:
    """Starts the process. The caller no longer holds the run's lock. Raises RunError when it cannot be started.

    Its output goes to a file of the user's log folder: into a run nobody writes but its trainer.
    """
    log = _log_file(run_dir)
    command = python("rlhf_engine", ["resume", str(run_dir.path.resolve()), *remote_code.arguments(),
                                     *trust.arguments()])
    output = os.open(log or os.devnull, os.O_WRONLY | os.O_APPEND)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                                   env=environment(), start_new_session=True)
    except OSError as error:
        raise RunError(f"The run {run_dir.name} could not be handed over: {os_error_reason(error)}.") from error
    finally:
        os.close(output)
    return HandOver(run_dir, process, log)


def command_for(run_dir: RunDir, command: str) -> str:
    """What a user types to do `command` with this run, from the folder of this process."""
    named = run_dir.path.parent.resolve() == DEFAULT_RUNS_ROOT.resolve()
    return f"rlhf-tui {command} {shlex.quote(run_dir.name if named else str(run_dir.path))}"


def _log_file(run_dir: RunDir) -> Path | None:
    """A new file, readable by its owner alone."""
    moment = datetime.now(UTC)
    try:
        folder = own_folder(Path(platformdirs.user_log_dir("rlhf-tui", appauthor=False)))
        name = re.sub(r"[^A-Za-z0-9._-]", "_", run_dir.name)[:64]  # a run that was renamed by hand may have any
        path = folder / f"{name}-{moment:%Y%m%dT%H%M%S.%fZ}.log"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except OSError:
        return None
    return path
