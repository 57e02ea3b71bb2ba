"""Several rewards as one, and rewards that misbehave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rlhf_engine.errors import ConfigError, RewardError
from rlhf_engine.events import Span
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import RewardSum


class Fake:
    """A reward made of one function from a response to whatever it returns."""

    def __init__(self, name: str, judge: Callable[[str], Any]) -> None:
        self.name = name
        self.judge = judge

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Any]:
        return [self.judge(response) for response in responses]


def score_with(judge: Callable[[str], Any], responses: list[str]) -> None:
    RewardSum([(Fake("odd", judge), 1.0)]).score(["p"] * len(responses), responses)


def test_totals_and_parts_are_weighted_and_own_totals_are_not() -> None:
    length = Fake("length", lambda r: Score(float(len(r)), {"letters": float(len(r)) + 1, "fixed": -1.0}))
    flat = Fake("flat", lambda r: Score(3.0, {}))
    batch = RewardSum([(length, 2.0), (flat, -0.5)]).score(["p", "p"], ["ab", "abcd"])
    assert [s.total for s in batch.scores] == [2.5, 6.5]
    assert batch.scores[0].parts == {"length/letters": 6.0, "length/fixed": -2.0, "flat": -1.5}
    assert sum(batch.scores[1].parts.values()) == batch.scores[1].total
    assert batch.by_reward == {"length": [2.0, 4.0], "flat": [3.0, 3.0]}


def test_prompts_stay_with_their_responses() -> None:
    seen: list[tuple[str, str]] = []

    class Spy(Fake):
        def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Any]:
            seen.extend(zip(prompts, responses, strict=True))
            return super().score(prompts, responses)

    RewardSum([(Spy("spy", lambda r: Score(0.0, {})), 1.0)]).score(["p", "q"], ["r", "s"])
    assert seen == [("p", "r"), ("q", "s")]
    with pytest.raises(ValueError, match="2 prompts for 1 responses"):
        RewardSum([(Spy("spy", lambda r: Score(0.0, {})), 1.0)]).score(["p", "q"], ["r"])


def test_spans_are_sorted_and_the_first_reward_wins_an_overlap() -> None:
    first = Fake("first", lambda r: Score(0.0, {}, (Span(8, 10, "liked"), Span(2, 5, "liked"))))
    spans = (Span(0, 2, "disliked"), Span(4, 6, "disliked"), Span(6, 7, "disliked"), Span(7, 9, "x"), Span(12, 12, "x"))
    second = Fake("second", lambda r: Score(0.0, {}, spans))
    (score,) = RewardSum([(first, 1.0), (second, 1.0)]).score(["p"], ["0123456789"]).scores
    assert [(s.start, s.end, s.kind) for s in score.spans] == [
        (0, 2, "disliked"),
        (2, 5, "liked"),
        (6, 7, "disliked"),
        (8, 10, "liked"),
    ]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None, "high", 10**400])
@pytest.mark.parametrize("where", ["total", "part"])
def test_what_is_not_a_finite_number_is_refused(bad: Any, where: str) -> None:
    def judge(response: str) -> Score:
        value = bad if response == "second" else 1.0
        return Score(value, {}) if where == "total" else Score(1.0, {"p": value})

    with pytest.raises(RewardError, match=rf"'odd' gave the {where}.*'second'"):
        score_with(judge, ["first", "second", "third"])


def test_the_text_that_is_to_blame_is_quoted_and_cut() -> None:
    with pytest.raises(RewardError) as caught:
        score_with(lambda r: Score(math.nan, {}), ["x" * 79 + "yz"])
    assert "'" + "x" * 79 + "y'..." in str(caught.value)
    assert "z" not in str(caught.value)


def test_something_other_than_a_score_is_refused() -> None:
    with pytest.raises(RewardError, match="'odd' gave a float in place of a Score for the response 'first'"):
        score_with(lambda r: 1.0, ["first"])


@pytest.mark.parametrize(
    ("output", "found"), [([], "0 scores"), ([Score(0.0, {})] * 3, "3 scores"), (None, "a NoneType")]
)
def test_another_number_of_scores_is_refused(output: Any, found: str) -> None:
    class Wrong(Fake):
        def score(self, prompts: Sequence[str], responses: Sequence[str]) -> Any:
            return output

    wrong = Wrong("wrong", str)
    with pytest.raises(RewardError, match=f"'wrong' returned {found} for 2 responses, the first being 'one'"):
        RewardSum([(wrong, 1.0)]).score(["p", "p"], ["one", "two"])


def test_a_reward_that_raises_is_named_with_the_response_that_does_it() -> None:
    def judge(response: str) -> Score:
        return Score(1.0 / len(response), {})

    with pytest.raises(RewardError, match=r"'odd' raised ZeroDivisionError: .* \(scoring the response ''\)") as caught:
        score_with(judge, ["fine", ""])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_reward_that_fails_only_in_batches_is_named_with_the_batch() -> None:
    class Batchy(Fake):
        def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Any]:
            if len(responses) > 1:
                raise MemoryError("too much")
            return super().score(prompts, responses)

    with pytest.raises(RewardError, match="scoring a batch of 2 responses"):
        RewardSum([(Batchy("big", lambda r: Score(0.0, {})), 1.0)]).score(["p", "p"], ["a", "b"])


def test_a_rewards_own_error_passes_unchanged() -> None:
    error = RewardError("the classifier is gone")

    def judge(response: str) -> Score:
        raise error

    with pytest.raises(RewardError) as caught:
        score_with(judge, ["a"])
    assert caught.value is error


def test_names_must_differ_and_there_must_be_a_reward() -> None:
    zero = Fake("zero", lambda r: Score(0.0, {}))
    with pytest.raises(ConfigError, match="Two rewards are named 'zero'"):
        RewardSum([(zero, 1.0), (zero, 2.0)])
    with pytest.raises(ConfigError, match="no reward"):
        RewardSum([])


def test_an_empty_batch_has_no_scores() -> None:
    batch = RewardSum([(Fake("zero", lambda r: Score(0.0, {})), 1.0)]).score([], [])
    assert batch.scores == []
    assert batch.by_reward == {"zero": []}
