"""Pairs to judge: sampled by any two models, between steps or without a run, or taken from what runs recorded."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from engine.test_session import Served

from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, ModelError
from rlhf_engine.evaluation.label_pairs import label_pairs
from rlhf_engine.events import PairsSampled, RunState, Sample, StateChanged, StepFinished
from rlhf_engine.labels.guess import guess_of
from rlhf_engine.labels.pair import Pair
from rlhf_engine.labels.recorded import Recorded, pairs_of_samples
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import REFERENCE, TUNED, Cancel, Close, Pause, SamplePairs, Side, Start, Unpause


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.session.ask(Close())
    served.thread.join(60)
    assert not served.thread.is_alive()


@pytest.fixture
def policy(neo_config: RunConfig) -> Policy:
    return Policy.from_config(neo_config)


def drawn(policy: Policy | None, config: RunConfig, count: int = 5, seed: int = 1, **options: Any) -> tuple[Pair, ...]:
    found = label_pairs(policy, config, count=count, seed=seed, **options)
    assert found is not None
    return found


def test_pairs_are_different_answers_scored_and_guessed(policy: Policy, neo_config: RunConfig) -> None:
    pairs = drawn(policy, neo_config, sides=(REFERENCE, TUNED), run="one", step=7)
    assert len({pair.id for pair in pairs}) == 5
    for pair in pairs:
        assert pair.prompt in neo_config.data.prompts
        assert pair.first.text != pair.second.text
        assert (pair.first.origin.kind, pair.first.origin.step) == ("reference", None)
        assert (pair.second.origin.kind, pair.second.origin.step, pair.second.origin.run) == ("tuned", 7, "one")
        assert pair.first.origin.seed != pair.second.origin.seed
        assert pair.first.origin.model == neo_config.model.name
        assert pair.first.score is not None
        assert pair.second.score is not None
        assert pair.guess == pytest.approx(1 / (1 + math.exp(pair.second.score - pair.first.score)))


def test_a_seed_gives_the_same_pairs_again_and_another_gives_others(policy: Policy, neo_config: RunConfig) -> None:
    assert drawn(policy, neo_config) == drawn(policy, neo_config)
    assert not {p.id for p in drawn(policy, neo_config)} & {p.id for p in drawn(policy, neo_config, seed=2)}


def gap(pair: Pair) -> float:
    assert pair.first.score is not None
    assert pair.second.score is not None
    return abs(pair.first.score - pair.second.score)


def test_what_is_asked_for_is_the_least_sure_or_the_widest_gap(policy: Policy, neo_config: RunConfig) -> None:
    gaps = {}
    for ask in ("unsure", "random", "gap"):
        pairs = drawn(policy, neo_config, 8, ask=ask, responses=6)
        assert {pair.asked_for for pair in pairs} == {ask}
        gaps[ask] = sum(map(gap, pairs))
    assert gaps["unsure"] < gaps["random"] < gaps["gap"]


def test_without_rewards_pairs_are_random_and_nobody_guesses(policy: Policy, neo_config: RunConfig) -> None:
    config = neo_config.model_copy(update={"rewards": []})
    assert {(pair.first.score, pair.guess) for pair in drawn(policy, config)} == {(None, None)}
    with pytest.raises(ConfigError, match="random"):
        drawn(policy, config, ask="unsure")


def test_sides_that_always_answer_alike_are_told(policy: Policy, neo_config: RunConfig) -> None:
    sampling = neo_config.sampling.model_copy(update={"temperature": 1e-4, "max_new_tokens": 1})
    with pytest.raises(ConfigError, match="alike"):
        drawn(policy, neo_config.model_copy(update={"sampling": sampling}), 40)


def test_given_up_there_are_none(policy: Policy, neo_config: RunConfig) -> None:
    assert label_pairs(policy, neo_config, count=5, seed=1, cancelled=lambda: True) is None


def ask(served: Served, question: SamplePairs) -> PairsSampled:
    served.session.ask(question)
    answer: Any = served.wait_for(PairsSampled, request_id=question.id)
    return answer


def test_a_session_samples_before_within_and_after_a_run(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    before = ask(served, SamplePairs(1, neo_config, 3, 1))
    assert [len(before.pairs), before.error] == [3, ""]
    assert before.pairs[0].first.origin.step == 0
    served.session.ask(Start(neo_config, tmp_path, "one"))
    served.session.ask(Pause())
    served.wait_for(StateChanged, state=RunState.PAUSED)
    within = ask(served, SamplePairs(2, neo_config, 3, 1, REFERENCE, TUNED, run="one"))
    assert len(within.pairs) == 3
    served.session.ask(Unpause())
    served.wait_for(StateChanged, state=RunState.FINISHED)
    while served.session.busy:
        time.sleep(0.01)
    newest = Side("checkpoint", tmp_path / "one")
    after = ask(served, SamplePairs(3, neo_config, 3, 1, newest, newest))
    assert {answer.origin.kind for pair in after.pairs for answer in (pair.first, pair.second)} == {"checkpoint"}
    assert {pair.first.origin.run for pair in after.pairs} == {"one"}
    assert after.pairs[0].first.origin.step == neo_config.train.steps
    nowhere = ask(served, SamplePairs(4, neo_config, 3, 1, Side("checkpoint", tmp_path / "two"), newest))
    assert nowhere.pairs == ()
    assert nowhere.error
    served.session.ask(SamplePairs(5, neo_config, 3, 1))
    served.session.ask(Cancel(5))
    served.wait_for(PairsSampled, request_id=5)


def test_a_run_learns_the_same_while_pairs_are_sampled_from_it(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    def metrics(name: str, questions: bool) -> list[dict[str, float]]:
        first = len(served.seen)
        served.session.ask(Start(neo_config, tmp_path, name))
        if questions:
            served.wait_for(StepFinished, step=1)
            assert ask(served, SamplePairs(9, neo_config, 3, 1)).pairs
        served.wait_for(StateChanged, state=RunState.FINISHED)
        while served.session.busy:
            time.sleep(0.01)
        return [{name: value for name, value in event.metrics.items() if name.startswith(("score", "loss", "kl"))}
                for event in served.seen[first:] if isinstance(event, StepFinished)]

    assert metrics("asked", True) == metrics("alone", False)


# --- what runs recorded ---


def sample(step: int, response: str, prompt: str = "p", score: float | None = 0.0) -> Sample:
    return Sample(step, prompt, response, score, {}, 0.0, 3, True)


def texts(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.first.text, pair.second.text) for pair in pairs]


def test_recorded_answers_are_paired_newest_first_and_each_once() -> None:
    samples = [sample(1, "a"), sample(2, "b"), sample(3, "c"), sample(3, "c"), sample(4, "d"), sample(9, "z", "q")]
    pairs = pairs_of_samples(Recorded(samples, "tiny", "one"))
    assert texts(pairs) == [("d", "c"), ("c", "b")]
    assert pairs[0].first.origin.kind == "recorded"
    assert (pairs[0].first.origin.run, pairs[0].first.origin.step) == ("one", 4)


def test_two_runs_are_paired_where_they_answered_the_same_prompt() -> None:
    one = [sample(1, "a"), sample(2, "b"), sample(3, "x", "q")]
    other = [sample(1, "b"), sample(5, "b"), sample(2, "c"), sample(2, "d", "r")]
    pairs = pairs_of_samples(Recorded(one, run="one"), Recorded(other, run="two"))
    assert texts(pairs) == [("a", "b"), ("b", "c")]
    assert {(pair.first.origin.run, pair.second.origin.run) for pair in pairs} == {("one", "two")}
    assert not pairs_of_samples(Recorded(one), Recorded([]))


def test_a_guess_is_the_sigmoid_of_the_gap_however_wide() -> None:
    (pair,) = pairs_of_samples(Recorded([sample(1, "a", score=1.0), sample(2, "b", score=-0.5)]))
    assert pair.guess == pytest.approx(1 / (1 + math.exp(1.5)))
    wide = guess_of(replace(pair.first, score=1e6), replace(pair.second, score=-1e6))
    assert wide == 1.0
    assert guess_of(replace(pair.first, score=None), pair.second) is None


def test_checkpoints_answer_though_what_is_at_hand_has_no_actor(
    served: Served, neo_config: RunConfig, tmp_path: Path
) -> None:
    served.session.ask(Start(neo_config, tmp_path, "one"))
    served.wait_for(StateChanged, state=RunState.FINISHED)
    side = Side("checkpoint", tmp_path / "one")
    without = Policy.from_config(neo_config, Needs(adapters=()))
    assert drawn(without, neo_config, 2, sides=(side, side)) == drawn(None, None, 2, sides=(side, side))
    with pytest.raises(ModelError, match="does not fit"):
        drawn(without, neo_config, 2, sides=(side, REFERENCE), may_load=False)
