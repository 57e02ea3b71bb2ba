"""A child process on a terminal of its own, for what a Pilot cannot show: bytes, signals, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

from moments import PATIENCE, wait_until
from warm import ColdProcess, Process


class Terminal:
    """The workbench in a process of its own, on a terminal of its own; what it writes is kept.

    The process is a fork of an interpreter that has imported all; one that is not `warm` starts as a user's does.
    hang_up: "told" of it by SIGHUP, as usual; not told since it is "ignored"; or since the terminal is "borrowed" and
    not the process's own, as under `su -c`.
    """

    def __init__(self, tmp_path: Path, program: str, rows: int = 40, columns: int = 120, hang_up: str = "told",
                 warm: bool = True, **environment: str) -> None:
        tests = Path(__file__).resolve().parents[1]
        self.descriptor, theirs = pty.openpty()
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        begin = Process if warm else ColdProcess
        self._process = begin(
            ["-c", program.format(tests=str(tests))], cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
            environment=os.environ | {"TERM": "xterm-256color", "PYTHONPATH": str(tests.parent)} | environment,
            controlling=hang_up != "borrowed", ignores=[signal.SIGHUP] if hang_up == "ignored" else [])
        os.close(theirs)
        self.pid = self._process.pid
        self.written = b""

    @property
    def lives(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait for the process to leave, which it does without anyone reading; its exit code."""
        return self._process.wait()

    def read_until(self, wanted: bytes | Callable[[], bool]) -> bytes:
        """Read until `wanted` was written, or says so; all that was written so far."""
        deadline = time.monotonic() + PATIENCE
        while not (wanted() if callable(wanted) else wanted in self.written):
            assert time.monotonic() < deadline, f"{wanted!r} never came; got {self.written[-2000:]!r}"
            self.read(0.02)
        return self.written

    def read_until_quiet(self, seconds: float) -> None:
        """Read until nothing has come for so long."""
        deadline = time.monotonic() + PATIENCE
        while select.select([self.descriptor], [], [], seconds)[0] and self.read(0.01):
            assert time.monotonic() < deadline, f"it never rests; got {self.written[-2000:]!r}"

    def read(self, seconds: float) -> bytes:
        """What comes within `seconds`."""
        came, deadline = b"", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], left)[0]:
                try:
                    chunk = os.read(self.descriptor, 65536)
                except OSError:  # the child has left
                    break
                if not chunk:
                    break
                came += chunk
        self.written += came
        return came

    def type(self, keys: str) -> None:
        os.write(self.descriptor, keys.encode())

    def hang_up(self) -> float:
        """The terminal goes away. Waits for the child to leave; the share of a core that it used until then."""
        began, before = time.monotonic(), _seconds_used(self.pid)
        os.close(self.descriptor)
        self.descriptor = os.open(os.devnull, os.O_RDONLY)
        self.left = self.wait()
        return (self._process.seconds_used - before) / (time.monotonic() - began)

    def stop(self) -> None:
        """Let the process stand still, as Ctrl+Z does; returns when it does."""
        os.kill(self.pid, signal.SIGSTOP)
        self.wait_until_stopped()

    def wait_until_stopped(self) -> None:
        """Until the process stands still."""
        wait_until(lambda: _stat(self.pid)[0] == "T")

    def exit_code(self) -> int:
        """Wait for the process, and read its last words; its exit code."""
        deadline = time.monotonic() + PATIENCE
        while self.lives:
            assert time.monotonic() < deadline, f"it did not leave; {self.written[-2000:]!r}"
            self.read(0.02)
        while self.read(0.02):  # what still lies in the terminal
            pass
        return self.wait()


def _seconds_used(pid: int) -> float:
    """Of processor time, by a process that still runs."""
    values = _stat(pid)
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    """What the kernel says of a process, from its state on."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
