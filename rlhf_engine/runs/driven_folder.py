"""Work of many runs (a sweep, a pipeline) that one process at a time drives, and the commands that it consists of: each
a process of its own, that leaves what it prints in a log. Nothing here imports torch.

A command outlives a driver that is killed, and for some seconds leaves nothing else to be known by: neither a run nor a
label file. So it holds its log, by the lock of the descriptor that it prints to, until it ends.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.errors import RunError
from rlhf_engine.files.disk import os_error_reason, writing
from rlhf_engine.files.file_locks import try_lock
from rlhf_engine.files.own_files import make_folder, open_to_add
from rlhf_engine.files.reading import open_regular
from rlhf_engine.model_folders import remote_code
from rlhf_engine.runs import run_lock, trust
from rlhf_engine.runs.run_driver import Driver, find_driver
from rlhf_engine.system.own_process import environment, python

_MOST_LOG = 64 * 1024  # bytes at the end of a log that are read


@dataclass(frozen=True)
class DrivenFolder:
    """kind: what it is called in sentences, and its lock by, <kind>.lock."""

    path: Path
    kind: str

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the work. Raises RunError, naming the process, while another one drives it."""
        try:
            with run_lock.hold(self.path / f"{self.kind}.lock", self.path.name):
                yield
        except RunError as error:
            raise RunError(str(error).replace("The run ", f"The {self.kind} ", 1)) from None

    def driver(self) -> Driver | None:
        """The process that drives it; None if none does."""
        return find_driver(self.path / f"{self.kind}.lock")

    def log_of(self, command: str | None = None) -> Path:
        """Where the log of a command lies, or of the whole where that prints to no terminal."""
        return self.path / "output.log" if command is None else self.path / "logs" / f"{command}.log"

    def open_log(self, command: str | None = None) -> int:
        """A descriptor of that log, to add to. Raises RunError."""
        path = self.log_of(command)
        with writing(path):
            make_folder(path.parent)
            return open_to_add(path)

    def running(self, command: str) -> bool:
        """Whether a process of that command is at work, also one that a killed driver began. For the driver alone."""
        try:
            with open_regular(self.log_of(command)) as log:
                return not try_lock(log.fileno())
        except OSError:  # never begun; or a disk that knows no locks
            return False

    def start(self, words: Sequence[str], command: str | None = None) -> OwnCommand:
        """Begins a command of ours, which may run code that was trusted here, with its output in its log. Raises
        RunError."""
        log = self.open_log(command)
        try:
            with suppress(OSError):  # a disk that knows no locks
                if command is not None and not try_lock(log):
                    raise RunError(f"{command} of the {self.kind} {self.path.name} is at work already.")
            begin = os.fstat(log).st_size
            # a session of its own: Ctrl+C at a terminal, or its end, does not reach it but through who drives it
            process = subprocess.Popen(
                python("rlhf_engine", [*words, *remote_code.arguments(), *trust.arguments()]),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment(), start_new_session=True)
        except OSError as error:
            what = f"{command} of the {self.kind} {self.path.name}" if command else f"The {self.kind} {self.path.name}"
            raise RunError(f"{what} could not be begun: {os_error_reason(error)}.") from error
        finally:
            os.close(log)
        return OwnCommand(process, self.log_of(command), begin)


@dataclass(frozen=True)
class OwnCommand:
    """A command under way, or at its end. log_begin: bytes of its log that are of others before it."""

    process: subprocess.Popen[bytes]
    log: Path
    log_begin: int

    def last_error(self) -> str:
        """What it said last: the last line of its log that is an error, or else that says anything; "" for none."""
        try:
            with open_regular(self.log) as file:
                file.seek(max(self.log_begin, os.fstat(file.fileno()).st_size - _MOST_LOG))
                lines = file.read(_MOST_LOG).decode(errors="replace").splitlines()
        except OSError:
            return ""
        said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return said[-1] if said else next((line for line in reversed(lines) if line.strip()), "")
