"""Trying a text: the score of the rewards, or why there is none; beside the screen, the newest wish first."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from rlhf_engine.config.fields import needed_settings, replace
from rlhf_engine.config.kinds import reward_kinds
from rlhf_engine.config.rewards import LengthRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Span
from rlhf_engine.rewards import build
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import RewardSum
from rlhf_tui.areas.rewards.scoring import Scorer, Share
from rlhf_tui.areas.rewards.try_it import Trial, share_line, shown_verdict
from rlhf_tui.engine.latest import Latest


class Odd:
    """A reward that does what a user's code may do."""

    name = "words"

    def __init__(self, does: Callable[[], list[Score]]) -> None:
        self._does = does

    def score(self, prompts: object, responses: object) -> list[Score]:
        return self._does()


def leave() -> list[Score]:
    raise SystemExit("bye")


def fail() -> list[Score]:
    raise ValueError("no [/x]\x1b[2J\nidea")


def test_the_score_is_that_of_a_run(config: RunConfig) -> None:
    rewards = [*config.rewards, LengthRewardConfig(max_words=2, weight=0.5)]
    verdict = Scorer().verdict(config.model_copy(update={"rewards": rewards}), "Once", "a fox and a boy")
    assert verdict.score is not None
    assert verdict.score.total == pytest.approx(1.2 + 0.5 - 0.8 - 0.15)
    assert [share.name for share in verdict.shares] == ["words", "length"]
    parts = pytest.approx({"too_short": 0.0, "too_long": -0.15})
    assert verdict.shares[1] == Share("length", 0.5, pytest.approx(-0.3), parts)
    assert verdict.score.spans == (Span(2, 5, "liked"), Span(12, 15, "disliked"))
    assert share_line(verdict.shares[1]).plain == "length  0.5 × −0.30 = −0.15   too_long −0.15"


@pytest.mark.parametrize(("does", "said"), [
    (fail, "Reward 'words' raised ValueError: no [/x]␛[2J↵idea"),
    (leave, "SystemExit: bye"),
    (lambda: [Score(float("nan"), {})], "Reward 'words' gave the total nan"),
    (list, "Reward 'words' returned 0 scores for 1 responses"),
    (lambda: [Score(1.0, {}, (Span(None, 3, "liked"),))], "TypeError"),
])
def test_whatever_a_reward_does_is_a_sentence(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch, does: Callable[[], list[Score]], said: str
) -> None:
    monkeypatch.setattr(build, "build_rewards", lambda configs: RewardSum([(Odd(does), 1.0)]))
    verdict = Scorer().verdict(config, "Once", "a fox")
    assert verdict.score is None
    assert verdict.error.startswith(said)
    assert "\n" not in verdict.error
    assert verdict.error in shown_verdict(Trial("", "Once", "a fox"), verdict).plain


def test_rewards_are_built_once_for_the_same_settings(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[float] = []
    build_rewards = build.build_rewards
    monkeypatch.setattr(build, "build_rewards", lambda configs: built.append(configs[0].weight) or
                        build_rewards(configs))
    scorer = Scorer()
    for weight in (1.0, 1.0, 2.0):
        scorer.verdict(replace(config, {"rewards.0.weight": weight}), "", "fox")
    assert built == [1.0, 2.0]


def test_another_score_than_in_the_run_is_said(config: RunConfig) -> None:
    verdict = Scorer().verdict(config, "", "a fox and an owl")
    assert "was +1.00 when it was sampled" in shown_verdict(Trial("", "", "a fox and an owl", 1.0), verdict).plain
    assert "was" not in shown_verdict(Trial("", "", "a fox and an owl", 3.4), verdict).plain


def test_jobs_that_nobody_waits_for_any_more_are_skipped() -> None:
    held, done, ended = threading.Event(), [], threading.Event()

    def hear(what: str) -> None:
        done.append(what)
        if what == "last":
            ended.set()

    latest: Latest[str] = Latest("test", hear)
    begun = threading.Event()

    def first() -> str:
        begun.set()
        held.wait(10)
        return "first"

    latest.ask(first)
    assert begun.wait(10)
    latest.ask(lambda: "never")
    latest.ask(lambda: "last")
    held.set()
    assert ended.wait(10)
    assert done == ["first", "last"]
    latest.close()


def test_what_ends_after_closing_is_not_told() -> None:
    held, begun, done = threading.Event(), threading.Event(), []
    latest: Latest[int] = Latest("closed", done.append)

    def job() -> int:
        begun.set()
        held.wait(10)
        return 1

    latest.ask(job)
    assert begun.wait(10)
    latest.close()
    held.set()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "closed"]
    thread.join(10)
    assert not thread.is_alive()
    assert not done


def test_a_new_reward_needs_a_name_and_what_has_no_default() -> None:
    assert [item.name for item in needed_settings("word_list")] == ["name", "liked", "disliked"]
    assert [item.name for item in needed_settings("length")] == ["name"]
    assert [item.name for item in needed_settings("function")] == ["name", "function"]
    assert all(needed_settings(kind) for kind in reward_kinds())
