"""A rollout evaluated once under actor, reference and critic, and what PPO learns from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.config.methods.ppo import ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.maths.estimators import (
    gae,
    importance_weights,
    kl_k1,
    last_token_values,
    sequence_advantages,
    shape_rewards,
    whiten,
)
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout


@dataclass(frozen=True)
class Part:
    """Some rows, ready for a forward pass.

    ids, mask: [rows, time]; the last `width` columns are the response. What follows is per action: [rows, width] at
    token level, [rows] at sequence level.
    """

    ids: Tensor
    mask: Tensor
    response_mask: Tensor
    old_log_probs: Tensor
    old_values: Tensor
    advantages: Tensor
    returns: Tensor
    action_mask: Tensor
    sequence_level: bool

    @property
    def width(self) -> int:
        """Response columns."""
        return self.response_mask.shape[1]

    def actions(self, log_probs: Tensor) -> Tensor:
        """Token log-probs [rows, width] as log-probs of actions."""
        return summed(log_probs, self.response_mask) if self.sequence_level else log_probs

    def state_values(self, values: Tensor) -> Tensor:
        """Token values [rows, width] as values of the states that actions were taken in."""
        return last_token_values(values, self.response_mask) if self.sequence_level else values


@dataclass(frozen=True)
class Experience:
    """What one rollout teaches. log_probs, reference_log_probs, token_kl, entropy, mask: [batch, time], under the
    weights that sampled; rewards (shaped), old_values, raw_advantages, advantages (as the policy loss takes them:
    whitened and weighted by importance, if the config asks for that), returns, action_mask, action_log_probs: per
    action, [batch, time] or [batch]."""

    rollout: Rollout
    mask: Tensor
    log_probs: Tensor
    reference_log_probs: Tensor
    token_kl: Tensor
    entropy: Tensor
    action_log_probs: Tensor
    rewards: Tensor
    old_values: Tensor
    raw_advantages: Tensor
    advantages: Tensor
    returns: Tensor
    action_mask: Tensor
    sequence_level: bool

    def __len__(self) -> int:
        return len(self.rollout)

    @property
    def response_kl(self) -> Tensor:
        """KL to the reference, nats per response [batch] (sum of k1)."""
        return summed(self.token_kl, self.mask)

    def action_count(self, rows: Tensor) -> float:
        """Tokens (or responses, at sequence level) of these rows: what a minibatch's loss is divided by."""
        return float(self.action_mask[rows].sum())

    def part(self, rows: Tensor) -> Part:
        """These rows, without columns that are padding in all of them."""
        ids, mask, response_mask = self.rollout.batch(rows)
        columns = slice(None) if self.sequence_level else slice(response_mask.shape[1])

        def pick(values: Tensor) -> Tensor:
            return values[rows] if self.sequence_level else values[rows, columns]

        return Part(
            ids,
            mask,
            response_mask,
            pick(self.action_log_probs),
            pick(self.old_values),
            pick(self.advantages),
            pick(self.returns),
            pick(self.action_mask),
            self.sequence_level,
        )


class First(NamedTuple):
    """The rows that will be learned from first, while the weights are still those that sampled.

    Their forward passes are evaluation and update in one: what autograd recorded is kept for the update.
    """

    rows: Tensor
    keep_actor: bool
    keep_critic: bool


class Kept(NamedTuple):
    """Token log-probs and values [rows, width] with their gradient, or None where an update has to compute its own."""

    log_probs: Tensor | None
    values: Tensor | None


def evaluate(
    policy: Policy,
    rollout: Rollout,
    scores: Tensor,
    config: RunConfig,
    kl_coef: float,
    at_once: int,
    first: First | None = None,
) -> tuple[Experience, Kept]:
    """Log-probs, KL and values of a rollout, and from them and scores [batch] the advantages and returns.

    at_once: responses per forward pass. first: the rows whose passes are kept. Raises NonFiniteError if log-probs,
    values or what follows from them are not finite.
    """
    passes, kept = _run_passes(policy, rollout, config, at_once, first)
    return _learn(rollout, passes, scores, config, kl_coef), kept


