"""Figures: numbers below zero carry one sign, wherever they are shown, and what rounds to zero has none."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from tui.fake_session import story_sample

from rlhf_engine.events import RunState
from rlhf_engine.runs.run_list import RunFigures
from rlhf_engine.token_trace import signed_number
from rlhf_tui.areas.charts.readout import show_value
from rlhf_tui.areas.charts.series import compact, tick_labels
from rlhf_tui.areas.runs.run_rows import number
from rlhf_tui.areas.samples.sample import score_parts
from rlhf_tui.areas.samples.samples import sample_line
from rlhf_tui.engine.run_view import RunView
from rlhf_tui.widgets.answer import score_line, signed
from rlhf_tui.widgets.estimates import plain
from rlhf_tui.widgets.figures import figure, sparkline
from rlhf_tui.widgets.status import StatusLine


def test_a_sparkline_goes_from_the_lowest_to_the_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([-1.0, 7.0, 1.0], 8) == "▁█▃"
    assert sparkline([0, 0, 10, 10, 20, 20, 70, 70], 4) == "▁▂▃█"
    assert sparkline([5.0, 5.0, 5.0], 8) == "▄▄▄"
    assert sparkline([math.nan, 1.0, math.inf], 8) == "▄"
    assert sparkline([], 8) == sparkline([1.0], 0) == ""


def test_a_number_below_zero_has_the_same_sign_everywhere() -> None:
    sample = replace(story_sample(1, 0), response="one", spans=(), score=-1.25, kl=-0.5, parts={"words": -1.25})
    view = RunView()
    view.state, view.total_steps = RunState.PAUSED, 10
    view.metrics = {"objective/scores": -1.25, "objective/kl": -0.5}
    line = StatusLine(view)
    line.with_metrics = True
    status = " ".join(part.content.plain for part in line._parts())
    shown = [sample_line(sample, 60).plain, score_parts(sample).plain, score_line(-1.25, sample.parts).plain, status,
             signed(-1.25), plain(-1.25), show_value(-1.25), show_value(-2e-5), number(-1.25, "+.2f"), compact(-1.25),
             *tick_labels([-2, -1]), signed_number(-1.25)]
    assert all("−" in text and not re.search(r"-\d", text) for text in shown), shown


def test_what_rounds_to_zero_has_no_sign() -> None:
    sample = replace(story_sample(1, 0), response="one", spans=(), score=-0.001, kl=-0.04, parts={})
    assert sample_line(sample, 60).plain.split()[1:3] == ["+0.00", "0.0"]
    assert (number(-0.001, "+.2f"), plain(-0.001)) == ("+0.00", "0.00")


def test_what_a_run_has_no_figure_for_is_a_dash_and_no_sign() -> None:
    figures = RunFigures(None, float("nan"), 0, ())
    assert (number(figures.score, "+.2f"), number(figures.kl, ".1f")) == ("–", "✗")


@pytest.mark.parametrize(("value", "form", "shown"), [
    (-1.5, ".2f", "−1.50"), (-1.5, "+8.2f", "   −1.50"), (1.5, "+.2f", "+1.50"), (-0.001, "+.2f", "+0.00"),
    (-0.04, ".1f", "0.0"), (float("-inf"), ".1f", "−inf"), (float("nan"), "+6.2f", "  +nan"),
])
def test_a_figure_has_its_sign_and_no_minus_where_it_rounds_to_zero(value: float, form: str, shown: str) -> None:
    assert figure(value, form) == shown
