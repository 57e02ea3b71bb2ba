"""A child process on a terminal of its own, for what a Pilot cannot show: bytes, signals, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from moments import PATIENCE


class Terminal:
    """The workbench in a child process, on a terminal of its own; what it writes is kept."""

    def __init__(self, tmp_path: Path, program: str, rows: int = 40, columns: int = 120, **environment: str) -> None:
        tests = Path(__file__).resolve().parents[1]
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            os.chdir(tmp_path)
            os.environ.update({"TERM": "xterm-256color", "PYTHONPATH": str(tests.parent), **environment})
            os.execv(sys.executable, [sys.executable, "-c", program.format(tests=str(tests))])
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.written = b""

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
        while self.read(seconds):
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

    def exit_code(self) -> int:
        """Wait for the child, and read its last words; its exit code."""
        deadline = time.monotonic() + PATIENCE
        while True:
            pid, code = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.read(0.5)  # what lies in the terminal; it comes at once
                return os.waitstatus_to_exitcode(code)
            assert time.monotonic() < deadline, f"it did not leave; {self.written[-2000:]!r}"
            self.read(0.05)
