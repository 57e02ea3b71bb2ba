"""What child processes, libraries and reward functions write while there is a screen: into a log, and never onto it."""

from __future__ import annotations

import os
import re
import signal
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from moments import trusted, wait_until
from tui.fake_session import Sessions
from tui.terminal import Terminal
from tui.test_generate import shown
from tui.test_leaving import IDLE, TRAINING

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunStarted, StepProgress
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp


async def eventually(pilot: Any, true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        await pilot.pause(0.05)
    raise AssertionError(shown(pilot.app))


LOUD = textwrap.dedent("""
    import os

    from rlhf_engine.requests import SaveCheckpoint

    class Loud(Slow):
        def ask(self, request):
            if isinstance(request, SaveCheckpoint):
                os.system("echo from a child; echo from a child >&2")
                os.write(2, b"from a library\\n")
                threading.Thread(target=print, args=("from a thread",)).start()
            super().ask(request)

    code = run_workbench""").strip()


def loud(program: str) -> str:
    return program.replace("code = run_workbench", LOUD).replace("session_factory=Slow", "session_factory=Loud")


def test_nothing_that_others_write_reaches_the_screen(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, loud(TRAINING), rows=33, columns=111, HOME=str(tmp_path),
                        XDG_STATE_HOME=str(tmp_path / "state"))
    terminal.read_until(b"TRAINING")
    terminal.type("\x1b[20~")  # F9
    terminal.read_until(b"checkpoint of step")
    terminal.type("\x0c")  # Ctrl+L draws all again: the size is still that of the terminal, which 1 and 2 are not
    terminal.read_until(b"\x1b[2J")
    again = terminal.written.rindex(b"\x1b[2J")
    for name in (b"Hyperparameters", b"checkpoint of step"):
        wait_until(lambda name=name: terminal.read(0.1) is not None and name in terminal.written[again:],  # type: ignore[misc]
                   lambda: terminal.written[again:])
    terminal.type("qq")
    assert terminal.exit_code() == 0
    assert b"from a" not in terminal.written
    assert b"is saved at step" in terminal.written  # what is said afterwards is for whoever sits there
    (log,) = tmp_path.glob("state/**/output.log")
    assert log.read_text().count("from a child\n") == 2
    assert "from a library\n" in log.read_text()
    assert "from a thread\n" in log.read_text()


def test_the_terminal_is_everyones_again_while_the_screen_is_put_away(tmp_path: Path) -> None:
    program = IDLE.replace("code = run_workbench", textwrap.dedent("""
        import os
        from rlhf_tui.app import WorkbenchApp

        def edit(self):
            with self.suspend():
                os.system("echo an editor")
            os.system("echo no editor")
            self.say("came back")

        WorkbenchApp.action_help = edit
        code = run_workbench""").strip())
    terminal = Terminal(tmp_path, program, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    terminal.read_until(b"IDLE")
    terminal.type("?")
    terminal.read_until(b"came back")
    assert b"an editor" in terminal.written
    assert b"no editor" not in terminal.written
    terminal.type("q")
    assert terminal.exit_code() == 0


async def test_the_log_of_the_run_is_shown_clean_and_followed(
    app: WorkbenchApp, sessions: Sessions, config: RunConfig, tmp_path: Path
) -> None:
    run_dir = RunDir.create(tmp_path / "runs", config, name="mine")
    log = run_dir.path / "output.log"
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.pause()
        sessions.last.emit(RunStarted("mine", str(run_dir.path), config, 0))
        app.show_events(app.bridge.drain())
        await pilot.press("L")
        await pilot.pause()
        assert "nothing was printed so far" in shown(app)
        log.write_text("10%\r20%\r30% of it\n\x1b[2Jevil [/x]\n" + "line\n" * 200 + "Traceback: the last\n")
        await eventually(pilot, lambda: "Traceback: the last" in shown(app))
        await pilot.press("home")
        await eventually(pilot, lambda: "␛[2Jevil [/x]" in shown(app))
        assert "30% of it" in shown(app)
        assert "20%" not in shown(app)
        log.write_text(log.read_text() + "more\n")
        await pilot.pause(1.5)
        assert "30% of it" in shown(app)  # whoever reads further up stays there
        await pilot.press("end")
        await eventually(pilot, lambda: "more" in shown(app))
        await pilot.press("escape")
        await pilot.press("a")
        await pilot.press("L")
        await eventually(pilot, lambda: "more" in shown(app))


@pytest.mark.slow
def test_a_reward_that_writes_in_every_way_trains_below_an_untouched_screen(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(textwrap.dedent("""
        import os, sys
        from helpers import points
        def score(prompts, responses):
            print("printed it")
            print("said it", file=sys.stderr)
            os.system("echo forked it")
            return [points(text) for text in responses]
        """))
    (tmp_path / "helpers.py").write_text("def points(text): return float(len(text))\n")
    trusted(tmp_path / "own.py")
    (tmp_path / "mine.toml").write_text(textwrap.dedent("""
        prompts = ["Once upon a time"]
        [train]
        steps = 2
        [sampling]
        max_new_tokens = 4
        [algorithm]
        responses_per_step = 2
        minibatch_size = 2
        [[rewards]]
        kind = "function"
        name = "own"
        function = "own.py:score"
        """))
    program = ("import sys\nsys.argv = ['rlhf-tui', '--preset', './mine.toml', '--start']\n"
               "from rlhf_tui.cli import main\nmain()\n")
    terminal = Terminal(tmp_path, program, HOME=str(tmp_path), XDG_STATE_HOME=str(tmp_path / "state"))
    try:
        terminal.read_until(b"finished (2/2)")
        terminal.type("L")
        terminal.read_until(b"forked it")
        terminal.type("\x1b")
        terminal.read(1.0)
        terminal.type("q")
        assert terminal.exit_code() == 0
    finally:
        with suppress(ProcessLookupError):
            os.kill(terminal.pid, signal.SIGKILL)
    (run,) = (tmp_path / "runs").iterdir()
    log = (run / "output.log").read_text()
    for line in ("printed it", "said it", "forked it"):
        assert log.count(f"{line}\n") >= 2


async def test_a_reward_that_takes_its_time_is_named_with_its_seconds(
    app: WorkbenchApp, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_tui.engine.run_view.SLOW_SECONDS", 0.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        sessions.last.ask = lambda request: None  # type: ignore[method-assign]  # an engine within a step hears nothing
        sessions.last.emit(StepProgress(1, "reward", 0.0))
        app.show_events(app.bridge.drain())
        await eventually(pilot, lambda: re.search(r"reward [1-9]\d* s", shown(app)) is not None)
        await pilot.press("q", "q")
        await eventually(pilot, lambda: re.search(r"finishing step 1 \(reward \d+ s so far\)", shown(app)) is not None)
        sessions.last.emit(StepProgress(1, "score", 0.0))
        app.show_events(app.bridge.drain())
        await eventually(pilot, lambda: re.search(r"reward \d+ s", shown(app)) is None)
        sessions.last.release()
