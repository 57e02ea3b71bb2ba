"""Counting words is what the reward does: the same matches, the same phrases, and no others."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_engine.config.rewards import WordListRewardConfig
from rlhf_engine.rewards.word_list import WordListReward
from rlhf_tui.areas.rewards.word_rates import NEWEST, Rates, Uses, WordCounter, change, course, entry_of
from rlhf_tui.areas.rewards.word_rows import ORDERS, columns, rows_of, window, word_line
from rlhf_tui.areas.rewards.word_text import remarks
from rlhf_tui.areas.rewards.word_watch import Count
from rlhf_tui.terminal.clean_text import clean_text

words = st.sampled_from(["fox", "Fox's", "polar", "bear", "polar bear", "boy", "t-rex", "übel", "[/x]"])
texts = st.lists(words, max_size=12).map(" ".join)
FOX, BEAR, POLAR_BEAR = ("fox",), ("bear",), ("polar", "bear")


def of(uses: int, words: int = 1000) -> Uses:
    return Uses(1, words, {FOX: uses})


def test_a_phrase_takes_its_words_with_it() -> None:
    found = WordCounter(["bear", "polar bear", "fox"], ["boy"]).count(["A polar bear, a bear.", "The FOX's boy"])
    assert found == Uses(2, 8, {POLAR_BEAR: 1, BEAR: 1, FOX: 1, ("boy",): 1})
    assert found.rate(BEAR) == 12.5
    assert found.rate(("owl",)) == 0
    assert math.isnan(Uses().rate(FOX))


@given(st.lists(texts, max_size=4))
def test_there_are_as_many_uses_as_the_reward_pays_for(responses: list[str]) -> None:
    liked, disliked = ["fox", "polar bear", "t-rex"], ["bear", "boy"]
    reward = WordListReward(WordListRewardConfig(liked=liked, disliked=disliked, liked_bonus=1, disliked_penalty=1))
    scores = reward.score(responses, responses)
    found = WordCounter(liked, disliked).count(responses)
    for entries, part in ((liked, "liked"), (disliked, "disliked")):
        paid = sum(abs(score.parts[part]) for score in scores)
        assert sum(found.by_entry.get(entry_of(word), 0) for word in entries) == paid


def test_what_cannot_be_printed_is_counted_on_both_sides() -> None:
    word = "می\u200cخواهم"
    assert WordCounter([word], []).count([clean_text(f"x {word} y")]).by_entry == {entry_of(word): 1}


def test_only_the_newest_speak_for_the_tuned_model_but_all_for_the_course() -> None:
    newest_first = ["fox"] * NEWEST + ["owl"] * NEWEST
    rates = WordCounter(["fox"], []).rates(newest_first, ["owl fox"])
    assert rates.tuned == Uses(NEWEST, NEWEST, {FOX: NEWEST})
    assert rates.reference == Uses(1, 2, {FOX: 1})
    assert course(rates, FOX) == "▁" * 6 + "█" * 6


@pytest.mark.parametrize(("reference", "tuned", "sign"), [
    (0, 0, "≈"), (0, 5, "≈"), (0, 6, "▲"), (6, 0, "▼"), (40, 50, "≈"), (40, 80, "▲"),
])
def test_a_change_is_marked_only_where_chance_hardly_makes_it(reference: int, tuned: int, sign: str) -> None:
    assert change(Rates(of(reference), of(tuned)), FOX) == sign
    assert not change(Rates(Uses(), of(tuned)), FOX)


def test_a_few_responses_have_no_course() -> None:
    assert not course(WordCounter(["fox"], []).rates(["fox"] * 15, []), FOX)
    assert course(WordCounter(["fox"], []).rates(["owl"] * 16, []), FOX) == "▁▁"


def test_orders_move_lines_and_keep_places() -> None:
    rates = Rates(Uses(1, 100, {FOX: 9, BEAR: 1}), Uses(1, 100, {FOX: 8, BEAR: 5}))
    shown = {order: [row.word for row in rows_of("liked", ["fox", "Bear", "ape"], order, rates)[1:]]
             for order in ORDERS}
    assert shown == {"as written": ["fox", "Bear", "ape"], "A to Z": ["ape", "Bear", "fox"],
                     "most said": ["fox", "Bear", "ape"], "most gained": ["Bear", "ape", "fox"]}
    assert [row.at for row in rows_of("liked", ["fox", "ape"], "A to Z", rates)] == [-1, 1, 0]


@given(st.text(max_size=30), st.integers(1, 80))
def test_a_line_is_as_wide_as_there_is_room(word: str, width: int) -> None:
    row = rows_of("disliked", [word], "as written", Rates())[1]
    for line in (word_line(row, Rates(of(3), of(9)), True, width), columns("as written", width)):
        assert line.cell_length == width or width < 30


def test_the_window_is_said() -> None:
    assert window(Count(Rates(Uses(64, 9), Uses(96, 9)), 30, 41)) == \
        "ref. 64 responses · tuned 96 newest, steps 30–41"
    assert window(Count(Rates())) == "ref.: r asks for responses"


def test_words_of_a_script_without_spaces_are_found_and_counted() -> None:
    assert remarks(["fox", "狐"], [], None) == []
