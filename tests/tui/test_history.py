"""All metrics of a run, exact where new, in buckets where old, and never a spike less."""

from __future__ import annotations

import json
import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.runs.run_columns import columns_of
from rlhf_tui.engine.metrics_history import KEPT, MOST_METRICS, MetricsHistory


def run(steps: int, *, first: int = 1, history: MetricsHistory | None = None) -> MetricsHistory:
    history = history or MetricsHistory()
    for step in range(first, first + steps):
        history.add(step, {"a": float(step), "b": -float(step)}, step * 0.5)
    return history


def covered(history: MetricsHistory, name: str = "a") -> list[tuple[int, int]]:
    """(first, last) step of each bucket of a look at everything."""
    return [(int(bucket.step) - bucket.size + 1, int(bucket.step)) for bucket in history.buckets(name, 1, 10**9, KEPT)]


def test_a_short_run_is_kept_as_it_was() -> None:
    history = run(50)
    assert history.points("a") == [(step, float(step)) for step in range(1, 51)]
    assert history.bounds == (1, 50)
    assert history.newest("b", 2) == [-49.0, -50.0]
    assert history.names == ["a", "b"]


def test_what_is_not_finite_is_noted_and_left_out() -> None:
    history = MetricsHistory()
    history.add(1, {"a": 2.0})
    history.add(2, {"a": math.nan})
    history.add(3, {"a": math.inf})
    assert history.points("a") == [(1.0, 2.0)]
    assert history.not_finite_at == {"a": 2}
    history.cut(1)
    assert history.not_finite_at == {}


values = st.one_of(st.floats(-9, 9), st.sampled_from([math.nan, math.inf, 1e300]))


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 900)), min_size=1, max_size=6), st.data())
def test_many_steps_at_once_are_what_they_are_one_by_one(parts: list[tuple[int, int]], data: st.DataObject) -> None:
    at_once, one_by_one = MetricsHistory(), MetricsHistory()
    odd = data.draw(st.dictionaries(st.integers(1, 2000), st.dictionaries(st.sampled_from("abc"), values), max_size=9))
    first = 1
    for gap, count in parts:
        first += gap  # a step may be missing, as after a line that could not be read
        steps = range(first, first + count)
        rows = [odd.get(step, {"a": step / 3, "b": -float(step)}) for step in steps]
        at_once.extend(columns_of([json.dumps({"step": step, "seconds": step * 0.5, "metrics": row}).encode()
                                   for step, row in zip(steps, rows, strict=True)]))
        for step, row in zip(steps, rows, strict=True):
            one_by_one.add(step, row, step * 0.5)
        first = steps[-1] + 1 - data.draw(st.sampled_from([0, 0, 0, min(count, 7)]))  # some are taken again
    assert at_once.bounds == one_by_one.bounds
    assert at_once.not_finite_at == one_by_one.not_finite_at
    for name in one_by_one.names:
        for most in (20, KEPT):
            assert at_once.buckets(name, 1, first, most) == one_by_one.buckets(name, 1, first, most)


def test_a_metric_may_come_late_and_stay_away() -> None:
    history = run(10)
    history.add(11, {"late": 1.0})
    history.add(12, {"a": 12.0})
    assert history.points("late") == [(11.0, 1.0)]
    assert [step for step, _ in history.points("a")][-2:] == [10, 12]
    assert history.buckets("none", 1, 12, 10) == []


@settings(max_examples=25)
@given(st.integers(1, 9000), st.integers(16, 3000))
def test_a_look_at_everything_misses_no_step_and_has_few_buckets(steps: int, most: int) -> None:
    history = run(steps)
    spans = [(int(b.step) - b.size + 1, int(b.step)) for b in history.buckets("a", 1, steps, most)]
    assert spans[0][0] == 1
    assert spans[-1][1] == steps
    assert all(after[0] == before[1] + 1 for before, after in pairwise(spans))
    assert len(spans) <= most + 3 * 7


def test_a_bucket_tells_lowest_mean_and_highest() -> None:
    history = run(6000)
    bucket = history.buckets("a", 1, 6000, KEPT)[0]
    assert (bucket.low, bucket.mean, bucket.high, bucket.size) == (1.0, 2.5, 4.0, 4)
    assert bucket.seconds == 2.0


