"""The workbench as a real process on a pseudo-terminal of 120 × 40: what it writes, and what it costs."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

Measured = dict[str, float]

ROOT = Path(__file__).parent.parent


class Workbench:
    """`rlhf-tui` with `options`, started in `folder`, where its compiled modules and its runs are kept too."""

    def __init__(self, folder: str, *options: str) -> None:
        self.written = b""
        # as for someone who is not new here; the settings of whoever measures must not count
        settings = Path(folder, "config", "rlhf-tui", "settings.toml")
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text("hint_seen = true\n")
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            os.chdir(folder)
            os.environ |= {
                "TERM": "xterm-256color",
                "COLORTERM": "truecolor",
                "XDG_CONFIG_HOME": os.path.join(folder, "config"),
                "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
                # as installed: modules are compiled once
                "PYTHONPYCACHEPREFIX": os.path.join(folder, "compiled"),
            }
            os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
            os.execv(sys.executable, [sys.executable, "-m", "rlhf_tui", *options])
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._terminal)

    def read_until(self, text: bytes, seconds: float) -> float:
        """Seconds until what comes from now on contains `text`. Raises TimeoutError."""
        came, began = b"", time.monotonic()
        while text not in came:
            left = began + seconds - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"{text!r} did not come within {seconds} s; last came {self.written[-300:]!r}")
            came += self.read_some(left)
        return time.monotonic() - began

    def read(self, seconds: float) -> bytes:
        """What it writes within `seconds`."""
        came, deadline = b"", time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            came += self.read_some(left)
        return came

    def type(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    @property
    def cpu_seconds(self) -> float:
        """Processor time it has used so far, all its threads together."""
        words = Path(f"/proc/{self._process}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def resident_mb(self) -> float:
        """Megabytes (2^20 bytes) of memory that it holds."""
        return int(Path(f"/proc/{self._process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def read_some(self, seconds: float) -> bytes:
        """What it writes next, after `seconds` at most."""
        if not select.select([self._terminal], [], [], seconds)[0]:
            return b""
        chunk = os.read(self._terminal, 65536)
        self.written += chunk
        return chunk


def idle_and_training(
    preset: str, idle: Callable[[Workbench], Measured], training: Callable[[Workbench], Measured]
) -> dict[str, Measured]:
    """What each finds in a workbench of its own: one that does nothing, and one that trains `preset`, charts drawn."""
    with tempfile.TemporaryDirectory() as folder:
        options = ("--preset", preset, "--runs-dir", folder, "--set", "train.steps=100000")
        with Workbench(folder, *options) as workbench:
            workbench.read_until(b"actor lr", 60)
            workbench.read(2)
            found = {"idle": idle(workbench)}
        with Workbench(folder, *options, "--start") as workbench:
            workbench.read_until(b"TRAINING", 120)
            workbench.read_until(b"resp/s", 120)  # the first step is done, the charts draw
            found["training"] = training(workbench)
    return found
