"""Text that tries to command the terminal, or to be read as markup, is only shown."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scale import few_or_many
from tui.fake_session import Sessions
from tui.terminal import Terminal

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import EditRefused, Notice, RunState, Sample, Span, StateChanged, StepFinished
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.samples.sample import SampleScreen
from rlhf_tui.engine.bridge import EngineBridge

hostile = st.lists(
    st.sampled_from(["\x1b[2J", "\x1b]52;c;aGk=\x07", "\x9b31m", "\x9d0;title\x9c", "\u202e", "\u2066", "\ud83d",
                     "\t", "\n", "\r", "\x00", "[/x]", "[@click=app.quit]q[/]", "[bold", "]", "\\[", "[red]", "{", "%s",
                     "fox ", "日本", "e\u0301\u0302", "\u200b", "\ufeff", "👩\u200d🚀", "\u2028", "\U000e0041"])
    | st.characters(codec=None), max_size=12,
).map("".join)


def shown_lines(app: WorkbenchApp) -> list[str]:
    """What the terminal would get, without the app's own control sequences."""
    return ["".join(segment.text for segment in strip if not segment.control)
            for strip in app.screen._compositor.render_strips()]


def is_harmless(line: str) -> bool:
    return all(c == "\u200d" or unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Zl", "Zp"} for c in line)


@pytest.mark.scaled
async def test_hostile_text_is_only_text_in_every_widget(
    tmp_path_factory: object, config: RunConfig
) -> None:
    """One app takes in everything that hypothesis thinks of: a new one for each example would take minutes."""
    examples: list[tuple[str, str]] = []

    @settings(max_examples=few_or_many(24, 400), database=None, derandomize=True,
              suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(hostile, hostile)
    def collect(first: str, second: str) -> None:
        examples.append((first, second))

    collect()
    sessions = Sessions()
    app = WorkbenchApp(EngineBridge(Path("runs"), sessions), config, "[/x]\x1b[2J")
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5", "4")
        session = sessions.last
        for step, (first, second) in enumerate(examples, 1):
            spans = (Span(0, len(first), "liked"), Span(len(first), len(first) + len(second) + 3, "disliked"))
            sample = Sample(step, second, first + second, 1.0, {first: 1.0, "[/x]": -1.0}, 0.5, 3, False, spans)
            session.emit(StepFinished(step, 100, {}, (sample,), 0.1 * step))
            session.emit((Notice(first, "warning"), StateChanged(RunState.TRAINING, step, 100, second),
                          EditRefused("kl.coef", first))[step % 3])
            app.show_events(app.bridge.drain())
            await pilot.pause()
            assert all(map(is_harmless, shown_lines(app)))
            if step % 8 == 0:
                app.push_screen(SampleScreen(app.workbench.samples.samples.shown[0]))
                await pilot.pause()
                assert all(map(is_harmless, shown_lines(app)))
                app.pop_screen()
                await pilot.pause()
        assert app.is_running
    session.release()


# the shape of the mouse pointer, and what colour the terminal draws on
OF_THE_APP = {b"\x1b]22;default", b"\x1b]22;text", b"\x1b]22;pointer", b"\x1b]11;?"}
CHILD = textwrap.dedent("""
    import sys, threading
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.events import Notice, Sample, StepFinished
    from rlhf_engine.config.fields import validate
    from rlhf_engine.requests import Start
    from rlhf_engine.rewards.base import Span
    from rlhf_tui.launch import run_workbench

    PAYLOAD = "\\x1b]52;c;UEFZTE9BRA==\\x07\\x1b]0;PAYLOAD\\x07\\x9b2J\\x1b[31mPAYLOAD\\u202e"
    config = validate({{"data": {{"prompts": ["a"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})

    class Hostile(FakeSession):
        def ask(self, request):
            super().ask(request)
            if not isinstance(request, Start):
                return
            sample = Sample(1, PAYLOAD, PAYLOAD, 1.0, {{PAYLOAD: 1.0}}, 0.5, 3, True, (Span(0, 9, "liked"),))
            for step in range(1, 4):
                self.emit(StepFinished(step, 100, {{"objective/scores": float(step)}}, (sample,), float(step)))
            self.emit(Notice(PAYLOAD, "warning"))

    sys.exit(run_workbench(config, PAYLOAD, runs_root=Path("runs"), start=True, session_factory=Hostile))
""")


def test_no_control_sequence_of_the_model_reaches_the_terminal(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path, CHILD)
    terminal.read_until(b"PAYLOAD")
    terminal.read_until_quiet(0.4)
    terminal.type("4\r")
    terminal.read_until_quiet(0.4)
    terminal.type("\x1b")
    terminal.read_until_quiet(0.4)
    written = terminal.written
    terminal.type("qqq")
    terminal.exit_code()
    assert b"UEFZTE9BRA==" in written  # it is shown, as text
    assert b"\x1b]52" not in written
    assert b"\x1b]0" not in written
    assert "\x9b".encode() not in written
    assert "\u202e".encode() not in written
    assert set(re.findall(rb"\x1b[\]P][^\x1b\x07]{0,12}", written)) <= OF_THE_APP