def test_a_spike_is_still_there_after_a_hundred_thousand_steps() -> None:
    history = MetricsHistory()
    for step in range(1, 30_001):
        history.add(step, {"a": 1000.0 if step == 777 else math.nan if step == 778 else 1.0})
    found = history.buckets("a", 1, 30_000, 300)
    assert max(bucket.high for bucket in found) == 1000.0
    assert min(bucket.low for bucket in found) == 1.0
    assert len(found) < 330


def test_the_newest_steps_are_exact_however_long_the_run() -> None:
    history = run(20_000)
    found = history.buckets("a", 19_500, 20_000, 1000)
    assert [bucket.step for bucket in found] == list(range(19_500, 20_001))
    assert {bucket.size for bucket in found} == {1}
    assert len(history.points("a")) >= KEPT


def test_smoothing_gets_what_it_needs_to_settle() -> None:
    assert run(500).buckets("a", 400, 500, 1000, before=30)[0].step == 370


def test_memory_is_bounded() -> None:
    history = run(70_000)
    assert sum(len(level.steps) for level in history._levels) < 4 * 2 * KEPT
    assert all(len(level.steps) < 2 * KEPT for level in history._levels)


def test_a_file_that_names_a_new_metric_at_each_step_does_not_fill_the_memory() -> None:
    history = MetricsHistory()
    for step in range(1, 1000):
        history.add(step, {f"metric {step}": 1.0})
    assert len(history.names) == MOST_METRICS


@settings(max_examples=25)
@given(st.integers(1, 7000), st.integers(0, 7000), st.integers(1, 5000))
def test_going_back_forgets_what_came_after_and_goes_on_from_there(steps: int, back: int, more: int) -> None:
    history = run(steps)
    history.cut(back)
    left = history.bounds
    if back < 1:
        assert left is None
        return
    kept = min(steps, back)
    # far back only buckets are left: up to one of them more is lost
    assert left is None or kept - 64 < left[1] <= kept
    if steps - back < KEPT:
        assert left == (1, kept)
    run(more, first=kept + 1, history=history)
    spans = covered(history)
    assert spans[-1][1] == kept + more
    assert all(after[0] > before[1] for before, after in pairwise(spans))


def test_a_step_taken_again_replaces_itself_and_what_came_after() -> None:
    history = run(20)
    history.add(11, {"a": 0.5}, 99.0)
    assert history.points("a")[-2:] == [(10.0, 10.0), (11.0, 0.5)]
    assert history.bounds == (1, 11)


def test_time_never_runs_backwards() -> None:
    history = MetricsHistory()
    for step, seconds in ((1, 5.0), (2, 3.0), (3, None), (4, math.nan), (5, 9.0)):
        history.add(step, {"a": 1.0}, seconds)
    assert [history.seconds_at(step) for step in range(1, 7)] == [5.0, 5.0, 5.0, 5.0, 9.0, 9.0]
    assert history.step_at(6.0) == 5
    assert history.step_at(99.0) == 5
    assert MetricsHistory().step_at(1.0) is None


def test_a_place_is_found_where_steps_are_exact_and_where_they_are_not() -> None:
    history = run(20_000)
    near, far = history.at("a", 19_000), history.at("a", 100)
    assert near is not None
    assert (near.step, near.mean) == (19_000, 19_000.0)
    assert far is not None
    assert far.low <= 100 <= far.high
    assert history.neighbour(19_000, 1) == 19_001
    assert history.neighbour(20_000, 1) == 20_000
    assert history.neighbour(100, 1) == far.step + far.size
    assert history.seconds_at(19_000) == pytest.approx(9500)
    assert MetricsHistory().neighbour(3, 1) is None
    assert history.at("a", 20_001) is None


def test_of_more_names_than_a_run_can_have_none_is_remembered_for_not_being_finite() -> None:
    history = MetricsHistory()
    for step in range(20):
        metrics = ", ".join(f'"metric {step}.{number}": NaN' for number in range(100))
        history.extend(columns_of([f'{{"step": {step}, "seconds": {step}, "metrics": {{{metrics}}}}}'.encode()]))
    assert len(history.names) == len(history.not_finite_at) == MOST_METRICS
