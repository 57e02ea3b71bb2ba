"""What the screen costs: time to the first frame, and training speed with and without it.

python -m benchmarks.screen [--pairs 2] [--steps 8]. Real processes on a pseudo-terminal of 120 × 40; runs with and
without the screen alternate, so that a busy machine touches both alike.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from rlhf_engine.run_dir import RunDir


def open_workbench(*options: str) -> tuple[int, int]:
    """Start the workbench on a pseudo-terminal; (process id, our end of the terminal)."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
        os.execv(sys.executable, [sys.executable, "-m", "rlhf_tui", *options])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    return process, terminal


def read_until(terminal: int, text: bytes, seconds: float) -> bool:
    """Read what the workbench writes until it contains `text`."""
    seen, deadline = b"", time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.05)[0]:
            try:
                seen += os.read(terminal, 65536)
            except OSError:
                return False
            if text in seen:
                return True
    return False


def first_frame(root: str) -> float:
    """Seconds from the start of the process to a screen with its panes."""
    started = time.monotonic()
    process, terminal = open_workbench("--runs-dir", root)
    drawn = read_until(terminal, b"Hyperparameters", 60)
    seconds = time.monotonic() - started
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    assert drawn, "no frame within a minute"
    return seconds


def speed(run: Path) -> float:
    """Median responses per second of a run's steps, the first left out."""
    return statistics.median(line.metrics["throughput/responses_per_s"] for line in RunDir.open(run).metrics()[1:])


def with_screen(root: str, steps: int) -> float:
    """Train in the workbench; its speed."""
    before = set(Path(root).iterdir())
    process, terminal = open_workbench("--runs-dir", root, "--start", "--set", f"train.steps={steps}")
    read_until(terminal, b"FINISHED", 600)
    os.write(terminal, b"q")
    read_until(terminal, b"\x00 never", 3)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(terminal)
    (run,) = set(Path(root).iterdir()) - before
    return speed(run)


def without_screen(root: str, steps: int) -> float:
    """Train from the command line; its speed."""
    command = [
        sys.executable,
        "-m",
        "rlhf_engine",
        "train",
        "animals",
        "--runs-dir",
        root,
        "--set",
        f"train.steps={steps}",
        "--json",
    ]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return speed(Path(json.loads(printed.splitlines()[-1])["path"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        frames = [first_frame(root) for _ in range(5)]
        print(
            f"first frame: median {statistics.median(frames):.2f} s, worst {max(frames):.2f} s of {len(frames)}",
            flush=True,
        )
        plain, shown = [], []
        for _ in range(args.pairs):
            plain.append(without_screen(root, args.steps))
            shown.append(with_screen(root, args.steps))
    print(f"training without the screen: {statistics.median(plain):.1f} responses/s {[round(x, 1) for x in plain]}")
    print(f"training with the screen:    {statistics.median(shown):.1f} responses/s {[round(x, 1) for x in shown]}")
    print(f"ratio: {statistics.median(shown) / statistics.median(plain):.3f}")


if __name__ == "__main__":
    main()
