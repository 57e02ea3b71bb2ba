"""A storm against the screen: the real workbench on a terminal, training, under a rain of keys, pastes, clicks, sizes.

It must answer throughout, train on, leave when asked, and leave whole runs behind.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import signal
import struct
import termios
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tui.terminal import Terminal

from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import list_runs

PROGRAM = """
import sys
sys.argv = ["rlhf-tui", "--start", "--set", "train.steps=1000000", "--set", "train.checkpoint_every=5"]
from rlhf_tui.cli import main
main()
"""

ESCAPE, ENTER, TAB, BACKSPACE = "\x1b", "\r", "\t", "\x7f"
ARROWS = ("\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b[5~", "\x1b[6~", "\x1b[H", "\x1b[F")
# q and d leave; everything else that a hand may hit is hit
LETTERS = [letter for letter in "abcefghijklmnoprstuvwxyzSTYNGCPRIL0123456789/?.,*+-=[]" if letter not in "qd"]
PASTES = ("fox, owl; bear\nrabbit", "999999999999", "-1", "nan", "[/b][@click=app.bell]x", "\u202ereversed", "0.5",
          "\x07\x9b31m", "🦊" * 20)
LONGEST_SILENCE = 60.0  # seconds; a screen that says nothing for longer has hung
ROOM = (120, 40)


@dataclass
class Weather:
    """What came of a storm. `answer`: seconds from a key that must draw something to the first byte, one a check."""

    seconds: float = 0.0
    actions: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    steps: int = 0
    edits: int = 0
    answers: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)
    """Resident bytes at each check."""


def storm(root: Path, seconds: float, seed: int) -> Weather:
    """Raises AssertionError when the workbench dies, hangs, does not leave, or leaves a run that is not whole."""
    home = {name: str(root / "home") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME")}
    terminal = Terminal(root, PROGRAM, rows=ROOM[1], columns=ROOM[0], **home)
    dice, weather = random.Random(seed), Weather()
    runs_root = root / "runs"
    _wait(lambda: any(run.step > 0 for run in list_runs(runs_root)), terminal)
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        for _ in range(40):
            kind = dice.choices(list(_ACTIONS), [weight for weight, _ in _ACTIONS.values()])[0]
            _ACTIONS[kind][1](terminal, dice)
            weather.actions[kind] += 1
            _drain(terminal, dice.uniform(0.0, 0.1))
        weather.answers.append(_answer(terminal))
        weather.memory.append(_resident(terminal.pid))
        _keep_training(terminal, runs_root)
    weather.seconds = time.monotonic() - began
    _leave(terminal)
    _look_at(runs_root, weather)
    return weather


# --- what rains ---


def _resize(terminal: Terminal, dice: random.Random) -> None:
    _set_size(terminal, dice.choice([20, 59, 60, 80, 99, 100, 120, dice.randint(5, 300)]),
              dice.choice([5, 15, 16, 24, 29, 30, 40, dice.randint(3, 100)]))


def _keys(terminal: Terminal, dice: random.Random) -> None:
    terminal.type("".join(dice.choices([*LETTERS, *ARROWS, TAB, ENTER, BACKSPACE], k=dice.randint(1, 8))))


def _edit(terminal: Terminal, dice: random.Random) -> None:
    """To a row of the form, and something into it that may or may not be allowed."""
    terminal.type(ESCAPE)
    _drain(terminal, 0.15)  # alone, an escape is a key only after a while
    terminal.type("1" + "\x1b[B" * dice.randint(0, 30) + ENTER + BACKSPACE * 12)
    terminal.type(dice.choice(["0.3", "1e-4", "7", "abc", "-5", "none", "true", "0", "1e99"]) + ENTER)


def _pause(terminal: Terminal, dice: random.Random) -> None:
    terminal.type(ESCAPE)
    _drain(terminal, 0.15)
    terminal.type("2 ")
    _drain(terminal, dice.uniform(0.0, 0.5))
    terminal.type(" ")


def _paste(terminal: Terminal, dice: random.Random) -> None:
    terminal.type(f"\x1b[200~{dice.choice(PASTES)}\x1b[201~")


def _click(terminal: Terminal, dice: random.Random) -> None:
    rows, columns, *_ = struct.unpack("HHHH", fcntl.ioctl(terminal.descriptor, termios.TIOCGWINSZ, bytes(8)))
    if rows > 4:
        x, y = dice.randint(1, columns), dice.randint(1, rows - 3)  # the last rows hold the key for leaving
        terminal.type(f"\x1b[<0;{x};{y}M\x1b[<0;{x};{y}m")


def _function_key(terminal: Terminal, dice: random.Random) -> None:
    terminal.type(dice.choice(["\x1b[20~"] * 8 + ["\x1bOQ"] * 3 + ["\x1b[15~"]))  # F9, F2; F5 stops, starts again


def _halt(terminal: Terminal, dice: random.Random) -> None:
    """Asked to stop, for which there is no shell here; or stopped by another process, and continued."""
    if dice.random() < 0.5:
        os.kill(terminal.pid, signal.SIGTSTP)
        return
    terminal.stop()
    os.kill(terminal.pid, signal.SIGCONT)


_ACTIONS: dict[str, tuple[int, Callable[[Terminal, random.Random], None]]] = {
    "resize": (6, _resize), "keys": (10, _keys), "edit": (4, _edit), "pause": (2, _pause), "paste": (2, _paste),
    "click": (3, _click), "function key": (1, _function_key), "halt": (1, _halt),
    "escape": (4, lambda terminal, _: terminal.type(ESCAPE)),
}


# --- the terminal ---


def _set_size(terminal: Terminal, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


def _drain(terminal: Terminal, seconds: float) -> None:
    terminal.read(seconds)
    assert b"Traceback (most recent call last)" not in terminal.written, _last_words(terminal)
    assert terminal.lives, f"the workbench has left: {_last_words(terminal)}"
    terminal.written = terminal.written[-20_000:]  # its last words, should it die


def _answer(terminal: Terminal) -> float:
    """Back to the workbench at its usual size; the time that it takes to draw a pane that was asked for."""
    _set_size(terminal, *ROOM)
    for _ in range(6):  # out of fields, screens and dialogs
        terminal.type(ESCAPE)
        _drain(terminal, 0.15)
    _drain(terminal, 0.5)
    began = time.monotonic()
    terminal.type("3")
    terminal.type("4")
    while not terminal.read(0.01):
        _drain(terminal, 0.0)
        assert time.monotonic() < began + LONGEST_SILENCE, "the screen hangs"
    return time.monotonic() - began


def _keep_training(terminal: Terminal, runs_root: Path) -> None:
    """A run that the rain stopped is followed by another, with the settings of a preset; one that it held goes on."""
    runs = list_runs(runs_root)  # none when the rain has thrown them away
    state = runs[0].state if runs else ""
    if state == "paused":
        terminal.type("2 ")
    elif state not in ("loading", "training", "stopping"):
        terminal.type("p")
        _drain(terminal, 0.5)
        terminal.type(ENTER)
        _drain(terminal, 0.5)
        terminal.type("\x1b[15~")  # F5
        _drain(terminal, 0.5)


def _last_words(terminal: Terminal) -> str:
    terminal.read(1.0)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.written.decode(errors="replace"))


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _wait(true: Callable[[], bool], terminal: Terminal, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        _drain(terminal, 0.2)


def _leave(terminal: Terminal) -> None:
    """Ask to leave, and answer the question; a run is saved first."""
    _answer(terminal)
    terminal.written = b""
    terminal.type("q")
    deadline = time.monotonic() + LONGEST_SILENCE
    while terminal.lives and b"A run is in progress" not in terminal.written and time.monotonic() < deadline:
        terminal.read(0.1)
    with suppress(OSError):  # without a run it does not ask
        terminal.type(ENTER)
    gone = time.monotonic() + 120.0
    while terminal.lives:
        assert time.monotonic() < gone, f"it did not leave: {_last_words(terminal)}"
        terminal.read(0.1)
    assert terminal.exit_code() == 0


def _look_at(runs_root: Path, weather: Weather) -> None:
    """Every run is whole: each step once, in order, each checkpoint as it was written."""
    for summary in list_runs(runs_root):
        run_dir = RunDir.open(summary.path)
        steps = [line.step for line in run_dir.metrics()]
        assert steps == list(range(1, len(steps) + 1)), f"{summary.name}: {steps}"
        told = f"{summary.name}: {summary.state}: {summary.message}"
        # what is typed at random may well break a run, but its end must be told, and be no fault of ours
        assert summary.state in ("stopped", "finished", "failed", "diverged"), told
        assert "a bug" not in summary.message, told
        for path in checkpoint.candidates(run_dir):
            checkpoint.load(path)
        weather.runs += 1
        weather.steps += len(steps)
        weather.edits += len(run_dir.edits())
