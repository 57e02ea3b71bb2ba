"""Charts show what was measured, survive what was not a number, and are read off to the step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import pytest
from moments import until
from textual.pilot import Pilot
from textual.widgets import OptionList
from tui.fake_session import step_metrics
from tui.test_hostile_screens import check, texts

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.metrics import OF_HELD_OUT, REGISTRY
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts import drawing
from rlhf_tui.areas.charts.chart import Chart
from rlhf_tui.areas.charts.charts import Charts
from rlhf_tui.areas.charts.lens import DEFAULT_METRICS, LEAST_STEPS, Lens
from rlhf_tui.areas.charts.readout import show_value
from rlhf_tui.editing.change_text import edit_text
from rlhf_tui.engine.metrics_file import clean_metrics
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.terminal.theme import LIGHT

WIDE, NARROW = (120, 40), (80, 24)


def train(charts: Charts, steps: int, *, seconds: float = 0.5) -> None:
    for step in range(1, steps + 1):
        charts.curves.add(step, step_metrics(step), step * seconds)


def curves(steps: Iterable[tuple[int, float, Mapping[str, float]]]) -> MetricsHistory:
    """Another run's, as they are read for the charts: of (step, seconds, metrics)."""
    history = MetricsHistory()
    for step, seconds, metrics in steps:
        history.add(step, clean_metrics(metrics), seconds)
    return history


async def settle(pilot: Pilot[None], charts: Charts) -> None:
    await pilot.pause()
    charts.drawing.draw_changed()
    await pilot.pause()


# --- pure ---


def test_a_lens_without_span_sees_all_and_leaves_room_at_the_start() -> None:
    assert Lens().steps(1, 3) == (1, 1 + LEAST_STEPS)
    assert Lens().steps(1, 300) == (1, 300)


def test_a_lens_with_a_span_follows_the_newest_or_looks_back() -> None:
    assert Lens(span=20).steps(1, 100) == (80, 100)
    assert Lens(span=20, back=30).steps(1, 100) == (50, 70)
    assert Lens(span=20, back=3000).steps(1, 100) == (1, 21)


def test_smoothing_by_itself_is_none_for_few_steps_and_grows_with_them() -> None:
    assert [Lens().decay(steps) for steps in (0, 18, 50)] == [0, 0, 0]
    assert Lens().decay(75) == pytest.approx(1 / 2)  # a window of 2 steps
    assert Lens().decay(275) == pytest.approx(9 / 10)
    assert Lens().decay(100_000) == pytest.approx(1 - 1 / 3999)
    assert [Lens(smoothing=0.9).decay(steps) for steps in (5, 100_000)] == [0.9, 0.9]


@pytest.mark.parametrize(("value", "shown"), [(3.414, "+3.41"), (0.0, "0"), (-0.02, "−0.0200"), (1e9, "+1.0e9"),
                                              (2e-5, "+2.0e−5")])
def test_values_take_few_cells(value: float, shown: str) -> None:
    assert show_value(value, signed=True) == shown


@pytest.mark.parametrize(("edit", "said"), [
    (("kl.coef", 0.1, 0.3), "kl.coef 0.1→0.3"),
    (("algorithm.target_kl", None, 0.05), "algorithm.target_kl none→0.05"),
    (("rewards.0.liked", ["fox", "owl"], ["owl", "hen"]), "liked: +hen −fox"),
    (("rewards.0.liked", [], ["a", "b", "c", "d", "e"]), "liked: +a +b +c and 2 more"),
    (("rewards.0.liked", ["a", "b"], ["b", "a"]), "liked: in another order"),
    (("rewards.0.version", None, "002-0123456789ab"), "reward model version 2"),
    (("rewards.1.refused", None, "012-0123456789ab"), "reward model version 12 refused"),
])
def test_an_edit_in_a_few_words(edit: tuple[str, object, object], said: str) -> None:
    assert edit_text(*edit) == said


# --- the run ---


