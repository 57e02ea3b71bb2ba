"""What went wrong is kept and can be read; who looks elsewhere is told when a run has ended, and nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from textual.pilot import Pilot
from textual.widgets import Static
from tui.fake_session import Sessions
from tui.terminal import Terminal
from tui.test_hostile_screens import texts
from tui.test_hostile_text import hostile, is_harmless, shown_lines

from rlhf_engine.events import (
    Alarm,
    EditRefused,
    Event,
    Notice,
    RolledBack,
    RunState,
    StateChanged,
    StepFinished,
)
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.preferences.preferences_file import settings_path
from rlhf_tui.areas.system.alarms import AlarmsScreen, as_text, lines
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.engine.alarm_log import KEPT, AlarmLog, Entry
from rlhf_tui.terminal.notifications import LENGTH, RunWatch, sequence

NOON = datetime(2026, 5, 17, 12, 0, 0)
ALARM = Alarm(41, "kl", "KL is 19.2 nats per response, over twice its target of 8: raise kl.coef")


def ended(state: RunState, message: str = "") -> StateChanged:
    return StateChanged(state, 41, 100, message)


TRAINING = StateChanged(RunState.TRAINING, 0, 100)


class TestLog:
    def test_it_keeps_what_events_say_with_step_and_level(self) -> None:
        log = AlarmLog(lambda: NOON)
        log.take([StepFinished(40, 100, {}, (), 1.0), Notice("saved twice"), ALARM, EditRefused("kl.coef", "too large"),
                  RolledBack(30, "back at step 30"), Notice("slow", "warning"), ended(RunState.DIVERGED, "not finite"),
                  TRAINING])
        assert [(entry.step, entry.level, entry.text) for entry in log.entries] == [
            (40, "info", "saved twice"), (41, "warning", ALARM.text),
            (40, "warning", "kl.coef was not changed: too large"), (30, "warning", "back at step 30"),
            (30, "warning", "slow"), (41, "error", "not finite")]
        assert log.unread == 5

    def test_it_forgets_the_oldest(self) -> None:
        log = AlarmLog()
        log.take([Notice(str(number), "warning") for number in range(3 * KEPT)])
        assert (len(log.entries), log.unread) == (KEPT, KEPT)
        assert log.entries[-1].text == str(3 * KEPT - 1)

    def test_what_happened_before_has_no_time(self) -> None:
        log = AlarmLog()
        log.take([ALARM], earlier=True)
        assert "earlier" in as_text(log.entries)

    def test_a_level_of_a_newer_version_is_information(self) -> None:
        log = AlarmLog()
        log.take([Notice("x", "purple")])
        assert log.entries[0].level == "info"

    def test_what_an_event_brought_is_not_noted_once_more(self) -> None:
        log = AlarmLog()
        log.take([ALARM, Notice("two\nlines", "warning"), Notice("step", "warning")])
        for said in (f"step 41: {ALARM.text}", "two lines", "step 41: something else", "step 41: something else"):
            log.note_if_new(said, "warning")
        assert [entry.text for entry in log.entries][3:] == ["step 41: something else"]

    @pytest.mark.parametrize("width", [20, 40, 80])
    def test_a_long_text_goes_on_under_its_beginning(self, width: int) -> None:
        shown = [str(line) for line in lines([Entry(NOON, 7, "warning", "two words or more " * 9 + "\nend")], width)]
        assert shown[0].startswith("12:00:00 step 7    ⚠ two")
        assert all(line.startswith(" " * 21) and line[21] != " " for line in shown[1:])
        assert " ".join(" ".join(shown).split()).endswith("more end")


class TestRunWatch:
    @pytest.mark.parametrize(("state", "told"), [
        (RunState.FINISHED, "otter finished at step 41/100: why"),
        (RunState.FAILED, "otter failed at step 41/100: why"),
        (RunState.DIVERGED, "otter diverged at step 41/100: why"), (RunState.STOPPED, ""), (RunState.PAUSED, ""),
    ])
    def test_an_end_that_was_waited_for_is_told_once(self, state: RunState, told: str) -> None:
        watch = RunWatch()
        assert watch.take([TRAINING], "otter") == ""
        assert watch.take([ended(state, "why")], "otter") == told
        assert watch.take([ended(state, "why")], "otter") == ""

    def test_a_run_that_had_ended_before_is_no_news(self) -> None:
        assert RunWatch().take([TRAINING, ended(RunState.FINISHED)], "otter") == ""


class TestSequence:
    def test_terminals_are_told_in_the_way_they_know(self) -> None:
        assert sequence("done", {"TERM": "xterm"}) == "\x1b]9;rlhf-tui: done\x1b\\"
        assert sequence("done", {"TERM": "rxvt-unicode"}) == "\x1b]777;notify;rlhf-tui;done\x1b\\"
        assert sequence("done", {"VTE_VERSION": "7600", "TMUX": ""}) == "\x1b]777;notify;rlhf-tui;done\x1b\\"
        assert sequence("done", {"TMUX": "x"}) == "\x1bPtmux;\x1b\x1b]9;rlhf-tui: done\x1b\x1b\\\x1b\\"

    @settings(max_examples=200)
    @given(hostile, st.sampled_from(["xterm", "rxvt"]))
    def test_no_control_character_of_a_text_gets_in(self, text: str, terminal: str) -> None:
        said = sequence(text, {"TERM": terminal})
        body = said.removeprefix("\x1b]9;rlhf-tui: ").removeprefix("\x1b]777;notify;rlhf-tui;").removesuffix("\x1b\\")
        assert len(body) <= LENGTH < len(said) + LENGTH
        assert is_harmless(body)


async def show(pilot: Pilot[Any], *told: Event, sessions: Sessions) -> None:
    app = pilot.app
    assert isinstance(app, WorkbenchApp)
    if not sessions:
        await pilot.press("f5")
    for event in told:
        sessions.last.emit(event)
    app.show_events(app.bridge.drain())
    await pilot.pause()


async def test_warnings_are_counted_until_they_are_read(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await show(pilot, ALARM, Notice("by the way"), ALARM, sessions=sessions)
        line = shown_lines(app)[-2]
        assert line.rstrip().endswith("2 unread · a")
        assert "…" in line  # the sentence makes room
        await pilot.press("a")
        await pilot.pause()
        text = str(app.screen.query_one(Static).content)
        assert text.count(ALARM.text[:20]) == 2
        assert text.index("by the way") > text.index("KL is")
        await show(pilot, Notice("while it is open", "warning"), sessions=sessions)
        assert str(app.screen.query_one(Static).content).split("⚠ ")[1].startswith("while it is open")
        await pilot.press("w")
        assert "by the way" not in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)
        assert "unread" not in shown_lines(app)[-2]


async def test_what_the_alarm_line_cuts_can_be_read_in_the_log(app: WorkbenchApp) -> None:
    long = "this sentence about [/x] goes on for longer than a line of the terminal and ends with the word zebra"
    async with app.run_test(size=(80, 24)) as pilot:
        app.say("short", "warning")
        for _ in range(2):
            app.say(long, "warning")
            await pilot.pause()
        assert "zebra" not in shown_lines(app)[-2]
        assert shown_lines(app)[-2].rstrip().endswith("1 unread · a")
        await pilot.press("a")
        await pilot.pause()
        assert " ".join(str(app.screen.query_one(Static).content).split()).count("zebra") == 1
        assert [entry.text for entry in app.alarm_log.entries] == [long]
        await pilot.press("escape")
        app.say("eighty columns are enough for this sentence, and sixty are not: giraffe")
        await pilot.resize_terminal(60, 16)
        await pilot.pause()
        assert [entry.level for entry in app.alarm_log.entries] == ["warning", "info"]


async def test_an_empty_log_says_so(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("a")
        await pilot.pause()
        assert any("nothing to tell so far" in line for line in shown_lines(app))


async def test_any_text_is_only_shown(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await show(pilot, *(Notice(text, "warning") for text in texts(40)), sessions=sessions)
        await pilot.press("a")
        for _ in range(8):
            await pilot.pause()
            assert all(map(is_harmless, shown_lines(app)))
            await pilot.press("pagedown")


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (300, 100)])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await show(pilot, ALARM, sessions=sessions)
        await pilot.press("a")
        await pilot.pause()
        assert all(len(line) <= size[0] for line in shown_lines(app))


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.events import RunState
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import SaveCheckpoint
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["a"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})

    class Ends(FakeSession):
        def ask(self, request):
            super().ask(request)
            if isinstance(request, SaveCheckpoint):
                self.end(RunState.FAILED, "lost\\x1b]52;c;UEFZTE9BRA==\\x07\\x07\\x9b2J\\x1b\\\\ it")

    sys.exit(run_workbench(config, "animals", runs_root=Path("runs"), start=True, session_factory=Ends))
""")


