"""A sweep in a process of its own, for those that have a screen to draw: begun, and asked to stop. No torch here.

It is the ordinary `sweep --resume`, in an OS session of its own: it goes on when the screen has gone.
"""

from __future__ import annotations

import os
import signal
import subprocess

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.runs.sweep_dir import SweepDir


def begin_apart(sweep: SweepDir) -> subprocess.Popen[bytes]:
    """Starts the process. Raises RunError when it cannot be started, or another one drives the
    sweep. What it prints goes to the sweep's own log."""
    if driver := sweep.driven.driver():
        raise RunError(f"The sweep {sweep.name} is driven already ({driver}).")
    words = ["sweep", "--resume", sweep.name, "--runs-dir", str(sweep.root.resolve())]
    return sweep.driven.start(words).process


def stop_apart(sweep: SweepDir) -> bool:
    """Asks the process that drives the sweep to stop its runs, which save, and to leave; False if none does. Only a
    process that is proven to hold the sweep's lock, and is this user's, is asked. Raises RunError with the reason why
    it was not."""
    driver = sweep.driven.driver()
    if driver is None:
        return False
    if driver.pid is None or not driver.proven or driver.user not in (None, os.geteuid()) or driver.pid == os.getpid():
        raise RunError(f"The sweep {sweep.name} was not stopped: the process that drives it ({driver}) is not this "
                       "user's to stop.")
    try:
        os.kill(driver.pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    except OSError as error:
        raise RunError(f"The sweep {sweep.name} was not stopped: {os_error_reason(error)}.") from error
    return True
