"""What a person can do at the workbench, with a session that only pretends to train."""

from __future__ import annotations

from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static
from tui.fake_session import Sessions, story_sample

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Alarm, EditRefused, Notice, RolledBack, RunStarted, RunState, Span, StepFinished
from rlhf_engine.requests import Close, Edit, Pause, Stop, Unpause
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.leaving.quit_screen import QuitScreen
from rlhf_tui.areas.samples.sample import SampleScreen
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.workbench.screen import PANES
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents

WIDE, NARROW, TINY = (120, 40), (80, 24), (50, 14)


async def show(app: WorkbenchApp, pilot: Pilot[None]) -> None:
    """Let the screen take in all that the session has emitted."""
    app.show_events(app.bridge.drain())
    await pilot.pause()


def status(app: WorkbenchApp) -> str:
    return app.workbench._status.render().plain


def alarm(app: WorkbenchApp) -> str:
    return app.workbench._alarm.text


def keys(app: WorkbenchApp) -> str:
    return app.workbench._keys.render().plain


def pane(app: WorkbenchApp) -> str:
    return app.workbench._pane


# --- a run ---


async def test_f5_starts_space_pauses_f5_stops(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        assert "○ IDLE" in status(app)
        await pilot.press("f5")
        sessions.last.steps(3)
        await show(app, pilot)
        assert "brave-otter · animals" in status(app)
        assert "● TRAINING" in status(app)
        assert "step 3/100" in status(app)
        assert "92 resp/s" in status(app)
        assert "ETA 00:48" in status(app)
        assert "F5 Stop" in keys(app)
        assert "Presets" not in keys(app)  # refused while a run goes on
        await pilot.press("space")
        await show(app, pilot)
        assert "‖ PAUSED" in status(app)
        assert "Space Resume" in keys(app)
        await pilot.press("space")
        await show(app, pilot)
        assert "● TRAINING" in status(app)
        await pilot.press("f5")
        await show(app, pilot)
        assert "■ STOPPED" in status(app)
        assert sessions.last.asked[1:] == [Pause(), Unpause(), Stop()]


async def test_a_slow_pause_says_so_at_once(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.slow_to_stop = True
        await show(app, pilot)
        await pilot.press("space")
        assert "PAUSING…" in status(app)
        await pilot.press("space")
        assert sessions.last.asked[-1] == Unpause()


async def test_f5_does_not_start_while_a_setting_is_wrong(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("1", "enter", *"abc", "f5")
        assert "not started: actor lr" in alarm(app)
        assert not app.bridge.busy
        await pilot.press("escape", "f5")
        assert app.bridge.busy


async def test_starting_with_the_workbench(bridge: EngineBridge, config: RunConfig, sessions: Sessions) -> None:
    app = WorkbenchApp(bridge, config, "animals", start=True)
    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        assert sessions.last.started == ["animals"]


async def test_after_the_end_all_stays_visible_and_f5_starts_anew(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(5)
        sessions.last.end(RunState.FINISHED)
        await show(app, pilot)
        assert "✓ FINISHED" in status(app)
        assert len(app.workbench.samples.samples.shown) == 10
        assert len(app.workbench.charts.charts[0].points) == 5
        await pilot.press("f5")
        await show(app, pilot)
        assert "step 0/100" in status(app)
        assert app.workbench.samples.samples.shown == []
        assert app.workbench.charts.charts[0].points == []


async def test_a_resumed_run_goes_on_in_the_same_curves(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        session = sessions.last
        session.steps(5)
        await show(app, pilot)
        assert session.config is not None
        session.emit(RunStarted("brave-otter", "runs/brave-otter", session.config, 3))
        session.step = 3
        session.steps(4)
        await show(app, pilot)
        assert [x for x, _ in app.workbench.charts.charts[0].points] == [1, 2, 3, 4, 5, 6, 7]


async def test_a_failure_is_told_on_the_alarm_line(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.end(RunState.FAILED, "disk full: [/x] no space left")
        await show(app, pilot)
        assert "✗ FAILED" in status(app)
        assert alarm(app) == "disk full: [/x] no space left"
        assert app.workbench._alarm.level == "warning"


async def test_a_crash_of_the_engine_leaves_the_workbench_alive(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.break_down(RuntimeError("boom"))
        app.bridge.join(5)
        await show(app, pilot)
        assert "the engine crashed (RuntimeError): boom" in alarm(app)
        await pilot.press("f5")
        assert len(sessions) == 2


async def test_f9_saves_only_while_a_run_goes_on(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f9")
        assert "nothing is running" in alarm(app)
        await pilot.press("f5", "f9")
        await show(app, pilot)
        assert alarm(app) == "checkpoint of step 0 saved"


async def test_a_notice_shows_as_it_is_written(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.emit(Notice("[bold]distinct[/x] words fell", "warning"))
        await show(app, pilot)
        assert "⚠ [bold]distinct[/x] words fell" in app.workbench._alarm.render().plain


# --- settings ---


async def test_an_edit_between_runs_changes_the_next_run(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        app.workbench.post_message(HyperparametersPane.Edited("kl.coef", 0.3))
        await pilot.pause()
        assert app.edited.config.kl.coef == 0.3
        await pilot.press("f5")
        assert sessions.last.config is not None
        assert sessions.last.config.kl.coef == 0.3


async def test_a_live_edit_goes_to_the_engine_and_is_marked(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(4)
        await show(app, pilot)
        app.workbench.post_message(HyperparametersPane.Edited("kl.target", 9.0))
        await pilot.pause()
        await show(app, pilot)
        assert sessions.last.asked[-1] == Edit("kl.target", 9.0)
        assert alarm(app) == "from step 5: kl.target 6 → 9"
        assert app.workbench.charts.curves.edits == [5]
        assert app.workbench.charts.charts[1].target == 9.0


async def test_an_edit_of_words_goes_to_the_engine_too(app: WorkbenchApp, sessions: Sessions) -> None:
    from rlhf_tui.areas.rewards.word_lists import WordListsPane

    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        app.workbench.post_message(WordListsPane.Edited("rewards.0.liked", ["hen"]))
        await pilot.pause()
        assert sessions.last.asked[-1] == Edit("rewards.0.liked", ["hen"])


async def test_what_cannot_change_while_training_waits_for_the_next_start(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)
        app.workbench.post_message(HyperparametersPane.Edited("train.seed", 7))
        await pilot.pause()
        assert sessions.last.started == ["animals"]
        assert "next start" in alarm(app)


async def test_a_refused_edit_is_told_and_taken_back(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)
        app.workbench.post_message(HyperparametersPane.Edited("kl.coef", 0.7))
        await pilot.pause()
        app.bridge.drain()
        app.bridge.view.config = sessions.last.config = fields.replace(app.edited.config, {"kl.coef": 0.1})
        sessions.last.emit(EditRefused("kl.coef", "too late"))
        await show(app, pilot)
        assert alarm(app) == "kl.coef was not changed: too late"
        assert app.edited.config.kl.coef == 0.1


# --- panes and layouts ---


async def test_numbers_and_tab_go_to_panes(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        assert pane(app) == "hyperparameters"
        for key, name in zip("1234", PANES, strict=True):
            await pilot.press(key)
            assert pane(app) == name
            assert app.workbench.query_one(f"#{name}").has_focus_within
        await pilot.press("tab")
        assert pane(app) == "hyperparameters"
        await pilot.press("shift+tab")
        assert pane(app) == "samples"


async def test_zoom_gives_a_pane_the_screen_and_esc_gives_it_back(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("2", "z")
        await pilot.pause()
        assert app.workbench.charts.size.width > 110
        assert not app.workbench.samples.region
        await pilot.press("escape")
        await pilot.pause()
        assert app.workbench.samples.region


async def test_a_narrow_terminal_shows_one_pane_under_tabs(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("f5")
        sessions.last.steps(41)
        await show(app, pilot)
        for number, name in enumerate(PANES, 1):
            await pilot.press(str(number))
            await pilot.pause()
            seen = [p for p in PANES if app.workbench.query_one(f"#{p}").region]
            assert seen == [name]
            assert TITLE_LINE in app.workbench._tabs.render().plain
        assert all(part in status(app) for part in ("TRAINING", "41/100", "score +", "KL ", "ETA"))


TITLE_LINE = " 1 Hyperparameters   2 Charts   3 Reward words   4 Samples "


async def test_in_a_narrow_terminal_arrows_change_the_chart(app: WorkbenchApp) -> None:
    async with app.run_test(size=NARROW) as pilot:
        await pilot.press("2")
        await pilot.pause()
        charts = app.workbench.charts.charts
        assert [bool(chart.region) for chart in charts] == [True, False, False, False]
        await pilot.press("right")
        await pilot.pause()
        assert [bool(chart.region) for chart in charts] == [False, True, False, False]
        await pilot.press("left", "left")
        await pilot.pause()
        assert [bool(chart.region) for chart in charts] == [False, False, False, True]


async def test_a_tiny_terminal_keeps_status_and_one_pane(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=TINY) as pilot:
        await pilot.press("f5", "4")
        sessions.last.steps(2)
        await show(app, pilot)
        assert app.workbench._status.region.height == 1
        assert app.workbench.samples.region.height == TINY[1] - 1
        sessions.last.emit(Notice("KL is far over its target", "warning"))
        await show(app, pilot)
        assert app.workbench._alarm.region.height == 1


@pytest.mark.parametrize("size", [(20, 5), (9, 3), (40, 10), (59, 15), (60, 16), (80, 24), (99, 30), (100, 29),
                                  (100, 30), (132, 43), (300, 100)])
async def test_any_size_works(app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("f5")
        sessions.last.steps(12)
        await show(app, pilot)
        for number in "1234":
            await pilot.press(number)
            app.workbench.charts.drawing.draw_changed()
            await pilot.pause()
        assert status(app)
        assert len(status(app)) <= max(1, size[0])


async def test_resizing_changes_the_layout_live(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "2")
        sessions.last.steps(12)
        await show(app, pilot)
        for size in [(20, 5), (300, 100), (80, 24), (59, 40), (120, 12), (3, 2), (120, 40)]:
            await pilot.resize_terminal(*size)
            app.workbench.charts.drawing.draw_changed()
            await pilot.pause()
        assert all(app.workbench.query_one(f"#{p}").region for p in PANES)
        assert pane(app) == "charts"


async def test_the_keys_shown_fit_the_width(app: WorkbenchApp) -> None:
    async with app.run_test(size=NARROW) as pilot:
        for number in "1234":
            await pilot.press(number)
            shown = keys(app)
            assert len(shown) <= 78
            assert "? Help" in shown
            assert not shown.endswith("…")


# --- samples ---


async def test_samples_are_newest_first_and_follow(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "4")
        sessions.last.steps(2)
        await show(app, pilot)
        samples = app.workbench.samples.samples
        assert [s.step for s in samples.shown] == [2, 2, 1, 1]
        sessions.last.steps(1)
        await show(app, pilot)
        assert samples.selected is not None
        assert samples.selected.step == 3


async def test_off_the_top_the_list_holds_still_until_f(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "4")
        sessions.last.steps(2)
        await show(app, pilot)
        samples = app.workbench.samples.samples
        await pilot.press("down")
        held = samples.selected
        sessions.last.steps(4)
        await show(app, pilot)
        assert samples.selected == held
        assert samples.waiting == 8
        assert "8 newer" in str(app.workbench.samples.border_subtitle)
        await pilot.press("f")
        assert samples.waiting == 0
        assert samples.shown[0].step == 6


async def test_slash_filters_and_esc_shows_all(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "2")
        sessions.last.steps(8)
        await show(app, pilot)
        await pilot.press("slash", *"kite")
        samples = app.workbench.samples.samples
        assert samples.shown
        assert all("kite" in s.response for s in samples.shown)
        await pilot.press("enter")
        assert samples.has_focus
        await pilot.press("escape")
        assert len(samples.shown) == 16


async def test_letters_typed_into_a_field_are_only_text(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("4", "slash", *"qzgcp12?", "space")
        await pilot.pause()
        assert app.screen is app.workbench
        assert app.workbench.query_one("#sample-filter", Input).value == "qzgcp12? "
        assert pane(app) == "samples"
        assert not app.bridge.busy


async def test_enter_opens_the_whole_sample(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "4")
        sessions.last.steps(1)
        await show(app, pilot)
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, SampleScreen)
        await pilot.press("escape")
        assert app.screen is app.workbench


async def test_y_copies_and_says_where(app: WorkbenchApp, sessions: Sessions, tmp_path: Path) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "4")
        sessions.last.steps(1)
        await show(app, pilot)
        await pilot.press("y")
        await pilot.pause()
        text = story_sample(1, 1).response
        assert app.clipboard == text
        assert "copied.txt" in alarm(app)
        assert (tmp_path / "state" / "rlhf-tui" / "copied.txt").read_text() == text


async def test_spans_stay_on_their_words(app: WorkbenchApp, sessions: Sessions) -> None:
    from rlhf_tui.areas.samples.samples import sample_line

    sample = story_sample(1, 1)
    line = sample_line(sample, 200)
    marked = [line.plain[span.start:span.end] for span in line.spans if "underline" in str(span.style)]
    assert marked == [sample.response[s.start:s.end] for s in sample.spans if s.kind == "liked"]
    assert all(isinstance(span, Span) for span in sample.spans)


# --- leaving ---


async def test_q_leaves_at_once_when_nothing_runs(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("q")
        await pilot.pause()
    assert app.return_code == 0


async def test_q_asks_while_training_and_esc_stays(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5", "q")
        await pilot.pause()
        assert isinstance(app.screen, QuitScreen)
        app.bridge.view.total_steps = 100
        app.screen.on_engine_events(EngineEvents([]))
        assert "A run is in progress: step 0 of 100" in str(app.screen.query_one(Static).content)
        app.bridge.view.total_steps = 0  # so it is until the engine tells how many
        app.screen.on_engine_events(EngineEvents([]))
        assert "A run is about to begin." in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        assert app.screen is app.workbench
        assert app.bridge.busy


async def test_quitting_finishes_the_step_first(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.slow_to_stop = True
        sessions.last.steps(40)
        await show(app, pilot)
        await pilot.press("q", "enter")
        await show(app, pilot)
        assert "finishing step 41, saving…" in str(app.screen._text.content)  # type: ignore[attr-defined]
        assert app._exit is False
        sessions.last.release()
        app.bridge.join(5)
        app._tick()
        await pilot.pause()
    assert app.return_code == 0
    assert not app.leaving.at_once


async def test_q_once_more_leaves_without_waiting(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.slow_to_stop = True
        await pilot.press("q", "q", "q")
        await pilot.pause()
    assert app.leaving.at_once
    assert app.bridge.alive


async def test_a_request_to_terminate_saves_first_and_the_second_does_not(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        await show(app, pilot)  # the run's own words first
        sessions.last.slow_to_stop = True
        app.leaving.terminated()
        await pilot.pause()
        assert sessions.last.asked[-1] == Close()
        assert "saving" in alarm(app)
        app.leaving.terminated()
        await pilot.pause()
    assert app.return_code == 143


async def test_an_alarm_of_the_engine_is_on_the_alarm_line(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(2)
        sessions.last.emit(Alarm(2, "kl", "KL is 13.0 nats per response, over twice its target"))
        await show(app, pilot)
        assert alarm(app) == "step 2: KL is 13.0 nats per response, over twice its target"
        assert app.workbench._alarm.level == "warning"


async def test_a_run_that_rolls_back_loses_what_came_after(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(4)
        await show(app, pilot)
        sessions.last.emit(RolledBack(2, "diverged at step 4"))
        await show(app, pilot)
        points = app.workbench.charts.charts[0].points
        assert [x for x, _ in points] == [1.0, 2.0]
        assert {sample.step for sample in app.workbench.samples.samples.shown} == {1, 2}
        sessions.last.step = 2
        sessions.last.steps(1)
        await show(app, pilot)
        assert [x for x, _ in app.workbench.charts.charts[0].points] == [1.0, 2.0, 3.0]


async def test_a_step_that_could_not_be_learnt_from_has_few_metrics_and_breaks_nothing(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("f5")
        sessions.last.steps(2)
        sessions.last.emit(StepFinished(3, 100, {"objective/scores": 1.0, "policy/updates": 0.0}, (), 1.5))
        await show(app, pilot)
        assert "step 3/100" in status(app)


async def test_the_status_line_tells_speed_and_share_of_the_matmul_peak(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(200, 40)) as pilot:
        await pilot.press("f5")
        sessions.last.steps(1)
        metrics = {"throughput/responses_per_s": 27.0, "throughput/matmul_share": 0.234}
        sessions.last.emit(StepFinished(2, 100, metrics, (), 1.0))
        await show(app, pilot)
        assert "27 resp/s" in status(app)
        assert "MFU 23%" in status(app)


async def test_what_would_be_a_toast_is_on_the_alarm_line(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=WIDE) as pilot:
        app.notify("saved [/b] it\x1b[2J", title="Screenshot", severity="error")
        await pilot.pause()
        assert alarm(app) == "saved [/b] it␛[2J"
        assert app.workbench._alarm.level == "warning"
        assert not app.screen.query("Toast")
