"""Starting and leaving, as the terminal and the operating system see it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from moments import wait_until
from tui.terminal import Terminal

CHILD = textwrap.dedent("""
    import sys, threading, time
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import Close, Start
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["a"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})

    class Slow(FakeSession):
        # a step takes a moment; what is saved after it, a test can read
        def ask(self, request):
            if isinstance(request, Close):
                seconds = float(Path("seconds").read_text()) if Path("seconds").exists() else 0.7
                threading.Timer(seconds, self.save).start() if self.busy else self.release()
                return
            super().ask(request)
            if isinstance(request, Start):
                self.steps(3)

        def save(self):
            Path("saved").write_text("step 4")
            self.release()

    code = run_workbench(config, "animals", runs_root=Path("runs"), start=START, session_factory=Slow)
    Path("code").write_text(str(code))
    sys.exit(code)
""")
TRAINING, IDLE = CHILD.replace("START", "True"), CHILD.replace("START", "False")


def start(tmp_path: Path, program: str = TRAINING, **environment: Any) -> Terminal:
    terminal = Terminal(tmp_path, program, **environment)
    terminal.read_until(b"TRAINING" if "start=True" in program else b"IDLE")
    return terminal


def test_a_request_to_terminate_saves_and_exits_143(tmp_path: Path) -> None:
    terminal = start(tmp_path)
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.exit_code() == 143
    assert (tmp_path / "saved").exists()
    assert b"\x1b[?1049l" in terminal.written  # the terminal is as it was


def test_a_second_request_leaves_at_once(tmp_path: Path) -> None:
    (tmp_path / "seconds").write_text("60")
    terminal = start(tmp_path)
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.read_until(b"saving")
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.exit_code() == 143
    assert not (tmp_path / "saved").exists()


def test_a_terminal_that_goes_away_does_not_take_the_run_with_it(tmp_path: Path) -> None:
    terminal = start(tmp_path)
    os.close(terminal.descriptor)
    wait_until((tmp_path / "saved").exists)
    assert terminal.wait() == 129


EDITOR = """
import os, signal, time
from pathlib import Path

signal.signal(signal.SIGHUP, signal.SIG_IGN)
workbench = os.getppid()
Path("edits").touch()
while os.getppid() == workbench:
    time.sleep(0.02)
