"""Inspecting a sample: the text and the table mark the same token, and the sentences say why it is pushed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from tui.fake_session import Sessions, story_sample, story_trace
from tui.test_hostile_screens import texts
from tui.test_hostile_text import hostile, is_harmless, shown_lines

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.events import Sample, Span, StepFinished
from rlhf_engine.token_trace import TokenTrace, percent, signed_number
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.inspect.heat_text import HeatText, wrap
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.areas.inspect.token_facts import drawn_series, heat
from rlhf_tui.areas.inspect.token_table import TokenTable, lay_out
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.terminal.clean_text import clean_event, clean_text
from rlhf_tui.widgets.figures import signed_bar
from rlhf_tui.widgets.highlight import by_span

TOKENS = TokenTrace(
    ("a", " fox", ""),
    {"log_probs": (-1.0, math.log(0.25), -0.1), "reference_log_probs": (-1.5, math.log(0.05), -0.1),
     "kl": (0.5, 1.609, 0.0), "rewards": (-0.05, -0.161, 2.0), "values": (1.0, 2.5, 1.5), "returns": (1.8, 1.8, 2.0),
     "raw_advantages": (0.8, -0.7, 0.5), "advantages": (0.4, -0.35, 0.0)},
    {"kl_coef": 0.1, "whitened": 1.0},
)
OTHERWISE = replace(TOKENS, whole={"kl_coef": 0.1, "whitened": 0.0}, series={
    **TOKENS.series, "raw_advantages": (-2.34, 1.0, 0.0), "advantages": (-2.34, 1.5, 0.0)})
PPO = PPOConfig()
FOX = Sample(3, "Once ", "a fox", 2.0, {}, 2.1, 3, True, trace=TOKENS)


def shown(app: WorkbenchApp) -> str:
    return "\n".join(shown_lines(app))


async def inspecting(pilot: Any, *samples: Sample, at: int = 0) -> InspectScreen:
    screen = InspectScreen(pilot.app.bridge, PPO, samples, at)
    pilot.app.push_screen(screen)
    await pilot.pause()
    return screen


# --- numbers, bars, sentences ---


@pytest.mark.parametrize(("value", "text"), [
    (1.234, "+1.23"), (-0.5, "−0.50"), (0.0, "0.00"), (-0.001, "0.00"), (99.999, "+100"), (-12345.6, "−12346"),
    (3e9, "+3e+09"), (math.nan, "?"), (math.inf, "∞"), (-math.inf, "−∞"),
])
def test_a_number_is_signed_and_fits_its_column(value: float, text: str) -> None:
    assert signed_number(value) == text
    assert len(text) <= 6


@pytest.mark.parametrize(("value", "drawn"), [
    (1.0, "   │███"), (-1.0, "███│   "), (0.0, "   │   "), (0.5, "   │█▌ "), (-0.5, " ▐█│   "), (5.0, "   │███"),
    (math.nan, "   ?   "), (math.inf, "   │███"),
])
def test_a_bar_grows_from_its_middle(value: float, drawn: str) -> None:
    assert signed_bar(value, 1.0, 7) == drawn


@given(st.floats(), st.floats(min_value=1e-3, max_value=1e6), st.integers(3, 40))
def test_a_bar_has_its_width(value: float, most: float, width: int) -> None:
    assert cell_len(signed_bar(value, most, width)) == width


def test_heat_tells_the_sign_without_colour_and_grows_with_the_value() -> None:
    assert heat(0.0, 1.0) == heat(math.nan, 1.0) == ""
    assert heat(0.1, 1.0) == "on $success 10%"
    assert heat(1.0, 1.0) == "on $success 50%"
    assert heat(-1.0, 1.0) == "italic on $error 50%"
    assert heat(math.inf, 1.0) == "on $success 50%"
    assert heat(0.2, 1.0, ansi=True) == ""
    assert heat(-0.2, 1.0, ansi=True) == "italic"
    assert heat(1.0, 1.0, ansi=True) == "ansi_black on ansi_green"


def test_a_response_in_pieces_keeps_its_text_and_its_marks() -> None:
    spans = (Span(2, 5, "liked"), Span(11, 14, "disliked"), Span(11, 11, "liked"), Span(20, 30, "liked"))
    pieces, styles = by_span("a fox and a boy", spans)
    assert pieces == ["a ", "fox", " and a", " bo", "y"]
    assert styles == ["", "$text-success underline", "", "$text-error strike", ""]
    assert by_span("") == ([], [])


def test_the_sentences_say_what_the_update_does_to_a_token_and_why() -> None:
    assert PPO.about_token(TOKENS, 1, "·fox") == (
        "▼ ·fox is made less likely: return +1.80, the critic predicted +2.50: advantage −0.70, whitened −0.35. "
        "The actor gave it 25 %, the reference 5.0 %: log-ratio +1.61 nats, KL penalty −0.16 (β 0.1).")
    assert PPO.about_token(TOKENS, 0, "a").startswith("▲ a is made likelier")
    tiny = replace(TOKENS, series={**TOKENS.series, "advantages": (0.004, -0.35, 0.0)})
    assert PPO.about_token(tiny, 0, "a").startswith("○ a stays as likely")
    assert PPO.about_token(TOKENS, 2, "⟨end⟩") == (
        "○ ⟨end⟩ stays as likely: return +2.00, the critic predicted +1.50: advantage +0.50, whitened 0.00. "
        "The actor gave it 90 %, the reference 90 %: log-ratio 0.00 nats, KL penalty 0.00 (β 0.1); with the score of "
        "+2.00 a reward of +2.00.")


def test_a_trace_that_lacks_what_the_sentences_need_is_told_by_its_numbers() -> None:
    for lacking in (replace(TOKENS, whole={}), replace(TOKENS, series={"kl": TOKENS.series["kl"]})):
        told = PPO.about_token(lacking, 1, "·fox")
        assert "·fox" in told
        assert signed_number(1.609) in told
        assert "likely" not in told


def test_at_sequence_level_one_sentence_is_about_the_whole_response() -> None:
    # an estimator whose advantages are not return - value is shown as it was trained on
    assert "advantage −2.34." in PPO.about_token(OTHERWISE, 0, "a")
    assert "advantage +1.00, weighted +1.50." in PPO.about_token(OTHERWISE, 1, "·fox")
    trace = story_trace(story_sample(3, 0), sequence_level=True)
    assert [series.name for series in drawn_series(PPO, trace)] == ["kl", "log_probs", "reference_log_probs"]
    assert "whole response, one action, is made likelier: reward (score − β · log-ratio)" in PPO.about_token(
        trace, 0, "a")


@pytest.mark.parametrize(("log_prob", "text"), [
    (0.0, "100 %"), (math.log(0.05), "5.0 %"), (-20.0, "< 0.1 %"), (math.nan, "?"), (-math.inf, "< 0.1 %"),
])
def test_log_probabilities_read_as_per_cent(log_prob: float, text: str) -> None:
    assert percent(log_prob) == text


@given(st.integers(0, 200), st.sampled_from(drawn_series(PPO, TOKENS)))
def test_a_narrow_table_keeps_the_quantity_that_is_shown(width: int, shown: Any) -> None:
    layout = lay_out(drawn_series(PPO, TOKENS), shown, width)
    assert shown in layout.columns
    used = 5 + layout.token + 7 * len(layout.columns) + 1 + layout.bar
    assert used <= max(width, 28)
    assert layout.bar % 2 == 1


# --- wrapping ---

pieces = st.lists(st.tuples(st.integers(0, 9), hostile.map(clean_text)), max_size=8)


@given(pieces, st.integers(2, 30))
def test_wrapping_keeps_the_text_and_the_width(given_pieces: list[tuple[int, str]], width: int) -> None:
    lines = wrap(given_pieces, width)
    assert all(sum(cell_len(text) for _, text in line) <= width for line in lines)
    flat = [(index, part) for line in lines for index, text in line for part in text]
    expected = [(index, part) for index, text in given_pieces for part in text.replace("\n", "↵")]
    assert [piece for piece in flat if piece[1] != " "] == [piece for piece in expected if piece[1] != " "]


def test_a_wide_character_never_hangs_over_the_edge() -> None:
    assert wrap([(0, "a bcd日")], 4) == [[(0, "a ")], [(0, "bcd")], [(0, "日")]]
    lines = wrap([(0, "ab❤\ufe0f")], 3)
    assert all(cell_len(text) <= 3 for line in lines for _, text in line)


def test_lines_break_between_words_even_inside_of_tokens() -> None:
    assert wrap([(-1, "Once "), (0, "a l"), (1, "ittle fo"), (2, "x")], 8) == [
        [(-1, "Once "), (0, "a ")], [(0, "l"), (1, "ittle ")], [(1, "fo"), (2, "x")]]
    assert wrap([(0, "a\nb")], 8) == [[(0, "a↵")], [(0, "b")]]


# --- the screen ---


async def test_i_inspects_the_selected_sample(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("i")
        assert isinstance(app.screen, WorkbenchScreen)
        assert "no sample to inspect yet" in shown(app)
        await pilot.press("f5", "4")
        old = replace(FOX, step=2, response="an owl", trace=None)
        sessions.last.emit(StepFinished(3, 100, {}, (old, FOX), 1.0))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press("i")
        assert isinstance(app.screen, InspectScreen)
        assert app.screen.sample.response == "a fox"
        for text in ("Once a fox⟨end⟩", "score +2.00", "Advantage, whitened", "a is made likelier"):
            assert text in shown(app)
        await pilot.press("n")
        assert "an owl" in shown(app)
        assert "No tokens were kept" in shown(app)
        text = app.screen.query_one(HeatText)
        await pilot.press("right", "down")
        assert text.cursor == -1  # there is no token to choose
        await pilot.press("p", "escape")
        assert isinstance(app.screen, WorkbenchScreen)


async def test_text_and_table_mark_the_same_token(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await inspecting(pilot, FOX)
        text, table = screen.query_one(HeatText), screen.query_one(TokenTable)
        await pilot.press("down")
        assert (text.cursor, table.cursor) == (1, 1)
        await pilot.press("end")
        assert (text.cursor, table.cursor) == (2, 2)
        await pilot.press("tab", "left")
        assert (text.cursor, table.cursor) == (1, 1)
        await pilot.press("left", "left", "left")
        assert (text.cursor, table.cursor) == (0, 0)
        await pilot.click(HeatText, offset=(9, 1))
        assert (text.cursor, table.cursor) == (1, 1)
        await pilot.click(HeatText, offset=(3, 1))  # the prompt is no token
        assert text.cursor == 1
        await pilot.click(TokenTable, offset=(9, 2))
        assert (text.cursor, table.cursor) == (0, 0)


async def test_no_key_of_a_fast_burst_is_lost(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await inspecting(pilot, FOX)
        table = screen.query_one(TokenTable)
        for _ in range(2):  # as a held key sends them, with no time between
            table.action_move(1)
            table.action_measure(1)
        await pilot.pause()
        assert (table.cursor, screen.query_one(HeatText).cursor) == (2, 2)
        assert "colours: value" in shown(app)


async def test_left_and_right_choose_what_the_colours_show(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await inspecting(pilot, FOX)
        assert "colours: advantage" in shown(app)
        await pilot.press("right")
        assert "colours: reward" in shown(app)
        await pilot.press("left", "left")
        assert "colours: reference log-probability" in shown(app)
        assert screen.query_one(HeatText)._styles[0] == "italic on $error 30%"  # −1.5 of at most 3 nats


async def test_a_sample_is_inspected_from_its_own_screen_too(app: WorkbenchApp, sessions: Sessions) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("f5", "4")
        sessions.last.emit(StepFinished(3, 100, {}, (FOX,), 1.0))
        app.show_events(app.bridge.drain())
        await pilot.pause()
        await pilot.press("enter", "i")
        assert isinstance(app.screen, InspectScreen)
        await pilot.press("y")
        assert "written to" in shown(app)


async def test_any_text_is_only_text_and_any_size_does(app: WorkbenchApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        for number_, text in enumerate(texts(12)):
            values = dict.fromkeys(TOKENS.series, (math.nan, 1e30, -math.inf))
            trace = TokenTrace((text, "", text[:2]), values, TOKENS.whole)
            told = clean_event(StepFinished(1, 9, {}, (replace(FOX, prompt=text, response=text, trace=trace),), 0.1))
            await inspecting(pilot, told.samples[0])  # type: ignore[attr-defined]
            await pilot.resize_terminal(*((120, 40), (80, 24), (60, 16), (20, 5))[number_ % 4])
            for key in ("down", "down", "right", "tab", "right"):
                await pilot.press(key)
                assert all(map(is_harmless, shown_lines(app)))
            app.pop_screen()
        assert app.is_running


async def test_a_response_without_tokens_does_no_harm(app: WorkbenchApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        empty = TokenTrace((), dict.fromkeys(TOKENS.series, ()), TOKENS.whole)
        await inspecting(pilot, replace(FOX, response="", tokens=0, trace=empty))
        await pilot.press("down", "end", "right", "tab", "right", "down")
        assert "The response has no token" in shown(app)


async def test_a_response_without_tokens_is_read_whole_in_the_smallest_terminal(app: WorkbenchApp) -> None:
    long = replace(story_sample(1, 0), trace=None, response=" ".join(["a fox met a hen."] * 18) + " The end.")
    async with app.run_test(size=(60, 16)) as pilot:
        app.push_screen(InspectScreen(app.bridge, PPO, [long]))
        await pilot.pause()
        await pilot.pause()
        assert "The end." in "\n".join(shown_lines(app))
