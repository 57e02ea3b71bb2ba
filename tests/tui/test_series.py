"""From many values to the few points a chart can show."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_tui.areas.charts.series import bucket, log_ticks, nice_ticks, smooth, tick_labels, time_ticks
from rlhf_tui.engine.metrics_history import LARGEST, drawable

numbers = st.floats(-LARGEST, LARGEST)
histories = st.lists(numbers, max_size=80).map(lambda ys: [(float(x), y) for x, y in enumerate(ys, 1)])


def test_what_a_chart_can_place() -> None:
    assert all(map(drawable, (1.0, -1e9, 0.0)))
    assert not any(map(drawable, (math.nan, math.inf, -math.inf, 1e300)))


def test_smoothing_a_constant_changes_nothing() -> None:
    assert [y for _, y in smooth([(x, 3.0) for x in range(9)], 0.9)] == pytest.approx([3.0] * 9)


def test_smoothing_follows_its_formula() -> None:
    assert [y for _, y in smooth([(1, 1.0), (2, 3.0)], 0.5)] == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])


def test_a_bucket_weighs_as_much_as_the_steps_it_is_the_mean_of() -> None:
    steps = smooth([(1, 2.0), (2, 5.0), (3, 5.0), (4, 5.0), (5, 5.0)], 0.8)
    assert smooth([(1, 2.0), (5, 5.0)], 0.8, [1, 4])[-1][1] == pytest.approx(steps[-1][1])


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
    assert tick_labels([-0.0025, -0.002]) == ["−0.0025", "−0.0020"]
    assert tick_labels([-0.00025, -0.0002]) == ["−2.5e−4", "−2.0e−4"]
    assert tick_labels([0, 2e6]) == ["0", "2000000"]


@pytest.mark.parametrize(("low", "high", "most", "values"), [
    (0.9, 1200, 12, [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]),
    (0.9, 1200, 7, [1, 5, 10, 50, 100, 500, 1000]),
    (0.9, 1200, 4, [1, 10, 100, 1000]),
    (1e-9, 1e9, 4, [1e-5, 1, 1e5]),
    (4.1, 4.9, 4, [4.2, 4.4, 4.6, 4.8]),  # no power of ten, nor twice or five times one
    (0.031, 0.45, 5, [0.05, 0.1, 0.2]),
])
def test_ticks_of_a_logarithmic_axis_are_round_values(low: float, high: float, most: int, values: list[float]) -> None:
    ticks = log_ticks(math.log10(low), math.log10(high), most)
    assert [10**tick for tick in ticks] == pytest.approx(values)


@given(st.floats(-12, 12), st.floats(1e-3, 9), st.integers(1, 12))
def test_ticks_of_a_logarithmic_axis_lie_in_its_range(low: float, span: float, most: int) -> None:
    ticks = log_ticks(low, low + span, most)
    assert 1 <= len(ticks) <= most
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in ticks)


def test_ticks_of_time_are_whole_seconds_minutes_hours() -> None:
    assert time_ticks(0, 40, 5) == [0, 10, 20, 30, 40]
    assert time_ticks(0, 3700, 3) == [0, 1800, 3600]
    assert time_ticks(10, 90_000, 3) == [43200, 86400]
    assert time_ticks(0, 86400 * 100, 6) == [0, 86400 * 20, 86400 * 40, 86400 * 60, 86400 * 80, 86400 * 100]