async def test_while_a_run_goes_on_a_key_waits_for_one_chart_only(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    done, draw = [], Chart.draw

    def draw_and_note(chart: Chart) -> None:
        done.append("chart")
        draw(chart)

    monkeypatch.setattr(drawing, "TURN_SECONDS", 0.2)  # however busy the machine is
    async with app.run_test(size=WIDE) as pilot:
        await settle(pilot, app.workbench.charts)
        monkeypatch.setattr(Chart, "draw", draw_and_note)
        app.workbench.charts.curves.add(1, step_metrics(1))
        app.workbench.charts.drawing.draw_in_turn()
        assert done == ["chart"]
        app.call_later(done.append, "key")
        while len(done) < 5:
            await pilot.pause(0.01)
        assert done == ["chart", "key", "chart", "chart", "chart"]


async def test_charts_show_the_run_and_its_newest_values(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 29)
        charts.curves.mark(12, "kl.coef 0.1→0.3")
        charts.curves.show_target(6.0)
        await settle(pilot, charts)
        headings = [chart.heading_text for chart in charts.charts]
        assert headings[0].startswith("score +")
        assert "nats/response (target 6)" in headings[1]
        assert headings[2].startswith("policy loss −0.0")
        assert "score²" in headings[3]
        assert all("┊" in chart.picture_text for chart in charts.charts)
        assert charts.curves.edits == [12]


async def test_the_default_run_is_drawn_as_it_was_measured(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        for step in range(1, 19):
            charts.curves.add(step, {"objective/scores": -6 + 10.41 * step / 18, "objective/kl": 3.05 * step / 18})
        await settle(pilot, charts)
        picture = charts.scene.picture("objective/scores", None, 60)
        assert picture is not None
        assert picture.line[-1] == (18, pytest.approx(4.41))
        assert charts.charts[0].heading_text.startswith("score +4.41 ▲ per response")
        assert charts.charts[1].heading_text.startswith("KL 3.05 ▲")


async def test_where_the_line_ends_elsewhere_the_heading_names_both(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        for step in (1, 2):
            charts.curves.add(step, {"objective/scores": 2.0 * step, "objective/kl": 1.0})
        await pilot.press("2", "s", "s")  # none, then 0.6
        await settle(pilot, charts)
        assert "score +4.00 ▲ smoothed +3.25" in charts.charts[0].heading_text  # (0.24 · 2 + 0.4 · 4) / 0.64
        assert "smoothed" not in charts.charts[1].heading_text
        await pilot.press("left_square_bracket")
        await settle(pilot, charts)
        assert "step 2 +4.00 smoothed +3.25" in charts.charts[0].heading_text
        await pilot.press("escape", "0")  # by itself again
        await settle(pilot, charts)
        assert "smoothed" not in charts.charts[0].heading_text
        assert "raw (auto)" in str(charts.border_subtitle)
        train(charts, 275)
        await settle(pilot, charts)
        assert "ema 0.9 (auto)" in str(charts.border_subtitle)


async def test_nan_in_a_metric_shows_a_badge_and_kills_nothing(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        charts.curves.add(1, {"objective/scores": 1.0, "objective/kl": math.nan})
        charts.curves.add(2, {"objective/scores": math.inf, "objective/kl": math.nan})
        await settle(pilot, charts)
        assert "✗ diverged" in charts.charts[0].heading_text
        assert charts.charts[1].picture_text == "no finite value"


async def test_a_logarithmic_axis_is_of_one_chart_and_says_what_it_leaves_out(app: WorkbenchApp) -> None:
    async with app.run_test(size=(160, 48)) as pilot:
        charts = app.workbench.charts
        for step in range(1, 31):
            value = 0.0 if step in (3, 9) else -1.0 if step == 20 else 10.0 ** (step / 10)
            charts.curves.add(step, {"objective/scores": value, "objective/kl": step / 10})
        await pilot.press("2", "z", "Y")
        await settle(pilot, charts)
        reward, kl = charts.charts[:2]
        assert "log, 3 values ≤ 0 not drawn" in reward.heading_text
        labels = [line[:7].strip() for line in reward.picture_text.split("\n") if line[7:8] == "┤"]
        assert {"1000", "100", "10"} <= set(labels)
        assert {label.rstrip("0") for label in labels} <= {"1", "2", "5"}
        assert "log" not in kl.heading_text
        await pilot.press("down", "Y")
        await settle(pilot, charts)
        assert "log" in kl.heading_text
        assert "not drawn" not in kl.heading_text
        await pilot.press("up", "Y")
        await settle(pilot, charts)
        assert "log" not in reward.heading_text


async def test_an_empty_chart_says_why(app: WorkbenchApp) -> None:
    async with app.run_test(size=(160, 48)) as pilot:
        charts = app.workbench.charts
        charts.shown = ("objective/scores", "loss/policy_avg", "rewards/endings/mean", "my/own")
        await pilot.press("2", "z")
        await settle(pilot, charts)
        assert [chart.picture_text for chart in charts.charts] == ["no values yet"] * 4
        charts.curves.add(1, {"objective/scores": 1.0, "rewards/endings/mean": math.nan})  # it applied to no response
        await settle(pilot, charts)
        texts = [chart.picture_text for chart in charts.charts]
        assert not any("no values yet" in text for text in texts)
        assert "algorithm.critic_warmup_steps" in texts[1]
        assert "no reward endings" in texts[2]
        assert "diverged" not in charts.charts[2].heading_text
        assert "my/own" in texts[3]


async def test_what_the_library_cannot_draw_is_said(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("plotext")

    async with app.run_test(size=WIDE) as pilot:
        monkeypatch.setattr("rlhf_tui.areas.charts.chart.draw", fails)
        app.workbench.charts.curves.add(1, step_metrics(1))
        await settle(pilot, app.workbench.charts)
        assert "cannot draw this: KeyError" in app.workbench.charts.charts[0].picture_text


async def test_only_changed_charts_that_are_seen_are_drawn(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    draw = Chart.draw

    def draw_and_note(chart: Chart) -> None:
        drawn.append(chart.metric.title)
        draw(chart)

    monkeypatch.setattr(Chart, "draw", draw_and_note)
    async with app.run_test(size=NARROW) as pilot:
        await pilot.pause()
        charts = app.workbench.charts
        drawn.clear()
        charts.curves.add(1, step_metrics(1))
        charts.drawing.draw_changed()
        assert drawn == []  # another pane is open
        await pilot.press("2")
        await pilot.pause()
        drawn.clear()
        charts.curves.add(2, step_metrics(2))
        charts.drawing.draw_changed()
        assert drawn == ["score"]
        charts.drawing.draw_changed()
        assert drawn == ["score"]
        charts.curves.add(3, {"lr": 1e-4})
        charts.drawing.draw_changed()
        assert drawn == ["score"]  # nothing that is shown has changed


@pytest.mark.parametrize("theme", ["workbench-dark", LIGHT.name, "textual-ansi"])
async def test_colours_come_from_the_theme(app: WorkbenchApp, theme: str) -> None:
    async with app.run_test(size=WIDE) as pilot:
        app.theme = theme if theme in app.available_themes else "ansi-dark"
        train(app.workbench.charts, 2)
        await settle(pilot, app.workbench.charts)
        styles = app.workbench.charts.charts[0]._styles
        for kind in ("axes", "line"):
            colour = styles[kind].color
            assert colour is not None
            assert colour.triplet != (0, 0, 0)


# --- keys ---


async def test_keys_of_the_charts(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 100)
        await pilot.press("2", "plus")
        assert charts.scene.lens.span == 50
        await pilot.press("left")
        assert charts.scene.lens.back == 25
        await pilot.press("Y", "s")
        assert charts.scene.log == {DEFAULT_METRICS[0]}
        assert charts.smoothing == 0.0
        await pilot.press("0")
        assert charts.scene.lens == Lens()
        assert not charts.scene.log
        await pilot.press("minus")
        assert charts.scene.lens.span is None


async def test_the_x_axis_is_by_step_by_responses_or_by_wall_time(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 100, seconds=60)
        charts.responses_per_step = 64
        await pilot.press("2")
        seen = []
        for _ in range(3):
            await settle(pilot, charts)
            seen.append(charts.charts[0].picture_text.split("\n")[-1].split())
            await pilot.press("x")
        assert seen == [["50", "100"], ["2500", "5000"], ["1:00:00"]]
        assert charts.scene.lens.axis == "step"


async def test_up_and_down_choose_the_chart_that_keys_mean(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 3)
        await pilot.press("2", "down")
        await settle(pilot, charts)
        assert [chart.heading_text.startswith("▸") for chart in charts.charts] == [False, True, False, False]
        await pilot.press("up", "up", "1")
        await settle(pilot, charts)
        assert charts.open_chart is charts.charts[3]
        assert not charts.charts[3].heading_text.startswith("▸")  # another pane has the keys


async def test_enter_gives_the_whole_screen_to_one_chart_and_takes_it_back(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 30)
        await pilot.press("2", "down", "enter")
        await settle(pilot, charts)
        assert [bool(chart.region) for chart in charts.charts] == [False, True, False, False]
        assert charts.charts[1].size.width > 110
        assert charts.charts[1].size.height > 30
        await pilot.press("right")  # the next one
        await settle(pilot, charts)
        assert [bool(chart.region) for chart in charts.charts] == [False, False, True, False]
        for back in ("enter", "escape"):
            await pilot.press(back)
            await settle(pilot, charts)
            assert all(chart.region for chart in charts.charts)
            assert charts.size.width < 100
            await pilot.press("enter")
        await pilot.press("z")  # which gives the pane the screen no more
        await settle(pilot, charts)
        assert all(chart.region for chart in charts.charts)


# --- reading off ---


async def test_the_cursor_reads_off_step_values_and_edits_until_esc(app: WorkbenchApp) -> None:
    async with app.run_test(size=(160, 48)) as pilot:
        charts = app.workbench.charts
        train(charts, 30)
        charts.responses_per_step = 64
        charts.curves.mark(29, "kl.coef 0.1→0.3")
        await pilot.press("2", "z")
        await settle(pilot, charts)
        await pilot.press("right_square_bracket")
        assert charts.scene.cursor == 30
        assert charts.charts[1].heading_text.startswith(f"KL step 30 {step_metrics(30)['objective/kl']:.2f}")
        await pilot.press("left_square_bracket")
        assert "┊ kl.coef 0.1→0.3" in charts.charts[1].heading_text
        assert str(charts.border_subtitle) == "step 29 · 1,856 responses · 00:14 · kl.coef 0.1→0.3 · Esc"
        assert all("◆" in chart.picture_text for chart in charts.charts)
        await pilot.press("left_curly_bracket")
        assert charts.scene.cursor is not None
        assert charts.scene.cursor < 28
        assert "kl.coef" not in charts.charts[1].heading_text
        await pilot.press("escape")
        assert charts.scene.cursor is None
        assert charts.size.width > 150  # the first Esc took the cursor, not the zoom
        assert not any("◆" in chart.picture_text for chart in charts.charts)
        await pilot.press("escape")
        await pilot.pause()
        assert charts.size.width < 150


async def test_the_cursor_walks_every_step_where_columns_are_wide_and_stays_in_sight(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 12)
        await pilot.press("2")
        await settle(pilot, charts)
        walked = []
        for _ in range(13):
            await pilot.press("left_square_bracket")
            walked.append(charts.scene.cursor)
        assert walked == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 1]


async def test_the_mouse_reads_off_what_it_points_at_and_a_click_keeps_it(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 100)
        await pilot.press("2")
        await settle(pilot, charts)
        canvas = charts.charts[1].query_one(".canvas")
        await pilot.hover(canvas, offset=(20, 3))
        await pilot.pause()
        pointed = charts.scene.pointed
        assert pointed is not None
        assert f"step {pointed}" in charts.charts[0].heading_text
        await pilot.hover("#samples")
        await pilot.pause()
        assert charts.scene.pointed is None
        await pilot.click(canvas, offset=(20, 3))
        await pilot.pause()
        assert charts.scene.cursor == pointed
        assert charts.open_chart is charts.charts[1]


async def test_moving_the_cursor_does_not_draw_the_curves_anew(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 50)
        await pilot.press("2")
        await settle(pilot, charts)
        monkeypatch.setattr(Chart, "draw", lambda chart: pytest.fail("drawn"))
        await pilot.press("left_square_bracket", "left_square_bracket")
        assert charts.scene.cursor in (48, 49)


# --- other runs ---


async def test_other_runs_are_drawn_named_and_read_off(app: WorkbenchApp) -> None:
    async with app.run_test(size=(160, 48)) as pilot:
        charts = app.workbench.charts
        train(charts, 30)
        kl = [(step, step * 2.0, {"objective/kl": 3.0 + step}) for step in range(1, 41)]
        charts.curves.overlay("quiet-owl", curves(kl))
        charts.curves.overlay("red-fox", curves([(1, 1.0, {"objective/kl": math.nan}), (2, 2.0, {"lr": 1.0})]))
        await pilot.press("2", "z")
        await settle(pilot, charts)
        kl = charts.charts[1]
        assert kl.legend_text == "⠒ this run  o quiet-owl 43.00  x red-fox no value"
        assert "o" in kl.picture_text
        assert "40" in kl.picture_text.split("\n")[-1]  # the longer run is seen whole
        await pilot.press("right_square_bracket")
        assert "o quiet-owl 33.00" in kl.legend_text
        await pilot.press("x", "x")  # by wall time: 30 steps of this run took as long as 7.5 of the other
        assert "o quiet-owl 11.00" in kl.legend_text
        charts.curves.clear_overlays()
        await settle(pilot, charts)
        assert not charts.charts[1].query_one(".legend").region


async def test_other_runs_can_be_seen_before_this_one_has_a_step(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        charts.curves.overlay("quiet-owl", curves([(step, step * 2.0, step_metrics(step)) for step in range(1, 41)]))
        await pilot.press("2", "right_square_bracket")
        await settle(pilot, charts)
        assert "o" in charts.charts[0].picture_text
        assert charts.scene.cursor == 40


async def test_each_of_six_runs_has_a_marker_of_its_own_and_a_seventh_replaces_the_first(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE):
        charts = app.workbench.charts
        for name in ("a", "b", "c", "d", "e", "f", "b", "g"):
            charts.curves.overlay(name, curves([(1, 1.0, {"lr": 1.0})]))
        assert set(charts.scene.others) == {"b", "c", "d", "e", "f", "g"}
        assert len({other.marker for other in charts.scene.others.values()}) == 6


async def test_no_marker_stays_without_a_label_in_a_small_chart(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        for number in range(6):
            steps = [(step, 1.0, step_metrics(step)) for step in range(1, 9)]
            charts.curves.overlay(f"a-rather-long-name-{number}", curves(steps))
        await settle(pilot, charts)
        legend = charts.charts[0].legend_text
        assert len(legend) <= charts.charts[0].size.width
        assert all(f"{marker} a" in legend for marker in "ox+%#&")


# --- settings ---


async def test_which_metrics_are_shown_can_be_set(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 5)
        assert charts.shown == DEFAULT_METRICS
        charts.shown = ("kl_coef", "rewards/words/mean", "policy/entropy_avg", "objective/scores")
        await settle(pilot, charts)
        assert charts.charts[0].heading_text.startswith("KL coef β 0.10")
        assert "no reward words" in charts.charts[1].picture_text
        assert len(charts.charts[2].points) == 5  # what was not shown was kept
        with pytest.raises(ValueError, match="4 charts"):
            charts.shown = ("lr",)


async def test_in_ascii_the_charts_are_ascii(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 50)
        charts.curves.mark(20, "kl.coef 0.1→0.3")
        charts.curves.overlay("ruhige-Eule", curves([(step, 1.0, step_metrics(step + 9)) for step in range(1, 50)]))
        charts.ascii = True
        await pilot.press("2", "left_square_bracket")
        await settle(pilot, charts)
        for chart in charts.charts:
            assert (chart.picture_text + chart.heading_text + chart.legend_text).isascii()


async def test_new_data_is_drawn_as_often_as_was_set(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        await settle(pilot, charts)
        charts.drawing.redraw_seconds = 0.05
        train(charts, 3)  # all four are drawn, one by one
        await until(pilot, lambda: "no values yet" not in "".join(chart.picture_text for chart in charts.charts))
        charts.drawing.redraw_seconds = 600
        train(charts, 9)
        before = charts.charts[0].heading_text
        await pilot.pause(0.7)
        assert charts.charts[0].heading_text == before
        with pytest.raises(ValueError, match="above 0"):
            charts.drawing.redraw_seconds = 0


async def test_drawing_new_data_rests_so_that_it_takes_its_share_of_the_time_and_no_more(
    app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_tui.areas.charts.drawing.DRAWING_SHARE", 1e-6)
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        await settle(pilot, charts)
        charts.drawing.redraw_seconds = 0.05
        train(charts, 3)  # all four are drawn, one by one
        await until(pilot, lambda: "no values yet" not in "".join(chart.picture_text for chart in charts.charts))
        first = [chart.heading_text for chart in charts.charts]
        train(charts, 9)
        await pilot.pause(0.5)
        assert [chart.heading_text for chart in charts.charts] == first
        await pilot.press("2", "s")  # a key does not wait
        await pilot.pause()
        assert charts.charts[0].heading_text != first[0]


# --- cost, and what others write ---


async def test_a_long_run_is_drawn_from_hardly_more_points_than_a_short_one(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        await pilot.press("2")
        counts = []
        for last in (2_000, 30_000):
            for step in range((charts.scene.run.bounds or (0, 0))[1] + 1, last + 1):
                charts.curves.add(step, {"objective/scores": math.sin(step)}, step)
            picture = charts.scene.picture("objective/scores", None, 60)
            assert picture is not None
            counts.append(len(picture.line) + len(picture.band))
        assert max(counts) < 1500


async def test_labels_and_edits_that_try_to_command_are_only_shown(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 20)
        await pilot.press("2", "right_square_bracket")
        for text in texts(8):
            charts.curves.clear_overlays()
            told = {f"rewards/{text}/mean": 1.0, "objective/kl": 2.0}
            charts.curves.overlay(text, curves([(step, 1.0, told) for step in (1, 2, 3)]))
            charts.curves.mark(20, text)
            charts.curves.add(21, {f"rewards/{text}/mean": 1.0, text: 2.0})
            charts.shown = (f"rewards/{text}/mean", text, "objective/kl", "lr")
            await settle(pilot, charts)
            check(app)
        for keys in (("m", *"rewards/"), ("down",) * 3, ("escape", "escape", "e")):
            await pilot.press(*keys)
            check(app)


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
async def test_any_size_shows_charts_with_all_that_can_be_on_them(app: WorkbenchApp, size: tuple[int, int]) -> None:
    async with app.run_test(size=size) as pilot:
        charts = app.workbench.charts
        train(charts, 40)
        charts.curves.mark(7, "kl.coef 0.1→0.3")
        charts.curves.overlay("quiet-owl", curves([(step, 1.0, step_metrics(step)) for step in range(1, 30)]))
        await pilot.press("2", "left_square_bracket", "left_square_bracket")
        await settle(pilot, charts)
        for key in ("m", "e"):
            await pilot.press(key, "escape")
        canvas = charts.open_chart.query_one(".canvas")
        assert len(charts.open_chart.picture_text.split("\n")) <= max(1, canvas.size.height)
        if size[0] >= 60:
            assert "◆" in charts.open_chart.picture_text


# --- choosing a metric ---


async def test_the_picker_finds_a_metric_and_shows_it_here(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        train(charts, 9)
        await pilot.press("2", "down", "m", *"entropy", "enter")
        await settle(pilot, charts)
        assert charts.shown == (DEFAULT_METRICS[0], "policy/entropy_avg", *DEFAULT_METRICS[2:])
        assert charts.charts[1].heading_text.startswith("▸ entropy 2.4")
        assert len(charts.charts[1].points) == 9


async def test_a_metric_that_another_chart_shows_changes_places_with_this_one(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        charts = app.workbench.charts
        await pilot.press("2", "m", *"value loss", "enter")
        await pilot.pause()
        assert charts.shown == (DEFAULT_METRICS[3], DEFAULT_METRICS[1], DEFAULT_METRICS[2], DEFAULT_METRICS[0])


async def test_esc_empties_the_filter_then_leaves_all_as_it_was(app: WorkbenchApp) -> None:
    async with app.run_test(size=WIDE) as pilot:
        await pilot.press("2", "m", *"nothing has this name", "enter", "escape", "escape")
        await pilot.pause()
        assert app.screen is app.workbench
        assert app.workbench.charts.shown == DEFAULT_METRICS


async def test_the_picker_offers_what_the_run_really_has(app: WorkbenchApp) -> None:
    from rlhf_tui.areas.charts.metric import choices, matching

    async with app.run_test(size=WIDE):
        charts = app.workbench.charts
        charts.curves.add(1, {"rewards/words/mean": 1.5, "my/own": 2.0})
        names = [metric.name for metric in choices(charts.scene.run, PPOConfig.metrics)]
        assert set(names) == {*(metric.name for metric in PPOConfig.metrics), "rewards/words/mean", "my/own"}
        assert names.index("rewards/words/mean") < names.index("policy/approxkl_avg")
        found = [metric.name for metric in matching(choices(charts.scene.run, PPOConfig.metrics), "kl")]
        assert found[0] == "objective/kl"  # the title itself
        assert set(found[1:4]) == {"objective/non_score_reward", "policy/approxkl_avg", "kl_coef"}  # by title
        assert "objective/scores" in found  # by what its help says
        assert "policy/updates" in found  # by what its help says


async def test_what_is_measured_on_held_out_prompts_is_offered_where_it_can_come(app: WorkbenchApp) -> None:
    from rlhf_engine.config.fields import replace
    from rlhf_tui.areas.charts.metric import MetricScreen

    async def offered() -> set[str]:
        await pilot.press("2", "m")
        await pilot.pause()
        assert isinstance(app.screen, MetricScreen)
        options = app.screen.query_one(OptionList).options
        await pilot.press("escape")
        await pilot.pause()
        return {option.id for option in options if option.id}

    held_out = set(OF_HELD_OUT)
    assert held_out
    async with app.run_test(size=WIDE) as pilot:
        assert not held_out & await offered()
        app.edited.config = replace(app.edited.config, {"data.held_out": ["Never seen"]})
        assert held_out <= await offered()
        app.edited.config = replace(app.edited.config, {"data.held_out": [], "data.held_out_share": 0.2})
        assert held_out <= await offered()
        app.edited.config = replace(app.edited.config, {"data.held_out_share": 0.0})
        app.workbench.charts.curves.add(1, {"eval/scores": 1.5})
        assert held_out & await offered() == {"eval/scores"}


async def test_a_chart_of_held_out_prompts_is_drawn_for_runs_that_have_some(app: WorkbenchApp) -> None:
    from rlhf_engine.config.fields import replace

    async with app.run_test(size=WIDE):
        workbench, charts = app.workbench, app.workbench.charts
        charts.shown = ("eval/scores", *DEFAULT_METRICS[1:])
        assert "eval/scores" not in [chart.metric.name for chart in charts.charts]
        app.edited.config = replace(app.edited.config, {"data.held_out_share": 0.2})
        workbench.show_run()
        assert charts.charts[0].metric.name == "eval/scores"
        assert charts.shown == ("eval/scores", *DEFAULT_METRICS[1:])


async def test_a_click_on_a_heading_opens_the_picker(app: WorkbenchApp) -> None:
    from rlhf_tui.areas.charts.metric import MetricScreen

    async with app.run_test(size=WIDE) as pilot:
        await pilot.pause()
        await pilot.click(app.workbench.charts.charts[2].query_one(".title"), offset=(3, 0))
        await pilot.pause()
        assert isinstance(app.screen, MetricScreen)
        assert app.screen.query_one("#box").border_title == "Metric of chart 3"


async def test_a_chart_explains_itself(app: WorkbenchApp) -> None:
    from textual.widgets import Static

    async with app.run_test(size=NARROW) as pilot:
        train(app.workbench.charts, 3)
        await pilot.press("2", "right", "e")
        text = str(app.screen.query_one(Static).content)
        metric = REGISTRY["objective/kl"]
        assert all(part in text for part in (metric.title, metric.name, metric.unit, metric.help, metric.good,
                                             metric.bad, "newest value"))
        await pilot.press("e")
        assert app.screen is app.workbench

