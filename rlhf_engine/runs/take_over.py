"""How the process that drives a run is asked to leave it, so that another one can go on.

Only a process that is proven to hold the run's lock is ever signalled: of this user, and named by the run itself as the
one that drives it. What a file names without holding the lock is nobody's driver.
"""

from __future__ import annotations

import os
from typing import Any

from rlhf_engine.errors import RunError
from rlhf_engine.runs.kernel_locks import numbers_of
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_driver import user_name


class LeavingProcess:
    """A process that was asked to leave. `process` is one of psutil's, which knows a reused pid."""

    def __init__(self, process: Any) -> None:
        self._process = process
        self.pid = int(process.pid)

    @property
    def gone(self) -> bool:
        """True once it has ended, even if its parent has not asked how."""
        import psutil

        try:
            return not self._process.is_running() or self._process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return True

    @property
    def stopped(self) -> bool:
        """True while it is held by SIGSTOP, or by Ctrl+Z in its shell."""
        import psutil

        try:
            return self._process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)
        except psutil.Error:
            return False

    def ask(self) -> None:
        """Sends SIGTERM; one that is stopped hears it once SIGCONT lets it go on. Raises psutil.Error."""
        self._process.terminate()
        if self.stopped:
            self._process.resume()


def ask_to_leave(run_dir: RunDir) -> LeavingProcess | None:
    """Asks the process that drives the run to save and leave; None if nobody drives it.

    Raises RunError with the reason why nobody was asked. A second one would make it leave without saving.
    """
    import psutil

    if run_dir.path.is_symlink():
        raise RunError(f"not taken over: {run_dir.path} is a symbolic link, which is never followed for writing")
    driver = run_dir.driver()
    if driver is None:
        return None
    if driver.pid is None:
        raise RunError(f"not taken over: {run_dir.name} is driven by another process, {driver}")
    try:
        asked = LeavingProcess(process := psutil.Process(driver.pid))
        if (again := run_dir.driver()) is None:  # of the process that has the number now
            return None
        users, parents = process.uids(), {parent.pid for parent in psutil.Process().parents()}
        why = ""
        if {users.real, users.effective} != {os.geteuid()}:
            why = f"belongs to user {user_name(users.real)}"
        elif driver.pid <= 1 or driver.pid == os.getpid() or driver.pid in parents:
            why = "is this one, or one that it was started by" if driver.pid > 1 else "is the first of the system"
        elif again != driver or not driver.proven:
            why = "is not proven to hold its lock"
        elif os.lstat(run_dir.lock_file).st_nlink != 1:
            why = f"may do so of another run: {run_dir.lock_file} has a second name elsewhere (a hard link)"
        elif (status := run_dir.status()) is None or status.process.pid not in numbers_of(driver.pid):
            why = "is not the one that its status names: it may have begun just now"
        if why:
            raise RunError(f"not taken over: process {driver.pid}, which holds the run {run_dir.name}, {why}")
        asked.ask()
    except psutil.NoSuchProcess:
        return None
    except (psutil.AccessDenied, OSError) as error:
        raise RunError(f"not taken over: process {driver.pid}, which holds the run {run_dir.name}, may not be asked "
                       f"by this user") from error
    return asked