class _Passes(NamedTuple):
    log_probs: Tensor
    reference_log_probs: Tensor
    entropy: Tensor
    token_kl: Tensor
    values: Tensor


def _run_passes(
    policy: Policy, rollout: Rollout, config: RunConfig, at_once: int, first: First | None
) -> tuple[_Passes, Kept]:
    mask, temperature = rollout.response_mask, config.sampling.temperature
    passes, kept = _Passes(*(torch.zeros(mask.shape, device=mask.device) for _ in _Passes._fields)), Kept(None, None)
    for rows in _groups(len(rollout), at_once, first):
        ids, row_mask, response_mask = rollout.batch(rows)
        width = response_mask.shape[1]
        keep = first if first is not None and rows is first.rows else First(rows, False, False)
        with torch.no_grad(), record_function("score: reference"):
            reference = policy.log_probs("reference", ids, row_mask, width, temperature)
        with torch.set_grad_enabled(keep.keep_critic), record_function("score: critic"):
            values = policy.head_values("value", ids, row_mask, width, after=ppo_settings(config).level == "sequence")
        with torch.set_grad_enabled(keep.keep_actor), record_function("score: actor"):
            actor = policy.log_probs("actor", ids, row_mask, width, temperature, with_entropy=True)
        if keep is first:
            kept = Kept(actor.log_probs if first.keep_actor else None, values if first.keep_critic else None)
        log_probs = actor.log_probs.detach()
        kl = kl_k1(log_probs, reference.log_probs)
        found = _Passes(log_probs, reference.log_probs, actor.entropy, kl, values.detach())
        for whole, part in zip(passes, found, strict=True):
            whole[rows, :width] = part
    if not torch.isfinite(torch.where(mask, passes.log_probs + passes.token_kl + passes.values, 0.0)).all():
        raise NonFiniteError("log-probabilities or values of the sampled responses are not finite")
    return passes, kept


def _groups(count: int, size: int, first: First | None) -> list[Tensor]:
    """All rows in groups; the rows that are learned from first are one of them."""
    if first is None:
        return list(torch.arange(count).split(size))
    others = torch.ones(count, dtype=torch.bool)
    others[first.rows] = False
    rest = others.nonzero().squeeze(1)
    return [first.rows, *(rest.split(size) if len(rest) else ())]


def _learn(rollout: Rollout, passes: _Passes, scores: Tensor, config: RunConfig, kl_coef: float) -> Experience:
    log_probs, reference_log_probs, entropy, token_kl, values = passes
    sequence_level, mask = ppo_settings(config).level == "sequence", rollout.response_mask
    if sequence_level:
        rewards, advantages = sequence_advantages(scores, token_kl, values, mask, kl_coef=kl_coef)
        returns = rewards
        action_log_probs, values = summed(log_probs, mask), last_token_values(values, mask)
        action_mask = mask.any(dim=1)
    else:
        rewards = shape_rewards(scores, token_kl, mask, kl_coef)
        advantages, returns = gae(
            rewards, values, mask, discount=ppo_settings(config).discount, trace_decay=ppo_settings(config).trace_decay
        )
        action_log_probs, action_mask = log_probs, mask
    if not torch.isfinite(torch.where(action_mask, returns + advantages, 0.0)).all():
        raise NonFiniteError("returns or advantages are not finite")
    raw_advantages = advantages
    if ppo_settings(config).whiten_advantages:
        advantages = whiten(advantages, action_mask, differences_of=returns)
    cap = ppo_settings(config).importance_sampling_cap
    if cap is not None:
        sampled = summed(rollout.log_probs, mask) if sequence_level else rollout.log_probs
        advantages = advantages * importance_weights(action_log_probs, sampled, action_mask, cap=cap)
    return Experience(
        rollout,
        mask,
        log_probs,
        reference_log_probs,
        token_kl,
        entropy,
        action_log_probs,
        rewards,
        values,
        raw_advantages,
        advantages,
        returns,
        action_mask,
        sequence_level,
    )


def summed(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the True positions of each row: [batch, time] -> [batch]."""
    return torch.where(mask, values, 0.0).sum(dim=1)
