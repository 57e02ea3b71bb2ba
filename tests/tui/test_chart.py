"""Charts show what was measured, survive what was not a number, and cost little."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tui.fake_session import step_metrics

from rlhf_engine.metrics import describe
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.theme import LIGHT
from rlhf_tui.widgets.chart import LEAST_STEPS, Chart, History, Lens, show_value
from rlhf_tui.widgets.plot import Colours, Picture, draw
from rlhf_tui.widgets.series import LARGEST, bucket, drawable, nice_ticks, smooth, tick_labels

COLOURS = Colours(raw=(90, 90, 90), line=(100, 180, 255), axes=8, target="default", edit=(1, 2, 3))
numbers = st.floats(-LARGEST, LARGEST)
histories = st.lists(numbers, max_size=80).map(lambda ys: [(float(x), y) for x, y in enumerate(ys, 1)])


# --- series ---


def test_what_a_chart_can_place() -> None:
    assert all(map(drawable, (1.0, -1e9, 0.0)))
    assert not any(map(drawable, (math.nan, math.inf, -math.inf, 1e300)))


def test_smoothing_a_constant_changes_nothing() -> None:
    assert [y for _, y in smooth([(x, 3.0) for x in range(9)], 0.9)] == pytest.approx([3.0] * 9)


def test_smoothing_follows_its_formula() -> None:
    assert [y for _, y in smooth([(1, 1.0), (2, 3.0)], 0.5)] == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])


def test_no_smoothing_hands_the_points_back() -> None:
    assert smooth([(1, 5.0)], 0.0) == [(1, 5.0)]


@given(histories, st.integers(1, 40))
def test_buckets_keep_the_extremes_in_order_and_at_most_two_a_column(points: list[tuple[float, float]], n: int) -> None:
    kept = bucket(points, n)
    assert len(kept) <= 2 * n
    assert [x for x, _ in kept] == sorted(x for x, _ in kept)
    if points:
        assert max(y for _, y in kept) == max(y for _, y in points)
        assert min(y for _, y in kept) == min(y for _, y in points)


@given(numbers, numbers, st.integers(1, 12))
def test_ticks_lie_in_the_range_and_are_few(low: float, high: float, most: int) -> None:
    ticks = nice_ticks(low, high, most)
    assert 1 <= len(ticks) <= most
    assert len(tick_labels(ticks)) == len(ticks)
    assert all(len(label) <= 7 for label in tick_labels(ticks))


def test_ticks_are_round() -> None:
    assert nice_ticks(-0.3, 6.2, 4) == [0, 2, 4, 6]
    assert tick_labels([0, 2, 4, 6]) == ["0", "2", "4", "6"]
    assert tick_labels([0.0, 0.25, 0.5]) == ["0.00", "0.25", "0.50"]
    assert tick_labels([-0.0025, -0.002]) == ["-0.0025", "-0.0020"]
    assert tick_labels([-0.00025, -0.0002]) == ["-2.5e-4", "-2.0e-4"]
    assert tick_labels([0, 2e6]) == ["0", "2000000"]


# --- one picture ---


@settings(deadline=None, max_examples=60)
@given(histories, st.integers(0, 90), st.integers(0, 30), st.booleans(), st.none() | st.floats(0.1, 100))
def test_any_finite_series_is_drawn_in_its_box(
    points: list[tuple[float, float]], width: int, height: int, log: bool, target: float | None
) -> None:
    text = draw(Picture(points, smooth(points, 0.9), 1, 80, target, [3], log), width, height, COLOURS)
    lines = text.plain.split("\n")
    assert len(lines) <= max(1, height)
    if len(lines) > 1:
        assert all(len(line) <= width for line in lines)


def test_a_picture_wider_than_the_terminal_is_not_cut() -> None:
    points = [(float(x), float(x)) for x in range(1, 50)]
    text = draw(Picture(points, points, 1, 49), 260, 60, COLOURS)
    assert len(text.plain.split("\n")) == 60
    assert max(map(len, text.plain.split("\n"))) > 250


def test_raw_and_smoothed_differ_by_marker() -> None:
    points = [(float(x), float(x % 5)) for x in range(1, 40)]
    plain = draw(Picture(points, smooth(points, 0.9), 1, 40, 3.0, [20]), 60, 12, COLOURS).plain
    assert "·" in plain
    assert any(0x2800 < ord(c) < 0x2900 for c in plain)
    assert "╌" in plain
    assert "┊" in plain


def test_a_log_axis_leaves_out_what_is_not_above_zero() -> None:
    assert "above 0" in draw(Picture([(1, -1.0)], [(1, -1.0)], 1, 10, log=True), 60, 12, COLOURS).plain
    assert "10" in draw(Picture([(1, 1.0), (2, 100.0)], [], 1, 10, log=True), 60, 12, COLOURS).plain


def test_a_long_run_costs_little_more_to_draw_than_a_short_one() -> None:
    def seconds(steps: int) -> float:
        points = [(float(x), math.sin(x / 50)) for x in range(1, steps + 1)]
        picture = Picture(points, smooth(points, 0.9), 1, steps)
        began = time.process_time()
        draw(picture, 120, 30, COLOURS)
        return time.process_time() - began

    seconds(300)
    # 66 times as many points: plotext alone would take 66 times as long
    assert min(seconds(20_000) for _ in range(3)) < 20 * min(seconds(300) for _ in range(3))


# --- the lens ---


def test_a_lens_without_span_sees_all_and_leaves_room_at_the_start() -> None:
    assert Lens().steps(1, 3) == (1, 1 + LEAST_STEPS)
    assert Lens().steps(1, 300) == (1, 300)


def test_a_lens_with_a_span_follows_the_newest_or_looks_back() -> None:
    assert Lens(span=20).steps(1, 100) == (80, 100)
    assert Lens(span=20, back=30).steps(1, 100) == (50, 70)
    assert Lens(span=20, back=3000).steps(1, 100) == (1, 21)


# --- the widget ---


def test_a_value_that_is_not_finite_is_remembered_not_plotted() -> None:
    history = History(describe("objective/kl"))
    history.add(1, 2.0)
    history.add(2, math.nan)
    history.add(3, math.inf)
    assert history.points == [(1.0, 2.0)]
    assert history.not_finite_at == 2


@pytest.mark.parametrize(("value", "shown"), [(3.414, "+3.41"), (0.0, "0"), (-0.02, "-0.0200"), (1e9, "+1.0e9"),
                                              (2e-5, "+2.0e-5")])
def test_values_take_few_cells(value: float, shown: str) -> None:
    assert show_value(value, signed=True) == shown


async def test_charts_show_the_run_and_its_newest_values(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        charts = app.workbench.charts
        for step in range(1, 30):
            charts.add(step, step_metrics(step))
        charts.mark(12)
        charts.show_target(6.0)
        charts.draw_changed()
        await pilot.pause()
        headings = [chart.heading(60).plain for chart in charts.charts]
        assert headings[0].startswith("reward +")
        assert "nats/response (target 6)" in headings[1]
        assert headings[2].startswith("policy loss -0.0")
        assert "score²" in headings[3]
        assert all("┊" in chart.picture_text for chart in charts.charts)


async def test_nan_in_a_metric_shows_a_badge_and_kills_nothing(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        charts = app.workbench.charts
        charts.add(1, {"objective/scores": 1.0, "objective/kl": math.nan})
        charts.add(2, {"objective/scores": math.inf, "objective/kl": math.nan})
        charts.draw_changed()
        await pilot.pause()
        assert "✗ diverged" in charts.charts[0].heading(60).plain
        assert "step 2" in charts.charts[0].heading(60).plain
        assert charts.charts[1].picture_text == "no finite value"


async def test_what_the_library_cannot_draw_is_said(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("plotext")

    async with app.run_test(size=(120, 40)) as pilot:
        monkeypatch.setattr("rlhf_tui.widgets.chart.draw", fails)
        app.workbench.charts.add(1, step_metrics(1))
        app.workbench.charts.draw_changed()
        await pilot.pause()
        assert "cannot draw this: KeyError" in app.workbench.charts.charts[0].picture_text


async def test_only_changed_charts_that_are_seen_are_drawn(app: WorkbenchApp, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def draw_nothing(chart: Chart) -> None:
        drawn.append(chart.history.metric.title)
        chart.dirty = False

    monkeypatch.setattr(Chart, "draw", draw_nothing)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        charts = app.workbench.charts
        drawn.clear()
        charts.add(1, step_metrics(1))
        charts.draw_changed()
        assert drawn == []  # another pane is open
        await pilot.press("2")
        await pilot.pause()
        drawn.clear()
        charts.add(2, step_metrics(2))
        charts.draw_changed()
        assert drawn == ["reward"]
        charts.draw_changed()
        assert drawn == ["reward"]


@pytest.mark.parametrize("theme", ["workbench-dark", LIGHT.name, "textual-ansi"])
async def test_colours_come_from_the_theme(app: WorkbenchApp, theme: str) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.theme = theme if theme in app.available_themes else "ansi-dark"
        app.workbench.charts.add(1, step_metrics(1))
        app.workbench.charts.add(2, step_metrics(2))
        app.workbench.charts.draw_changed()
        await pilot.pause()
        chart = app.workbench.charts.charts[0]
        assert chart._colours().axes != (0, 0, 0)
        assert chart._colours().line != (0, 0, 0)


async def test_keys_of_the_charts(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        charts = app.workbench.charts
        for step in range(1, 101):
            charts.add(step, step_metrics(step))
        await pilot.press("2")
        await pilot.press("plus")
        assert charts._lens.span == 50
        await pilot.press("left")
        assert charts._lens.back == 25
        await pilot.press("Y", "s")
        assert charts._lens.log
        assert charts._lens.decay == 0.97
        await pilot.press("0")
        assert charts._lens == Lens()
        await pilot.press("minus")
        assert charts._lens.span is None
