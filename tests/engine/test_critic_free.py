"""GRPO, RLOO and REINFORCE: a step's gradient against the papers' formulas over plain log-probs, and what is told."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch
from tiny_models import stir, tiny_config
from torch import Tensor

from rlhf_engine.algorithms.base import Resources, make_algorithm
from rlhf_engine.algorithms.critic_free import ActorLearner
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.maths.groups import STD_FLOOR
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.training.sentinel import Sentinel

PROMPTS = ["Once", "There was a", "x", "Long ago"]
KINDS = ("reinforce", "rloo", "grpo")
BETA = 0.3


def config_of(folder: Path, kind: str, coef: float = BETA, **algorithm: object) -> RunConfig:
    """All responses of a step in one minibatch, so that the gradient it leaves is the whole step's, unclipped."""
    sections = tiny_config(folder, sampling={"temperature": 6.0, "max_new_tokens": 16}, kl={"coef": coef},
                           optimizer={"max_grad_norm": 1e9}).model_dump()
    grouped = {} if kind == "reinforce" else {"group_size": 4}
    sections["algorithm"] = {"kind": kind, "responses_per_step": 8, "minibatch_size": 8, **grouped, **algorithm}
    return RunConfig.model_validate(sections)


def make(config: RunConfig) -> ActorLearner:
    policy = Policy.from_config(config)
    stir(policy)
    policy.end_ids = (256, *range(20))  # so that responses end early, and batches are ragged
    made = make_algorithm(config, Resources.of(policy, config))
    assert isinstance(made, ActorLearner)
    return made


def batch_of(config: RunConfig) -> PromptBatch:
    return PromptBatch((PROMPTS * 2)[: config.algorithm.rows_per_step])


class Plain:
    """The same rollout again, row by row: what formulas are made of."""

    def __init__(self, config: RunConfig) -> None:
        learner = make(config)
        assert learner.on_policy.resources.rewards is not None
        batch = batch_of(config).repeated(getattr(config.algorithm, "group_size", 1))
        self.learner, self.config = learner, config
        self.rollout: Rollout = learner.on_policy.roll_out(batch, lambda phase, fraction: None)
        scored = learner.on_policy.resources.rewards.score(self.rollout.prompts, self.rollout.responses)
        self.scores = [score.total for score in scored.scores]
        self.lengths = self.rollout.response_mask.sum(1).tolist()
        self.log_probs = [self._row("actor", i) for i in range(len(self.rollout))]
        with torch.no_grad():
            self.reference = [self._row("reference", i) for i in range(len(self.rollout))]

    def _row(self, role: str, i: int) -> Tensor:
        ids, mask, response = self.rollout.batch(torch.tensor([i]))
        return self.learner.policy.log_probs(role, ids, mask, response.shape[1], 6.0).log_probs[0]

    @property
    def rewards(self) -> list[float]:
        return [score - BETA * float((a.detach() - b).sum())
                for score, a, b in zip(self.scores, self.log_probs, self.reference, strict=True)]

    def gradient(self, loss: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(loss, list(self.learner.policy.adapters["actor"].values())))


def left_behind(config: RunConfig) -> tuple[list[Tensor], dict[str, float]]:
    """The gradient of a real step, and its metrics."""
    learner = make(config)
    result = learner.step(1, batch_of(config), lambda phase, fraction: None)
    found = [p.grad.clone() for p in learner.policy.adapters["actor"].values() if p.grad is not None]
    return found, result.metrics


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(float(each.abs().max()) for each in expected)
    assert largest > 1e-4, "nothing would be compared"
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-4 * largest, rtol=1e-3)


def test_reinforce_follows_the_policy_gradient(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "reinforce")
    plain = Plain(config)
    baseline = fmean(plain.rewards)
    loss = sum(-(reward - baseline) * row.sum() for reward, row in zip(plain.rewards, plain.log_probs, strict=True)) / 8
    assert_alike(left_behind(config)[0], plain.gradient(torch.as_tensor(loss)))


def test_rloo_holds_each_response_against_the_others_of_its_group(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["llama"], "rloo")
    plain = Plain(config)
    loss = torch.zeros(())
    for first in (0, 4):
        for i in range(first, first + 4):
            others = [plain.rewards[j] for j in range(first, first + 4) if j != i]
            loss = loss - (plain.rewards[i] - fmean(others)) * plain.log_probs[i].sum() / 8
    assert_alike(left_behind(config)[0], plain.gradient(loss))