"""


@pytest.mark.parametrize(("how", "over"), [("borrowed", ""), ("ignored", "?"), ("borrowed", "q")],
                         ids=["at work", "under help", "while it asks"])
def test_a_terminal_that_goes_away_untold_is_noticed(tmp_path: Path, how: str, over: str) -> None:
    (tmp_path / "seconds").write_text("1.5")  # of its leaving it does nothing but wait
    terminal = start(tmp_path, hang_up=how)
    terminal.type(over)
    terminal.read_until_quiet(0.3)
    assert terminal.hang_up() < 0.5
    assert terminal.left == 129
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("how", ["borrowed", "ignored"])
def test_a_workbench_at_rest_whose_terminal_goes_away_untold_leaves(tmp_path: Path, how: str) -> None:
    terminal = start(tmp_path, IDLE, hang_up=how)
    if how == "ignored":
        os.kill(terminal.pid, signal.SIGHUP)  # as nohup wants it
    terminal.read_until_quiet(0.3)
    terminal.hang_up()
    assert terminal.left == 129


def test_an_editor_that_stays_without_its_terminal_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "editor.py").write_text(EDITOR)
    terminal = start(tmp_path, hang_up="borrowed", VISUAL=f"{sys.executable} editor.py")
    terminal.type("E")
    terminal.read_until((tmp_path / "edits").exists)
    assert terminal.hang_up() < 0.5
    assert terminal.left == 129
    assert (tmp_path / "saved").exists()


def test_a_terminal_that_goes_away_during_a_halt_is_noticed_after_it(tmp_path: Path) -> None:
    terminal = start(tmp_path, hang_up="borrowed")
    terminal.stop()
    threading.Timer(0.5, os.kill, [terminal.pid, signal.SIGCONT]).start()
    terminal.hang_up()
    assert terminal.left == 129
    assert (tmp_path / "saved").exists()


GONE_WHILE_DRAWING = """
    import os
    from rlhf_tui.app import WorkbenchApp

    def draws(app):
        Path("draws").touch()
        while os.isatty(0):
            time.sleep(0.01)
        for _ in range(100):
            app._driver.write("x")

    WorkbenchApp.action_help = draws
    code = run_workbench"""


def test_a_terminal_that_goes_away_in_the_middle_of_a_frame_holds_nothing_up(tmp_path: Path) -> None:
    terminal = start(tmp_path, TRAINING.replace("code = run_workbench", textwrap.dedent(GONE_WHILE_DRAWING).strip()))
    terminal.type("?")
    terminal.read_until((tmp_path / "draws").exists)
    os.close(terminal.descriptor)
    terminal.descriptor = os.open(os.devnull, os.O_RDONLY)
    assert terminal.exit_code() == 129
    assert (tmp_path / "saved").exists()


THREADS = """
    import threading
    from rlhf_tui.app import WorkbenchApp

    def told(app):
        Path("threads").write_text(" ".join(sorted(thread.name for thread in threading.enumerate())))

    WorkbenchApp.action_help = told
    code = run_workbench"""


@pytest.mark.parametrize("how", ["stopped", "asked to stop, where no shell could let it go on", "not stopped"])
def test_going_on_after_a_halt_takes_the_terminal_up_once(tmp_path: Path, how: str) -> None:
    terminal = start(tmp_path, TRAINING.replace("code = run_workbench", textwrap.dedent(THREADS).strip()))
    terminal.read_until_quiet(0.3)
    drawn = len(terminal.written)
    if how.startswith("asked"):
        os.kill(terminal.pid, signal.SIGTSTP)
    else:
        if how == "stopped":
            terminal.stop()
        os.kill(terminal.pid, signal.SIGCONT)
    terminal.read_until(lambda: b"TRAINING" in terminal.written[drawn:].rpartition(b"\x1b[?1049h")[2])
    terminal.type("?")
    terminal.read_until(lambda: (tmp_path / "threads").exists() and (tmp_path / "threads").read_text() != "")
    threads = (tmp_path / "threads").read_text().split()
    assert threads.count("textual-input") == threads.count("textual-output") == 1
    os.kill(terminal.pid, signal.SIGTERM)
    assert terminal.exit_code() == 143


def test_quitting_in_a_real_terminal(tmp_path: Path) -> None:
    terminal = start(tmp_path)
    terminal.type("q")
    terminal.read_until(b"A run is in progress")
    terminal.type("q")
    terminal.read_until(b"saving")
    assert terminal.exit_code() == 0
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize(("by_signal", "told"), [(False, b"resume brave-otter"), (True, b"attach brave-otter")])
def test_whoever_leaves_a_run_is_told_where_it_stands(tmp_path: Path, by_signal: bool, told: bytes) -> None:
    told_how_it_ended = TRAINING.replace("self.release()\n\n", 'self.end(RunState.STOPPED)\n        self.release()\n\n')
    terminal = start(tmp_path, "from rlhf_engine.events import RunState\n" + told_how_it_ended)
    if by_signal:
        os.kill(terminal.pid, signal.SIGTERM)
    else:
        terminal.type("q")
        terminal.read_until(b"A run is in progress")
        terminal.type("q")
    assert terminal.exit_code() == (143 if by_signal else 0)
    after = terminal.written.rpartition(b"\x1b[?1049l")[2]
    assert b"run brave-otter is saved at step 3 of 100" in after
    assert told in after


def test_whoever_leaves_after_stopping_is_told_where_the_run_stands(tmp_path: Path) -> None:
    terminal = start(tmp_path)
    terminal.type("\x1b[15~")
    terminal.read_until(b"STOPPED")
    terminal.type("q")
    assert terminal.exit_code() == 0
    after = terminal.written.rpartition(b"\x1b[?1049l")[2]
    assert b"run brave-otter is saved at step 3 of 100; this continues it" in after


def test_leaving_at_once_does_not_wait_for_the_engine(tmp_path: Path) -> None:
    (tmp_path / "seconds").write_text("60")
    terminal = start(tmp_path)
    terminal.type("q")
    terminal.read_until(b"A run is in progress")
    terminal.type("q")
    terminal.read_until(b"saving")
    terminal.type("q")
    assert terminal.exit_code() == 0


UNDRAWABLE = """
    from rich.style import Style
    from rlhf_tui.app import WorkbenchApp

    def broken(app):
        half_made = object.__new__(Style)  # a report that draws the locals dies of this one
        raise ZeroDivisionError("the first cause")

    WorkbenchApp.action_help = broken
    code = run_workbench"""


def test_a_crash_of_the_screen_tells_its_cause_saves_the_run_and_keeps_a_log(tmp_path: Path) -> None:
    program = TRAINING.replace("code = run_workbench", textwrap.dedent(UNDRAWABLE).strip())
    terminal = Terminal(tmp_path, program, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    terminal.read_until(b"TRAINING")
    terminal.type("?")
    assert terminal.exit_code() == 1
    assert b"ZeroDivisionError: the first cause" in terminal.written
    assert b"half_made" not in terminal.written
    assert (tmp_path / "saved").exists()
    (log,) = tmp_path.glob("state/**/crash-*.log")
    assert "the first cause" in log.read_text()


@pytest.mark.parametrize("program", [IDLE, TRAINING], ids=["idle", "training"])
def test_nothing_is_sent_while_nothing_happens(tmp_path: Path, program: str) -> None:
    terminal = start(tmp_path, program)
    terminal.read_until_quiet(1.3)  # whatever blinked, counted or ran would never be quiet for so long
    terminal.type("qqq")
    terminal.exit_code()


def test_without_colours_states_still_read(tmp_path: Path) -> None:
    terminal = start(tmp_path, NO_COLOR="1")
    assert "● TRAINING".encode() in terminal.written
    terminal.type("qqq")
    terminal.exit_code()


def test_without_a_terminal_it_says_what_it_needs(tmp_path: Path) -> None:
    tests = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", IDLE.format(tests=str(tests))], cwd=tmp_path, capture_output=True,
                          stdin=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(tests.parent)}, timeout=200)
    assert done.returncode == 2
    assert b"needs a terminal" in done.stdout
    assert b"Traceback" not in done.stderr


def test_the_app_is_imported_without_the_heavy_libraries() -> None:
    heavy = "torch", "transformers", "peft", "safetensors", "numpy", "plotext"
    code = f"import rlhf_tui.launch, sys; print([name for name in {heavy!r} if name in sys.modules])"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=200)
    assert done.stdout.strip() == "[]"


def test_the_first_frame_does_not_wait_for_the_engine(tmp_path: Path) -> None:
    slow = """    def __init__(self, emit):
        while not Path("may").exists():
            time.sleep(0.01)
        super().__init__(emit)

    def ask(self, request):"""
    terminal = start(tmp_path, IDLE.replace("    def ask(self, request):", slow))  # it is drawn, and no engine is made
    (tmp_path / "may").touch()
    terminal.type("q")
    assert terminal.exit_code() == 0


def test_the_screen_opens_with_one_whole_frame(tmp_path: Path) -> None:
    terminal = start(tmp_path, IDLE)
    terminal.read_until(b"actor lr")
    terminal.read_until_quiet(1.0)
    assert terminal.written.count(b"2 Charts") == 1  # the title stands in whole frames only
    terminal.type("q")
    assert terminal.exit_code() == 0
