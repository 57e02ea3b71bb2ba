"""What a rollout teaches PPO's actor and critic: rewards, values, advantages and returns of each action."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.maths.estimators import (
    first_token_values,
    gae,
    importance_weights,
    kl_k1,
    last_token_values,
    response_rewards,
    shape_rewards,
    summed,
    whiten,
)
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
        tokens = self.rollout.lengths[1][rows]
        return float(((tokens > 0) if self.sequence_level else tokens).sum())

    def part(self, rows: Tensor) -> Part:
        """These rows, without columns that are padding in all of them."""
        ids, mask, response_mask = self.rollout.batch(rows)
        there, width = self.rollout.on_device(rows), response_mask.shape[1]

        def pick(values: Tensor) -> Tensor:
            return values[there] if self.sequence_level else values[there, :width]

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


def estimate_advantages(
    rollout: Rollout,
    scores: Tensor,
    *,
    log_probs: Tensor,
    reference_log_probs: Tensor,
    entropy: Tensor,
    values: Tensor,
    kl_coef: float,
    settings: PPOConfig,
) -> Experience:
    """Rewards from scores and KL, advantages and returns from rewards and values.

    scores: float [batch]; log_probs, reference_log_probs, entropy: float [batch, time]; values: as `state_values` gives
    them. Raises NonFiniteError if any of these, or what follows from them, is not finite on a response.
    """
    mask, sequence_level = rollout.response_mask, settings.level == "sequence"
    token_kl = kl_k1(log_probs, reference_log_probs)
    action_mask = mask.any(dim=1) if sequence_level else mask
    told = torch.where(mask, log_probs + token_kl, 0.0).sum() + torch.where(action_mask, values, 0.0).sum()
    if not torch.isfinite(told):
        raise NonFiniteError("log-probabilities or values of the sampled responses are not finite")
    if sequence_level:
        rewards = returns = response_rewards(scores, token_kl, mask, kl_coef=kl_coef)
        raw_advantages = torch.where(action_mask, rewards - values, 0.0)
        action_log_probs = summed(log_probs, mask)
    else:
        rewards = shape_rewards(scores, token_kl, mask, kl_coef)
        raw_advantages, returns = gae(
            rewards, values, mask, discount=settings.discount, trace_decay=settings.trace_decay
        )
        action_log_probs = log_probs
    if not torch.isfinite(torch.where(action_mask, returns + raw_advantages, 0.0)).all():
        raise NonFiniteError("returns or advantages are not finite")
    advantages = raw_advantages
    if settings.whiten_advantages:
        advantages = whiten(advantages, action_mask, differences_of=returns)
    if settings.importance_sampling_cap is not None:
        sampled = summed(rollout.log_probs, mask) if sequence_level else rollout.log_probs
        cap = settings.importance_sampling_cap
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


def state_values(values: Tensor, mask: Tensor, settings: PPOConfig) -> Tensor:
    """The critic's token values [rows, width] as values of the states that actions were taken in: themselves, or at
    sequence level one a response, [rows], read where `settings.sequence_baseline` says."""
    if settings.level == "token":
        return values
    return last_token_values(values, mask) if settings.reads_response else first_token_values(values, mask)
