"""A step asks for its evaluation before it asks the rewards, so that a GPU works meanwhile; rewards that read with a
model are asked first. The order changes no number."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import stir, tiny_config

from rlhf_engine.algorithms.base import Algorithm, Resources, StepResult, make_algorithm
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import ModelError, RewardError
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import RewardSum

PROMPTS = ["Once", "There was a", "x", "Long ago"]
KINDS = ("ppo", "grpo", "rloo", "reinforce", "online_dpo")


class Lengths:
    """Scores by length, and notes what was done before."""

    def __init__(self, done: list[str], score: Callable[[str], float] = len) -> None:
        self.name, self._done, self._score = "lengths", done, score

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        self._done.append("rewards")
        torch.rand(3)  # as somebody's function may
        return [Score(float(self._score(response)), {}) for response in responses]


class ReadsWithPolicy(Lengths):
    """Puts other weights into an adapter while it reads, as a judge that shares the base may."""

    def use_policy(self, policy: Policy) -> None:
        self._policy = policy

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        others = {name: weight.detach() + 1 for name, weight in self._policy.adapters["actor"].items()}
        with self._policy.with_adapter("actor", others, 1.0), torch.no_grad():
            self._policy.forward(*self._policy.encode(list(prompts)))
        return super().score(prompts, responses)


class OnDevice(Lengths):
    """With a model of its own."""

    def __init__(self, done: list[str], device: str) -> None:
        super().__init__(done)
        self.model_device = torch.device(device)


def config_of(folder: Path, kind: str, **algorithm: Any) -> RunConfig:
    sections = tiny_config(folder, sampling={"temperature": 6.0, "max_new_tokens": 12}, lora={"dropout": 0.0},
                           train={"seed": 5}).model_dump()
    grouped = {"group_size": 4} if kind in ("grpo", "rloo", "online_dpo") else {}
    size = {"responses_per_step": 8, "minibatch_size": 2 if kind == "online_dpo" else 4}
    sections["algorithm"] = {"kind": kind, **size, **grouped, **algorithm}
    return RunConfig.model_validate(sections)


def learner_of(config: RunConfig, done: list[str], reward: Lengths, monkeypatch: pytest.MonkeyPatch
               ) -> tuple[Algorithm, Policy]:
    """A learner that is rewarded by `reward`; `done` gets each pass by which its responses are evaluated, too."""
    policy = Policy.from_config(config)
    stir(policy)
    resources = Resources.of(policy, config)
    resources.rewards = RewardSum([(reward, 1.0)])
    resources.rewards.use_policy(policy)
    for name in ("log_probs", "head_values"):
        own = getattr(policy, name)

        def noted(role: str, *args: Any, own: Callable[..., Any] = own, **options: Any) -> Any:
            done.append(role)
            return own(role, *args, **options)

        monkeypatch.setattr(policy, name, noted)
    return make_algorithm(config, resources), policy


def step(learner: Algorithm, config: RunConfig, progress: Callable[[str, float], None] = lambda *told: None
         ) -> StepResult:
    each = getattr(config.algorithm, "group_size", 1)
    return learner.step(1, PromptBatch((PROMPTS * 2)[: config.algorithm.responses_per_step // each]), progress)


@pytest.mark.parametrize("kind", KINDS)
def test_rewards_on_the_cpu_are_asked_once_the_evaluation_is(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], kind)
    learner, _ = learner_of(config, done, Lengths(done), monkeypatch)
    step(learner, config)
    before = done[: done.index("rewards")]
    assert {"actor", "reference"} <= set(before)
    assert done.count("rewards") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_changes_no_number_and_a_reward_that_changes_weights_meanwhile_goes_first(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    config = config_of(model_folders["llama"], kind)
    found = []
    for reward in (Lengths, ReadsWithPolicy):
        done: list[str] = []
        torch.manual_seed(0)
        learner, policy = learner_of(config, done, reward(done), monkeypatch)
        metrics = [step(learner, config).metrics for _ in range(2)]
        assert (done[0] == "rewards") is (reward is ReadsWithPolicy)
        found.append(([{name: value for name, value in each.items() if not name.startswith(("time/", "throughput/"))}
                       for each in metrics], {name: tensor.clone() for name, tensor in policy.parameters.items()}))
    (by_words, weights), (by_model, same) = found
    assert by_words == pytest.approx(by_model, rel=0, abs=0, nan_ok=True)
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    assert by_words[0]["policy/updates"] > 0


@pytest.mark.parametrize(("device", "first"), [("cpu", True), ("cuda", False)])
def test_a_reward_with_a_model_of_its_own_goes_first_where_it_shares_the_device(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, device: str, first: bool
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], "ppo")
    learner, _ = learner_of(config, done, OnDevice(done, device), monkeypatch)
    step(learner, config)
    assert (done[0] == "rewards") is first


def test_groups_that_are_left_out_by_their_scores_are_scored_first(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], "grpo", drop_equal_groups=True)
    learner, _ = learner_of(config, done, Lengths(done), monkeypatch)
    assert step(learner, config).metrics["policy/updates"] > 0
    assert done[0] == "rewards"
    assert done.count("rewards") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_phases_are_told_in_the_order_of_what_is_done_and_time_is_whole(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], kind)
    learner, _ = learner_of(config, done, Lengths(done), monkeypatch)
    told: list[str] = []
    metrics = step(learner, config, lambda phase, fraction: told.append(phase)).metrics
    phases = [phase for at, phase in enumerate(told) if told[at - 1: at] != [phase]]
    assert phases == ["rollout", "score", "reward", "score", "update"]
    assert {name for name in metrics if name.startswith("time/")} == {"time/rollout", "time/score", "time/update"}
    assert min(metrics[f"time/{phase}"] for phase in ("rollout", "score", "update")) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_no_numbers_to_compute_with_are_told_and_nothing_is_learnt(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], kind)
    learner, policy = learner_of(config, done, Lengths(done, lambda response: 1e300), monkeypatch)
    before = {name: tensor.clone() for name, tensor in policy.parameters.items()}
    result = step(learner, config)
    assert "too large" in result.nonfinite
    assert result.metrics["policy/updates"] == 0
    assert result.metrics["objective/scores"] == 1e300
    assert result.metrics["completions/mean_length"] > 0
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.parameters.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_reward_that_raises_leaves_the_weights_and_the_next_step_learns(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done: list[str] = []

    def fails(response: str) -> float:
        if done.count("rewards") == 1:
            raise ValueError("no")
        return len(response)

    config = config_of(model_folders["gpt_neo"], kind)
    learner, policy = learner_of(config, done, Lengths(done, fails), monkeypatch)
    before = {name: tensor.clone() for name, tensor in policy.parameters.items()}
    with pytest.raises(RewardError, match="lengths"):
        step(learner, config)
    assert all(torch.equal(before[name], tensor) for name, tensor in policy.parameters.items())
    assert step(learner, config).metrics["policy/updates"] > 0


@pytest.mark.parametrize("fits", [True, False])
def test_memory_that_runs_out_in_the_evaluation_asks_no_reward_twice(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, fits: bool
) -> None:
    done: list[str] = []
    config = config_of(model_folders["gpt_neo"], "ppo")
    learner, policy = learner_of(config, done, Lengths(done), monkeypatch)
    own = policy.log_probs

    def full(role: str, ids: torch.Tensor, *args: Any, **options: Any) -> Any:
        if len(ids) > (2 if fits else 0):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return own(role, ids, *args, **options)

    monkeypatch.setattr(policy, "log_probs", full)
    if fits:
        assert step(learner, config).metrics["policy/updates"] > 0
        assert done.count("rewards") == 1
    else:
        with pytest.raises(ModelError, match="out of memory"):
            step(learner, config)
        assert "rewards" not in done
