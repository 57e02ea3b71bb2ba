"""A child process on a terminal of its own, for what a Pilot cannot show: bytes, signals, exit codes."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

from moments import PATIENCE


class Terminal:
    """The workbench in a child process, on a terminal of its own; what it writes is kept.

    hang_up: "told" of it by SIGHUP, as usual; not told since it is "ignored"; or since the terminal is "borrowed" and
    not the process's own, as under `su -c`.
    """

    def __init__(self, tmp_path: Path, program: str, rows: int = 40, columns: int = 120, hang_up: str = "told",
                 **environment: str) -> None:
        tests = Path(__file__).resolve().parents[1]
        self.pid, self.descriptor = _fork_with_borrowed_terminal() if hang_up == "borrowed" else pty.fork()
        if self.pid == 0:
            if hang_up == "ignored":
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
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

    def hang_up(self) -> float:
        """The terminal goes away. Waits for the child to leave; the share of a core that it used until then."""
        began, before = time.monotonic(), _seconds_used(self.pid)
        os.close(self.descriptor)
        self.descriptor = os.open(os.devnull, os.O_RDONLY)
        while not (ended := os.wait4(self.pid, os.WNOHANG))[0]:
            assert time.monotonic() < began + PATIENCE, "it did not leave"
            time.sleep(0.02)
        self.left = os.waitstatus_to_exitcode(ended[1])
        used = ended[2].ru_utime + ended[2].ru_stime - before
        return used / (time.monotonic() - began)

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


def _fork_with_borrowed_terminal() -> tuple[int, int]:
    """As `pty.fork`, but the terminal is not that of the child's session, which has none."""
    parent, child = pty.openpty()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        for descriptor in range(3):
            os.dup2(child, descriptor)
        os.close(parent)
    os.close(child)
    return pid, parent


def _seconds_used(pid: int) -> float:
    """Of processor time, by a process that still runs."""
    values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")
