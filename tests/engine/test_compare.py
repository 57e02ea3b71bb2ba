"""Comparing: paired noise, and a table whose numbers can be counted by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_models import stir, tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.compare import Pair, compare, summarize
from rlhf_engine.events import Sample, Span
from rlhf_engine.models.policy import Policy

OF_REWARDS = ("score/length", "score/length/too_short", "score/length/too_long")  # of the tiny configuration


def sample(text: str, *, liked: tuple[str, ...] = (), score: float = 0.0, kl: float = 0.0, tokens: int = 4) -> Sample:
    spans = tuple(Span(text.index(word), text.index(word) + len(word), "liked") for word in liked)
    return Sample(
        step=0, prompt="", response=text, score=score, parts={}, kl=kl, tokens=tokens, finished=True, spans=spans
    )


def test_an_untrained_actor_equals_its_reference(neo_config: RunConfig) -> None:
    policy = Policy.from_config(neo_config)
    result = compare(policy, neo_config, responses=6, seed=3)
    assert all(pair.reference.response == pair.tuned.response for pair in result.pairs)
    assert all(row.difference.value == 0 for row in result.rows)
    assert [row.key for row in result.rows] == [
        "liked_share",
        "disliked_share",
        "mean_score",
        *OF_REWARDS,
        "kl_nats_per_response",
        "distinct_1",
        "distinct_2",
        "mean_length",
    ]


def test_a_changed_actor_answers_otherwise_at_a_kl(model_folders: dict[str, Path]) -> None:
    config = tiny_config(model_folders["gpt_neo"])
    policy = Policy.from_config(config)
    stir(policy)
    result = compare(policy, config, responses=16, seed=3)
    rows = {row.key: row for row in result.rows}
    assert any(pair.reference.response != pair.tuned.response for pair in result.pairs)
    assert rows["kl_nats_per_response"].reference.value == 0
    assert rows["kl_nats_per_response"].tuned.value > 0


def test_the_table_counts_words() -> None:
    pairs = [
        Pair(
            sample("a dog sat down", tokens=4),
            sample("fox and owl ran", liked=("fox", "owl"), score=2.0, kl=3.0, tokens=6),
        ),
        Pair(
            sample("the man sat down", tokens=4), sample("a fox ran off", liked=("fox",), score=1.0, kl=5.0, tokens=8)
        ),
    ]
    rows = {row.key: row for row in summarize(pairs).rows}
    assert rows["liked_share"].reference.value == 0
    assert rows["liked_share"].tuned.value == pytest.approx(3 / 8)
    assert rows["liked_share"].difference.value == pytest.approx(3 / 8)
    assert rows["mean_score"].difference.value == pytest.approx(1.5)
    assert rows["kl_nats_per_response"].tuned.value == pytest.approx(4.0)
    assert rows["mean_length"].difference.value == pytest.approx(3.0)
    assert rows["distinct_1"].tuned.value == pytest.approx(6 / 8)
    assert rows["distinct_2"].reference.value == pytest.approx(5 / 6)
    assert rows["liked_share"].tuned.low <= 3 / 8 <= rows["liked_share"].tuned.high


def test_each_reward_and_each_of_its_parts_that_counts_has_a_row() -> None:
    def scored(animals: tuple[float, float], endings: float) -> Sample:
        parts = {"animals/liked": animals[0], "animals/short": animals[1], "animals/excess": 0.0, "endings": endings}
        return replace(sample("once", score=sum(animals) + endings), parts=parts)

    pairs = [Pair(scored((1.0, 0.0), 2.0), scored((4.0, -1.0), 1.0)),
             Pair(scored((0.0, 0.0), 2.0), scored((3.0, 0.0), 0.5)),
             Pair(scored((0.5, 0.0), 2.0), scored((4.0, -1.0), 1.5))]
    rows = {row.key: row for row in summarize(pairs).rows}
    assert [key for key in rows if "score" in key] == [
        "mean_score", "score/animals", "score/animals/liked", "score/animals/short", "score/animals/excess",
        "score/endings"]
    assert [key for key, row in rows.items() if row.idle] == ["score/animals/excess"]
    means = {key: (row.reference.value, row.tuned.value, row.difference.value) for key, row in rows.items()}
    assert means["score/animals/liked"] == pytest.approx((0.5, 11 / 3, 19 / 6))
    assert means["score/animals"] == pytest.approx((0.5, 3.0, 2.5))
    assert means["score/endings"] == pytest.approx((2.0, 1.0, -1.0))
    assert means["mean_score"] == pytest.approx((2.5, 4.0, 1.5))  # the rewards' rows add up to it
    endings = rows["score/endings"].difference  # −1, −1.5, −0.5: a spread of 0.5, and t of 2 degrees of freedom
    assert (endings.low, endings.high) == pytest.approx((-1 - 4.302653 * 0.5 / 3**0.5, -1 + 4.302653 * 0.5 / 3**0.5))


def test_phrases_count_all_their_words() -> None:
    pairs = [Pair(sample("x"), sample("a polar bear", liked=("polar bear",)))] * 2
    rows = {row.key: row for row in summarize(pairs).rows}
    assert rows["liked_share"].tuned.value == pytest.approx(2 / 3)


def test_cancelling_gives_nothing(neo_config: RunConfig) -> None:
    assert compare(Policy.from_config(neo_config), neo_config, responses=4, seed=0, cancelled=lambda: True) is None