def run_to_its_end(tmp_path: Path, how: str) -> bytes:
    settings_path().write_text(f'hint_seen = true\nnotifications = "{how}"\n')
    terminal = Terminal(tmp_path, CHILD, TMUX="", VTE_VERSION="")
    terminal.read_until(b"TRAINING")
    terminal.read_until_quiet(0.3)
    start = len(terminal.written)
    terminal.type("\x1b[20~")  # F9
    terminal.read_until(b"FAILED")
    terminal.read_until_quiet(0.4)
    written = terminal.written[start:]
    terminal.type("q")
    terminal.exit_code()
    return written


def test_a_terminal_is_told_with_clean_text_and_only_if_wanted(tmp_path: Path) -> None:
    written = run_to_its_end(tmp_path, "osc")
    assert written.count(b"\x1b]9;") == 1
    body = written.split(b"\x1b]9;")[1].split(b"\x1b")[0].decode()
    assert body == "rlhf-tui: brave-otter failed at step 0/100: lost␛]52;c;UEFZTE9BRA==␇␇\ufffd2J␛\\ it"
    assert b"\x07" not in written
    written = run_to_its_end(tmp_path, "bell")
    assert (written.count(b"\x07"), written.count(b"\x1b]9;")) == (1, 0)
    written = run_to_its_end(tmp_path, "off")
    assert (written.count(b"\x07"), written.count(b"\x1b]9;")) == (0, 0)


@pytest.mark.parametrize("size", [(120, 40), (80, 24)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_snapshot_of_the_log(
    snap_compare: Callable[..., bool], app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    moments = iter(NOON + timedelta(seconds=20 * number) for number in range(100))
    app.alarm_log = AlarmLog(lambda: next(moments))

    async def run(pilot: Pilot[Any]) -> None:
        await show(pilot, sessions=sessions)
        sessions.last.steps(40)
        rolled = RolledBack(20, "the loss was not finite at step 42: back at the checkpoint of step 20, with half the "
                                "step size")
        await show(pilot, Notice("memory: the micro-batch is 8 now"), ALARM, rolled,
                   ended(RunState.DIVERGED, "policy loss is not finite"), sessions=sessions)
        await pilot.press("a")
        await pilot.pause()
        assert isinstance(app.screen, AlarmsScreen)

    assert snap_compare(app, terminal_size=size, run_before=run)
