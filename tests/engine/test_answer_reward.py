"""Points for the right answer: what is read out of a response, and what equals what."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rlhf_engine.config.verifiable import AnswerRewardConfig
from rlhf_engine.errors import ConfigError, RewardError
from rlhf_engine.rewards.answer import AnswerReward
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.extract import extract
from rlhf_engine.rewards.numbers import read_number


def score(response: str, right: Any, **settings: Any) -> Score:
    (result,) = AnswerReward(AnswerRewardConfig(**settings)).score([""], [response], {"answer": [right]})
    assert result is not None
    return result


def is_right(response: str, right: Any, **settings: Any) -> bool:
    return score(response, right, **settings).facts["accuracy"] == 1.0


# --- what the answer is ---

@pytest.mark.parametrize(("text", "how", "found"), [
    ("so 2 + 2 = 4.", "last_number", "4"), ("7-3", "last_number", "3"), ("it is -3", "last_number", "-3"),
    ("from 1,000 to 2,500.50!", "last_number", "2,500.50"), ("a half, 1/2", "last_number", "1/2"),
    ("1,2,3", "last_number", "3"), ("no idea", "last_number", None), ("= .5", "last_number", ".5"),
    ("2e3 or so", "last_number", "2e3"), ("12 %", "last_number", "12"),
    (r"\boxed{1} no, \boxed{\frac{1}{2}} yes", "boxed", r"\frac{1}{2}"), (r"\boxed{7", "boxed", None),
    (r"\boxed{3} and \boxed{4", "boxed", "3"), (r"\boxed{}", "boxed", None),
    ("2+2=4\n#### 4\nbye", "hashes", "4"), ("4", "hashes", None), ("#### 1 #### 2", "hashes", "2"),
    ("<answer> 5 </answer>", "answer_tag", "5"), ("<answer>1</answer><answer>2</answer>", "answer_tag", "2"),
    ("<answer>1", "answer_tag", None), ("1</answer>", "answer_tag", None),
    ("\n\n one \n two \n", "first_line", "one"), ("\n\n one \n two \n", "last_line", "two"),
    ("one\r\ntwo\r\n", "first_line", "one"), ("one\r\ntwo\r\n", "last_line", "two"),
    (" a b ", "whole", "a b"), (" \n ", "whole", None), ("", "first_line", None), ("", "last_line", None),
])
def test_extractors(text: str, how: Any, found: str | None) -> None:
    answer = extract(text, how)
    assert (answer and answer.text) == found
    assert answer is None or text[answer.start:answer.end] == answer.text


def test_a_pattern_gives_its_first_group_or_all_of_its_last_match() -> None:
    expected = {r"answer is (\w+)": "owl", r"(?:fox|owl)": "owl", r"answer is (x)?": None, "z": None}
    for pattern, found in expected.items():
        answer = extract("the answer is fox; the answer is owl", "pattern", pattern)
        assert (answer and answer.text) == found


@given(st.text(), st.sampled_from(["last_number", "boxed", "hashes", "answer_tag", "first_line", "last_line", "whole"]))
def test_an_answer_stands_where_it_is_said_to(text: str, how: Any) -> None:
    answer = extract(text, how)
    if answer is not None:
        assert answer.text
        assert answer.text == answer.text.strip() == text[answer.start:answer.end]


# --- numbers ---

@given(st.decimals(-10**12, 10**12, places=3), st.sampled_from(["{:,f}", "{:f}", "{:e}", "{:+f}", "{:+,f}", "${:,f}",
                                                                 "{:f} %", r"\({:f}\)", " {:f} "]))
def test_a_number_is_the_same_however_it_is_written(number: Decimal, form: str) -> None:
    written = form.format(number)
    assert read_number(written) == Fraction(number)
    assert read_number(written.replace("-", "−")) == Fraction(number)
    assert read_number(written.replace(",", "\u202f")) == Fraction(number)
    if "\\" not in form:  # where the sign stands behind a bracket, it could be an operator
        assert is_right(f"It is {written.strip()}.", str(number))


@given(st.integers(-10**6, 10**6), st.integers(1, 10**6))
def test_fractions_are_exact(top: int, bottom: int) -> None:
    assert read_number(f"{top}/{bottom}") == read_number(rf"\frac{{{top}}}{{{bottom}}}") == Fraction(top, bottom)
    assert is_right(f"= {top}/{bottom}", f"{2 * top}/{2 * bottom}")


@given(st.text(max_size=30))
def test_any_text_is_a_number_or_none(text: str) -> None:
    number = read_number(text)
    assert number is None or isinstance(number, Fraction)


@pytest.mark.parametrize("text", ["", "x", "1 2", "1,00", "1.2.3", "1/0", "1_000", "9" * 5_000, "1e999999999", "--1",
                                  "1e", "inf", "nan", "one"])
def test_what_is_no_number_is_none(text: str) -> None:
    assert read_number(text) is None


def test_a_tolerance_lets_near_numbers_be_right() -> None:
    assert not is_right("0.33", "1/3")
    assert is_right("0.33", "1/3", tolerance=0.01)
    assert not is_right("0.3", "1/3", tolerance=0.01)
    assert is_right("1.3", 1, tolerance=0.3)
    assert is_right("0.1", 0.1)
    assert is_right("1000", 1000)


# --- texts, and several right answers ---

def test_texts_are_equal_but_for_what_is_ignored() -> None:
    whole: dict[str, Any] = {"extract": "whole", "compare": "text"}
    assert is_right(" The  Fox! ", "the fox", **whole)
    assert not is_right("The Fox", "the fox", ignore_case=False, **whole)
    assert not is_right("the fox!", "the fox", ignore_punctuation=False, **whole)
    assert not is_right("thefox", "the fox", **whole)
    assert is_right("thefox", "the fox", ignore_spaces=True, **whole)
    assert is_right("ＦＯＸ", "fox", **whole)
    assert not is_right("a fox", "fox", **whole)


def test_any_of_several_answers_is_right() -> None:
    assert [is_right(text, ["4", 5.0]) for text in ("4", "5", "6")] == [True, True, False]
    assert [is_right(text, "4|5", separator="|") for text in ("4", "5", "45")] == [True, True, False]
    assert is_right("owl", ["fox", "owl"], extract="whole", compare="text")


def test_the_column_may_hold_more_than_the_answer() -> None:
    assert is_right("it is 72", "48 + 24 = 72\n#### 72", column_extract="hashes")
    assert is_right(r"so \boxed{0.5}", r"Thus \boxed{\frac{1}{2}}", extract="boxed",
                    column_extract="boxed")
    assert is_right("answer: b", "key: (b)", extract="pattern", pattern=r"(?:answer|key): \(?(\w)",
                    column_extract="pattern", compare="text")


# --- scores ---

def test_right_wrong_and_none_have_their_scores_parts_and_spans() -> None:
    settings = {"right_score": 2.0, "wrong_score": -0.5, "no_answer_score": -1.0}
    right, wrong, none = (score(text, 4, **settings) for text in ("it is 4", "it is 5", "it is so"))
    assert (right.total, right.parts) == (2.0, {"right": 2.0, "wrong": 0.0, "no_answer": 0.0})
    assert (wrong.total, wrong.parts) == (-0.5, {"right": 0.0, "wrong": -0.5, "no_answer": 0.0})
    assert (none.total, none.parts) == (-1.0, {"right": 0.0, "wrong": 0.0, "no_answer": -1.0})
    assert [[(span.start, span.end, span.kind) for span in found.spans] for found in (right, wrong, none)] == [
        [(6, 7, "right")], [(6, 7, "wrong")], []]
    assert [dict(found.facts) for found in (right, wrong, none)] == [
        {"accuracy": 1.0, "no_answer": 0.0}, {"accuracy": 0.0, "no_answer": 0.0}, {"accuracy": 0.0, "no_answer": 1.0}]


def test_shares_are_of_the_responses_that_it_applies_to() -> None:
    rewards = build_rewards([AnswerRewardConfig()])
    batch = rewards.score([""] * 5, ["4", "5", "x", "4", "4"], {"answer": [4, 4, 4, 4, None]})
    assert batch.facts == {"answer/accuracy": 0.5, "answer/no_answer": 0.25}
    assert batch.by_reward["answer"] == [1.0, 0.0, 0.0, 1.0, None]
    assert rewards.score(["typed"], ["4"]).by_reward["answer"] == [None]


def test_a_prompt_finds_its_columns() -> None:
    rewards = build_rewards([AnswerRewardConfig()])
    rewards.columns_of = lambda prompts: {"answer": [{"2 + 2 =": 4}.get(prompt) for prompt in prompts]}
    assert rewards.score(["2 + 2 =", "typed"], ["4", "4"]).by_reward["answer"] == [1.0, None]


# --- rows that cannot be scored ---

@pytest.mark.parametrize(("columns", "says"), [
    ({}, "list"), ({"solution": [1, 2]}, "solution"), ({"answer": [1, None]}, "'two'.*nothing"),
    ({"answer": [1, "two"]}, "'two' is no number"), ({"answer": [1, ""]}, "none"), ({"answer": [1, {}]}, "no text"),
    ({"answer": [1, []]}, "empty"), ({"answer": [1, "!?"]}, "no number"),
])
def test_rows_without_a_right_answer_are_named(columns: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        AnswerReward(AnswerRewardConfig()).require_rows(["one", "two"], columns)
    assert "\n" not in str(caught.value)
    AnswerReward(AnswerRewardConfig()).require_rows(["one", "two"], {"answer": [1, "2.0"]})


def test_a_text_of_which_nothing_is_left_is_no_answer() -> None:
    reward = AnswerReward(AnswerRewardConfig(compare="text"))
    with pytest.raises(ConfigError, match="nothing is left"):
        reward.require_rows(["x"], {"answer": ["!?"]})
    AnswerReward(AnswerRewardConfig(compare="text", ignore_punctuation=False)).require_rows(["x"], {"answer": ["!?"]})


def test_a_column_that_is_missing_while_scoring_is_said_by_the_reward() -> None:
    with pytest.raises(RewardError, match=r"column 'answer'.*other"):
        AnswerReward(AnswerRewardConfig()).score([""], ["4"], {"other": [1]})


def test_a_slow_pattern_is_given_up() -> None:
    with pytest.raises(RewardError, match="took longer"):
        score("a" * 120 + "b", "x", extract="pattern", pattern="(a|aa)+$", compare="text")


def test_patterns_are_checked_with_the_settings() -> None:
    for settings in ({"extract": "pattern"}, {"column_extract": "pattern"}):
        with pytest.raises(ValidationError, match="needs a pattern"):
            AnswerRewardConfig(**settings)
    with pytest.raises(ValidationError, match="at character 1"):
        AnswerRewardConfig(pattern="(a")
