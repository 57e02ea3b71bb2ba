"""Asks every method what it would do with the same responses: one group to a prompt, by the actor as it stands.

Nothing is trained, and nothing moves: the group is drawn from a generator of its own, and each method is asked by its
own code (`algorithms.credit.AssignsCredit`) as if the group were a whole step's batch in one minibatch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from rlhf_engine.algorithms.base import algorithm_class
from rlhf_engine.algorithms.credit import AssignsCredit, EvaluatedGroup
from rlhf_engine.algorithms.passes import evaluate
from rlhf_engine.algorithms.report import shown_samples
from rlhf_engine.algorithms.scoring import finite_scores
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import read_rows
from rlhf_engine.errors import ConfigError, NonFiniteError
from rlhf_engine.evaluation.credit import LEAST, MOST, GroupCredit, MethodCredit
from rlhf_engine.events import Sample
from rlhf_engine.maths.estimators import kl_k1, masked_mean, summed
from rlhf_engine.models.choice import INVERSE_CDF
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.rewards.base import Columns
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.rewards.composite import RewardSum, ScoredBatch
from rlhf_engine.runs.run_dir import RunDir

_ROWS_AT_ONCE = 8


def compare_methods(
    policy: Policy,
    config: RunConfig,
    prompt: str,
    *,
    responses: int,
    seed: int,
    step: int = 0,
    numbers: Mapping[str, Any] | None = None,
    run: Path | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> GroupCredit | None:
    """Sample `responses` to `prompt` by the actor and ask every method that can tell; None once cancelled.

    numbers: what the run's method has counted (`Algorithm.state`): β as a controller has moved it, running means. The
    run's own method has its settings, each other one its defaults; β is the same for all. run: the run that `config`
    was read from, if it was one. Policy, optimizers and generators are afterwards as they were, bit for bit. Raises
    RlhfError for responses that cannot be sampled or scored.
    """
    if not LEAST <= responses <= MOST:
        raise ConfigError(f"responses: {responses} is not a whole number from {LEAST} to {MOST}: methods hold the "
                          "responses of a group against each other")
    config.algorithm.require_answers()
    rewards, no_scores = rewards_if_any(config, RunDir(run) if run else None)
    if rewards is None:
        raise ConfigError(no_scores or "the run has no rewards: without scores methods have nothing to learn from")
    rewards.use_policy(policy)
    rollout = _sampled(policy, config, prompt, responses, seed, cancelled)
    if cancelled():
        return None
    group = _evaluated(policy, config, rollout, _scored(policy, config, rollout, rewards))
    counted = dict(numbers or {})
    kl_coef = float(counted.get("kl_coef", config.kl.coef))
    methods, left_out = list[MethodCredit](), list[str]()
    for model, method in _methods(config):
        try:
            found = _credit(method, config, kl_coef, replace(group, numbers=counted)
                            if method is config.algorithm else group)
        except (ConfigError, NonFiniteError) as error:
            left_out.append(f"{model.title}: {error}")
            continue
        if found is not None:
            methods.append(found)
    return GroupCredit(step, kl_coef, _samples(policy, group, step), tuple(methods), tuple(left_out))


def _methods(config: RunConfig) -> list[tuple[type[AlgorithmConfig], AlgorithmConfig]]:
    """Every method that samples responses to prompts, with its settings; that of the run before all others."""
    own = config.algorithm
    found: list[tuple[type[AlgorithmConfig], AlgorithmConfig]] = [(type(own), own)]
    for kind, model in algorithm_kinds().items():
        if kind == own.kind:
            continue
        try:
            method = model.model_validate({"kind": kind})
        except ValidationError:  # it has settings without a default, which nobody has given here
            continue
        if method.needs.batch == "prompts" and method.needs.answers:
            found.append((model, method))
    return found


def _credit(
    method: AlgorithmConfig, config: RunConfig, kl_coef: float, group: EvaluatedGroup
) -> MethodCredit | None:
    """What a method makes of the group; None for one that does not tell. Raises ConfigError and NonFiniteError."""
    made = algorithm_class(method)
    if not isinstance(made, AssignsCredit):
        return None
    settings = config.model_copy(update={
        "algorithm": method, "kl": config.kl.model_copy(update={"coef": kl_coef})})
    credit, mask = made.assign_credit(settings, group), group.rollout.response_mask
    by_token = credit.advantages.dim() == 2
    each = credit.advantages if by_token else credit.advantages.unsqueeze(1).expand(mask.shape)
    totals = [masked_mean(row, kept).item() for row, kept in zip(each, mask, strict=True)]
    if not torch.isfinite(torch.where(mask, each + credit.pushes, 0.0)).all():
        raise NonFiniteError("its advantages or pushes are not finite")
    lengths = mask.sum(1).tolist()

    def rows(values: Tensor) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(row[:length]) for row, length in zip(values.tolist(), lengths, strict=True))

    told = [method.about_credit(kl_coef), credit.lacks]
    return MethodCredit(method.kind, method.title, rows(each), rows(credit.pushes), tuple(totals), by_token,
                        " · ".join(filter(None, told)))


def _sampled(
    policy: Policy, config: RunConfig, prompt: str, responses: int, seed: int, cancelled: Callable[[], bool]
) -> Rollout:
    generator = torch.Generator(policy.device).manual_seed(seed)
    with policy.as_role("actor"):
        return sample(policy, [prompt] * responses, config.sampling, generator, draw=INVERSE_CDF,
                      on_token=lambda _: cancelled())


@torch.no_grad()
def _evaluated(policy: Policy, config: RunConfig, rollout: Rollout, scored: ScoredBatch) -> EvaluatedGroup:
    """The group under actor and reference. Raises NonFiniteError."""
    temperature = config.sampling.temperature

    def by_actor(ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor, Tensor]:
        told = policy.log_probs("actor", ids, mask, width, temperature, with_entropy=True)
        return told.log_probs, told.entropy

    def by_reference(ids: Tensor, mask: Tensor, width: int) -> tuple[Tensor]:
        return (policy.log_probs("reference", ids, mask, width, temperature).log_probs,)

    at_once = config.train.micro_batch_size or _ROWS_AT_ONCE
    outputs, _ = evaluate(rollout, {"actor": by_actor, "reference": by_reference}, at_once)
    (log_probs, entropy), (reference,) = outputs["actor"], outputs["reference"]
    if not torch.isfinite(torch.where(rollout.response_mask, log_probs + reference, 0.0)).all():
        raise NonFiniteError("log-probabilities of the responses are not finite")
    return EvaluatedGroup(rollout, scored, finite_scores(scored), log_probs, entropy, reference, policy, at_once)


def _scored(policy: Policy, config: RunConfig, rollout: Rollout, rewards: RewardSum) -> ScoredBatch:
    """What the rewards give each response, with the columns of the row that the prompt is of."""
    columns = _columns(config, rollout.prompts[0], len(rollout))
    # a reward may draw random numbers: not those of a run that goes on after this
    with torch.random.fork_rng(devices=[policy.device] if policy.device.type == "cuda" else []):
        return rewards.score(rollout.prompts, rollout.responses, columns)


def _columns(config: RunConfig, prompt: str, times: int) -> Columns | None:
    """What the first row of that prompt holds besides, once for each response; None where there is no such row."""
    if config.data.source is None:
        return None
    try:
        rows = read_rows(config).rows
    except ConfigError:  # moved or gone since: a reward that needs a column says so
        return None
    if prompt not in rows.prompts:
        return None
    at = rows.prompts.index(prompt)
    return {name: [column[at]] * times for name, column in rows.columns.items()}


def _samples(policy: Policy, group: EvaluatedGroup, step: int) -> tuple[Sample, ...]:
    """The responses with their tokens, as a step tells them."""
    kl = kl_k1(group.log_probs, group.reference_log_probs)
    return shown_samples(
        group.rollout, group.scored.scores, policy.texts, len(group.rollout), step,
        response_kl=summed(kl, group.rollout.response_mask),
        per_token={"log_probs": group.log_probs, "reference_log_probs": group.reference_log_probs, "kl": kl})
