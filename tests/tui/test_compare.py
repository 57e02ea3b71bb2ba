"""Comparing: progress, table, pairs and histogram, and giving up."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tui.fake_session import Sessions, story_sample
from tui.test_generate import shown, tell
from tui.test_hostile_text import shown_lines

from rlhf_engine.evaluation.compare import Comparison, Pair, Row
from rlhf_engine.evaluation.frontier import POOL, CurvePoint, Frontier, Standing
from rlhf_engine.events import ComparisonFinished, ComparisonPaired, ComparisonProgress
from rlhf_engine.maths.best_of_n import best_of_n_kl
from rlhf_engine.maths.statistics import Estimate
from rlhf_engine.requests import REFERENCE, Cancel, Compare
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.frontier import draw_frontier
from rlhf_tui.areas.charts.histogram import Colours, bins, draw_histogram
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.areas.compare.comparison_table import comparison_table
from rlhf_tui.areas.compare.screen import CompareScreen
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.widgets.estimates import sign_of

PLAIN = Colours("default", "default", "default")
ROWS = (
    Row("liked_share", "liked words", Estimate(0.021, 0.015, 0.027), Estimate(0.098, 0.08, 0.116),
        Estimate(0.077, 0.059, 0.096)),
    Row("mean_score", "score", Estimate(-0.5, -0.7, -0.3), Estimate(3.25, 3.0, 3.5), Estimate(3.75, 3.4, 4.1)),
    Row("score/endings", "score: endings", Estimate(2.0, 1.9, 2.1), Estimate(1.0, 0.4, 1.6),
        Estimate(-1.0, -1.6, -0.4)),
    Row("distinct_2", "distinct-2", Estimate(0.8, 0.7, 0.9), Estimate(0.75, 0.65, 0.85), Estimate(-0.05, -0.2, 0.1)),
    Row("mean_length", "length (tokens)", Estimate(math.nan, -math.inf, math.inf), Estimate(1, -math.inf, math.inf),
        Estimate(math.nan, -math.inf, math.inf)),
)


def comparison(number: int = 12) -> Comparison:
    generator = random.Random(0)
    return Comparison(ROWS, tuple(
        Pair(replace(story_sample(1, i), score=generator.gauss(0, 1)),
             replace(story_sample(1, i + 1), score=generator.gauss(3, 1))) for i in range(number)))


def frontier(share: Estimate | None = Estimate(0.71, 0.64, 0.78)) -> Frontier:
    """As of scores with a mean of 0 and a spread of 1.5."""
    curve = tuple(CurvePoint(2.0**power, best_of_n_kl(2.0**power), 1.5 * math.sqrt(2 * math.log(2.0**power)))
                  for power in range(8))
    why = "" if share else "its KL of 9.30 nats is beyond what 128 responses per prompt can tell"
    return Frontier((None, Standing("tuned", 3.1, 3.0, 9.3, 58.9, share, why)), curve, 128, 16, 20)


def asked(sessions: Sessions) -> list[Compare]:
    return [request for request in sessions.last.asked if isinstance(request, Compare)]


def test_shares_are_per_cent_and_their_differences_points() -> None:
    table = comparison_table(ROWS, 120).plain
    assert "2.1% [1.5%, 2.7%]" in table
    assert "+7.7pp [+5.9pp, +9.6pp]  ▲" in table
    assert "+3.75 [+3.40, +4.10]" in table
    assert "? [−∞, ∞]" in table


@pytest.mark.parametrize("width", [120, 80, 50, 20, 1])
def test_the_table_fits(width: int) -> None:
    assert all(line.cell_length <= width for line in comparison_table(ROWS, width).split("\n"))


def test_a_difference_is_marked_only_where_its_interval_leaves_no_doubt() -> None:
    signs = [sign_of(Estimate(0, low, high))[0] for low, high in ((1, 2), (-2, -1), (-1, 1), (-math.inf, math.inf))]
    assert signs == ["▲", "▼", "≈", "≈"]


def test_every_value_falls_into_one_bin() -> None:
    assert bins([0.0, 0.5, 1.0, 1.0], 0.0, 1.0, 4) == [1, 0, 1, 2]


@settings(max_examples=60)
@given(st.lists(st.floats(), max_size=8), st.lists(st.floats(), max_size=8), st.integers(0, 70), st.integers(0, 20))
def test_any_scores_can_be_drawn(reference: list[float], tuned: list[float], width: int, height: int) -> None:
    draw_histogram(reference, tuned, width, height, PLAIN)


def test_the_two_sides_differ_by_marker() -> None:
    text = draw_histogram([0.0], [1.0], 40, 10, PLAIN).plain
    assert "░" in text
    assert "█" in text


async def test_it_starts_at_once_shows_progress_and_then_everything(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        assert asked(sessions) == [Compare(1, app.edited.config, 100, 0, pool=POOL)]
        await tell(pilot, sessions, ComparisonProgress(1, 32, 100))
        assert "32/100" in shown(app)
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        for text in ("+7.7pp [+5.9pp, +9.6pp]", "1 of 12", "░░ reference", "██ tuned", "rabbit"):
            assert text in shown(app)
        await pilot.press("right")
        await pilot.pause()
        assert "2 of 12" in shown(app)


async def test_y_copies_the_table_as_text(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("c", "y")
        assert "nothing to copy yet" in shown(app)
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        assert "significant (95 % CI excludes 0)" in shown(app)
        await pilot.press("y")
        await pilot.pause()
        copied = app.clipboard.splitlines()
        assert copied[0].split() == ["reference", "tuned", "difference"]
        endings = next(line for line in copied if line.startswith("score: endings"))
        assert " ".join(endings.split()[2:]) == "2.00 [1.90, 2.10] 1.00 [0.40, 1.60] −1.00 [−1.60, −0.40] ▼"
        assert "\x1b" not in app.clipboard


async def test_pairs_are_sorted_by_gain(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        result = comparison()
        gains = [pair.tuned.score - pair.reference.score for pair in result.pairs]
        await tell(pilot, sessions, ComparisonFinished(1, result))
        await pilot.press("o")
        await pilot.pause()
        assert f"gain {max(gains):+.2f}" in shown(app)


async def test_other_numbers_and_once_more(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        await pilot.press("n", *"20", "enter")
        assert asked(sessions)[-1] == Compare(2, app.edited.config, 20, 0, pool=POOL)
        await tell(pilot, sessions, ComparisonFinished(2, comparison()))
        await pilot.press("escape", "r")
        assert asked(sessions)[-1] == Compare(3, app.edited.config, 20, 0, pool=POOL)


async def test_esc_gives_up_and_then_leaves(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c", "escape")
        await pilot.pause()
        assert Cancel(1) in sessions.last.asked
        assert isinstance(app.screen, CompareScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)


async def test_while_training_it_says_for_what_it_waits(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        sessions.last.steps(3)
        await tell(pilot, sessions)
        await pilot.press("c")
        await pilot.pause()
        assert "waiting for step 4 to end" in shown(app)


async def test_an_error_is_said(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, None, "no [/x] model"))
        assert "no [/x] model" in shown(app)


async def test_a_crash_of_the_engine_ends_the_waiting(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await pilot.pause()
        sessions.last.break_down(ZeroDivisionError("division by zero"))
        assert app.bridge.join(10)
        await tell(pilot, sessions)
        assert "the engine crashed (ZeroDivisionError)" in shown(app)
        assert "Cancel" not in shown(app)
        await pilot.press("r")
        assert len(sessions) == 2
        assert len(asked(sessions)) == 1


async def test_pairs_without_scores_are_shown_and_the_reason_is_said(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        bare = replace(comparison(), rows=ROWS[2:], no_scores="no scores: own.py [/x] could not be read")
        await pilot.press("r")
        await tell(pilot, sessions, ComparisonFinished(2, bare))
        text = shown(app)
        assert text.count("no scores: own.py [/x]") == 3  # on the alarm line, and below each answer
        assert "1 of 12" in text
        for figure in ("score +", "· gain", "██", "liked words"):
            assert figure not in text


async def test_pairs_are_read_while_best_of_n_is_drawn(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonPaired(1, comparison()))
        assert "+7.7pp [+5.9pp, +9.6pp]" in shown(app)
        await pilot.press("right")
        await tell(pilot, sessions, ComparisonProgress(1, 640, 2048))
        assert "640/2048" in shown(app)
        await tell(pilot, sessions, ComparisonFinished(1, replace(comparison(), frontier=frontier())))
        text = shown(app)
        assert "2 of 12" in text  # whoever reads is left where they are
        assert "71%" in text
        assert "██ tuned" in text
        await pilot.press("f")
        await pilot.pause()
        text = shown(app)
        assert "best-of-9.3" in text
        assert "16 of 20 prompts" in " ".join(text.split())
        assert "██ tuned" not in text
        await pilot.press("y")
        assert "best-of-9.3" in app.clipboard
        await pilot.press("f")
        await pilot.pause()
        assert "██ tuned" in shown(app)


async def test_what_best_of_n_cannot_tell_is_said(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c", "f")
        await tell(pilot, sessions, ComparisonFinished(1, replace(comparison(), frontier=frontier(None))))
        assert "9.30 nats" in shown(app)
        why = replace(comparison(), frontier=Frontier(why="best-of-n: neither [/x] is trained"))
        await pilot.press("r")
        await tell(pilot, sessions, ComparisonFinished(2, why))
        assert "neither [/x] is trained" in shown(app)
        assert "9.30 nats" not in shown(app)


async def test_leaving_gives_up_what_is_still_drawn_for_best_of_n(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonPaired(1, comparison()))
        assert "Cancel" not in shown(app)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, WorkbenchScreen)
        assert Cancel(1) in sessions.last.asked


async def test_what_goes_wrong_with_best_of_n_leaves_the_pairs(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c", "f")
        await tell(pilot, sessions, ComparisonPaired(1, comparison()), ComparisonFinished(1, None, "no [/x] memory"))
        assert shown(app).count("no [/x] memory") == 2
        assert "1 of 12" in shown(app)


async def test_a_run_that_trains_waits_for_a_pool_only_when_somebody_looks_at_it(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f5")
        sessions.last.steps(3)
        await tell(pilot, sessions)
        await pilot.press("c")
        await pilot.pause()
        assert asked(sessions)[-1].pool == 0
        await tell(pilot, sessions, ComparisonFinished(asked(sessions)[-1].id, comparison()))
        await pilot.press("f")
        await pilot.pause()
        assert "best-of-n: " in shown(app)  # and why there is none
        await pilot.press("r")
        assert asked(sessions)[-1].pool == POOL


@settings(max_examples=60)
@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=4),
       st.lists(st.tuples(st.floats(), st.floats()), max_size=2), st.integers(0, 70), st.integers(0, 20))
def test_any_frontier_can_be_drawn(
    curve: list[tuple[float, float]], marks: list[tuple[float, float]], width: int, height: int
) -> None:
    draw_frontier(sorted(curve), [("o", kl, score) for kl, score in marks], width, height)


def test_a_model_is_marked_on_the_curve_too() -> None:
    sheet = draw_frontier([(0.0, 0.0), (1.0, 1.0), (2.0, 2.0)], [("o", 1.0, 1.0)], 40, 12)
    assert isinstance(sheet, Sheet)
    assert sum(text.count("o") for line in sheet.runs() for text, kind in line if kind == "overlay") == 1


@pytest.mark.parametrize("size", [(20, 5), (60, 16), (80, 24), (300, 100)])
async def test_no_size_is_too_small_or_too_large(
    app: WorkbenchApp, sessions: Sessions, size: tuple[int, int]
) -> None:
    async with app.run_test(size=size) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, replace(comparison(), frontier=frontier())))
        for key in "123f":
            await pilot.press(key)
            await pilot.pause()
            assert all(len(line) <= size[0] for line in shown_lines(app))


async def test_a_terminal_that_changes_its_size_is_followed(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        for size in ((80, 24), (20, 5), (160, 50), (40, 60)):
            await pilot.resize_terminal(*size)
            await pilot.pause()



async def test_while_others_are_compared_the_numbers_keep_the_names_they_belong_to(
    app: WorkbenchApp, sessions: Sessions
) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("c")
        await tell(pilot, sessions, ComparisonFinished(1, comparison()))
        await pilot.press("b")
        await pilot.pause()
        await pilot.press("enter")  # the first that is offered: reference, with reference
        await pilot.pause()
        assert asked(sessions)[-1].second == REFERENCE
        await tell(pilot, sessions, ComparisonProgress(2, 32, 100))
        assert "Reference against tuned" in shown(app)
        assert "comparing reference with reference" in shown(app)
        await pilot.press("escape")
        await pilot.pause()
        assert "Reference against tuned" in shown(app)
        assert "+7.7pp [+5.9pp, +9.6pp]" in shown(app)
