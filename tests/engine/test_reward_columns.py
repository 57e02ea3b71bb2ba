"""Rewards that see the other columns of the data, and those that do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from rlhf_engine.errors import RewardError
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.rewards.function import FunctionReward

COLUMNS = {"answer": ["4", "9"], "topic": ["sums", "squares"]}


def totals(function: Callable[..., Any], columns: Mapping[str, Sequence[Any]] | None = COLUMNS) -> list[float | None]:
    batch = RewardSum([(FunctionReward("own", function), 1.0)]).score(["2 + 2", "3 * 3"], ["4", "8"], columns)
    return batch.by_reward["own"]


def test_a_function_takes_columns_by_their_names() -> None:
    def right(prompts: list[str], responses: list[str], answer: list[str]) -> list[float]:
        return [float(a == b) for a, b in zip(responses, answer, strict=True)]

    def everything(prompts: list[str], responses: list[str], columns: dict[str, list[Any]]) -> list[int]:
        return [len(columns["topic"][at]) + len(columns) for at in range(len(responses))]

    def keywords(prompts: list[str], responses: list[str], *, answer: list[str], **others: list[Any]) -> list[int]:
        return [int(a) if list(others) == ["topic"] else 0 for a in answer]

    assert totals(right) == [1.0, 0.0]
    assert totals(everything) == [6.0, 9.0]
    assert totals(keywords) == [4.0, 9.0]


def test_functions_of_two_arguments_go_on_as_they_are() -> None:
    assert totals(lambda prompts, responses: [1, 2]) == [1.0, 2.0]
    assert totals(lambda prompts, responses, scale=3: [scale, scale]) == [3.0, 3.0]
    assert totals(lambda *texts: [len(texts), 0]) == [2.0, 0.0]
    assert totals(lambda prompts, responses: [1, 2], None) == [1.0, 2.0]


def test_a_column_that_the_data_lacks_is_named() -> None:
    with pytest.raises(RewardError, match=r"length.*answer, topic"):
        totals(lambda prompts, responses, length: [1, 2])


def test_prompts_that_are_no_rows_have_no_columns() -> None:
    assert totals(lambda prompts, responses, answer: [1, 2], None) == [None, None]
    assert totals(lambda prompts, responses, answer=None: [answer is None] * 2, None) == [1.0, 1.0]
    assert totals(lambda prompts, responses, columns: [len(columns)] * 2, None) == [0.0, 0.0]


def test_a_reward_of_another_package_may_see_columns_or_not() -> None:
    class Plain:
        name = "plain"

        def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score | None]:
            return [Score(1.0, {}) for _ in responses]

    class Seeing(Plain):
        name = "seeing"

        def score(self, prompts: Sequence[str], responses: Sequence[str], columns: Any = None) -> list[Score | None]:
            return [Score(float(answer), {}) for answer in columns["answer"]]

    batch = RewardSum([(Plain(), 1.0), (Seeing(), 2.0)]).score(["a", "b"], ["c", "d"], COLUMNS)
    assert [score.total for score in batch.scores] == [9.0, 19.0]