@pytest.mark.parametrize("normalization", ["response", "token", "constant"])
@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_grpo_follows_its_paper_in_every_normalization(
    model_folders: dict[str, Path], normalization: str, scale: str
) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo", loss_normalization=normalization, advantage_scale=scale)
    plain = Plain(config)
    assert len(set(plain.lengths)) > 2, "ragged, or all normalizations are one"
    loss, total = torch.zeros(()), sum(plain.lengths)
    for i, (row, reference) in enumerate(zip(plain.log_probs, plain.reference, strict=True)):
        group = plain.scores[i // 4 * 4: i // 4 * 4 + 4]
        divisor = {"group": stdev(group) + STD_FLOOR, "batch": stdev(plain.scores) + STD_FLOOR, "none": 1.0}[scale]
        advantage = (plain.scores[i] - fmean(group)) / divisor
        away = reference - row
        tokens = -advantage * torch.exp(row - row.detach()) + BETA * (torch.exp(away) - away - 1)
        share = {"response": 1 / (8 * plain.lengths[i]), "token": 1 / total, "constant": 1 / (8 * 16)}[normalization]
        loss = loss + tokens.sum() * share
    assert_alike(left_behind(config)[0], plain.gradient(loss))


@pytest.mark.parametrize("kind", KINDS)
def test_micro_batches_change_nothing(model_folders: dict[str, Path], kind: str) -> None:
    config = config_of(model_folders["gpt_neo"], kind)
    whole, metrics = left_behind(config)
    split, same = left_behind(config.model_copy(update={
        "train": config.train.model_copy(update={"micro_batch_size": 3})}))
    assert_alike(split, whole)
    for name, value in metrics.items():
        if not name.startswith(("time/", "throughput/")):
            assert same[name] == pytest.approx(value, abs=1e-4, rel=1e-3), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_tells_what_the_method_says_it_measures(model_folders: dict[str, Path], kind: str) -> None:
    config = config_of(model_folders["gpt_neo"], kind)
    _, metrics = left_behind(config)
    described = {metric.name for metric in config.algorithm.metrics} - {"throughput/matmul_share"}  # the trainer's
    assert described <= metrics.keys()
    own = {name for name in metrics if not name.startswith("rewards/")}
    assert own <= {metric.name for metric in config.algorithm.metrics}
    assert all(type(value) is float and math.isfinite(value) for value in metrics.values())


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_penalty_no_reference_is_asked_and_no_kl_told(model_folders: dict[str, Path], kind: str) -> None:
    learner = make(config_of(model_folders["gpt_neo"], kind, coef=0.0))
    roles: list[str] = []
    real = learner.policy.log_probs
    learner.policy.log_probs = lambda role, *args, **more: (roles.append(role), real(role, *args, **more))[1]  # type: ignore[method-assign, func-returns-value]
    result = learner.step(1, batch_of(learner.config), lambda phase, fraction: None)
    assert set(roles) == {"actor"}
    assert "objective/kl" not in result.metrics
    assert all(sample.kl is None for sample in result.samples)


def test_groups_of_equal_scores_are_counted_and_left_out_where_that_is_asked_for(
    model_folders: dict[str, Path]
) -> None:
    everywhere = {"kind": "length", "name": "length", "min_words": 0, "max_words": 1000, "penalty_per_word": 1.0}
    for drop, updates in ((False, 1.0), (True, 0.0)):
        config = config_of(model_folders["gpt_neo"], "grpo", drop_equal_groups=drop)
        config = RunConfig.model_validate({**config.model_dump(), "rewards": [everywhere]})
        _, metrics = left_behind(config)
        assert metrics["frac_reward_zero_std"] == 1.0
        assert metrics["policy/updates"] == updates


def test_truncated_responses_are_left_out_where_that_is_asked_for(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo", mask_truncated=True)
    learner = make(config)
    learner.policy.end_ids = ()  # nothing ends any more
    result = learner.step(1, batch_of(config), lambda phase, fraction: None)
    assert result.metrics["policy/updates"] == 0.0
    assert result.nonfinite == ""


@pytest.mark.parametrize("kind", ["rloo", "grpo"])
def test_a_step_that_is_no_whole_groups_is_refused(model_folders: dict[str, Path], kind: str) -> None:
    with pytest.raises(ValueError, match="group_size"):
        config_of(model_folders["gpt_neo"], kind, group_size=3)


def test_all_answers_of_a_group_are_to_one_prompt(model_folders: dict[str, Path]) -> None:
    learner = make(config_of(model_folders["gpt_neo"], "grpo"))
    result = learner.step(1, batch_of(learner.config), lambda phase, fraction: None)
    assert [sample.prompt for sample in result.samples] == ["Once"] * 4 + ["There was a"] * 4


def test_tokens_that_are_left_out_of_the_loss_are_not_counted(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo")
    rollout = Plain(config).rollout
    finished = rollout.response_mask[rollout.finished].sum().item()
    assert 0 < finished < rollout.response_mask.sum().item()
    _, whole = left_behind(config)
    _, masked = left_behind(config_of(model_folders["gpt_neo"], "grpo", mask_truncated=True))
    assert whole["num_tokens"] == rollout.response_mask.sum().item()
    assert masked["num_tokens"] == finished


@pytest.mark.parametrize(("kind", "metric"), [("rloo", "policy/clipfrac_avg"), ("grpo", "clip_ratio/high_mean")])
def test_clipping_is_an_alarm(model_folders: dict[str, Path], kind: str, metric: str) -> None:
    config = config_of(model_folders["gpt_neo"], kind)
    rest = {"clip_ratio/low_mean": 0.0}
    for share, kinds in ((0.9, ["clipping"]), (0.1, [])):
        sentinel = Sentinel(config.sentinel.window)
        alarms = [alarm for at in range(1, 12) for alarm in sentinel.watch(at, rest | {metric: share}, config)]
        assert [alarm.kind for alarm in alarms] == kinds
