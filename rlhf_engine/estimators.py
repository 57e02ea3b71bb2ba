"""The numbers PPO learns from: KL, shaped rewards, advantages, whitening. Pure functions over tensors.

Masks are bool, True on response tokens; the True run of a row is contiguous, with padding after it. Whatever stands
where a mask is False (NaN included) reaches no result: values are selected with `where`, never multiplied by zero.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to +-20 nats: exp(20) is still far inside float32, and nothing useful is learnt beyond it."""

_VARIANCE_FLOOR = 1e-8


def kl_k1(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """KL(actor || reference) per token by the plain estimator: unbiased, may be negative (Schulman 2020, k1).

    log_probs, reference_log_probs: float, same shape, nats, of tokens sampled from the actor.
    Returns the same shape, in nats, clamped to +-20.
    """
    return (log_probs - reference_log_probs).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def kl_k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """KL(actor || reference) per token by the low-variance estimator r - 1 - log r, r = p_ref / p_actor
    (Schulman 2020, k3): unbiased and never negative.

    log_probs, reference_log_probs: float, same shape, nats, of tokens sampled from the actor.
    Returns the same shape, in nats; the log-ratio inside is clamped to +-20.
    """
    log_ratio = kl_k1(log_probs, reference_log_probs)
    # expm1 keeps the digits that exp(x) - 1 loses near zero; the floor removes a last rounding error below zero.
    return (torch.expm1(-log_ratio) + log_ratio).clamp_min(0.0)


def shape_rewards(scores: Tensor, token_kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """Rewards per token: -kl_coef * KL on each response token, and the score once, on the last one
    (Ziegler et al. 2019, eq. 2, spread over tokens).

    scores: float [batch]; token_kl: float [batch, time], nats per token; mask: bool [batch, time].
    Returns [batch, time], zero where mask is False. A row with no response token is all zeros: its score has no
    token to stand on, and no action that could earn it.
    """
    rewards = torch.where(mask, -kl_coef * token_kl, 0.0)
    return rewards + torch.where(_is_last_token(mask), scores.unsqueeze(1), 0.0)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, *, discount: float, trace_decay: float) -> tuple[Tensor, Tensor]:
    """Advantages and returns by generalised advantage estimation (Schulman et al. 2016, eq. 16).

    rewards, values: float [batch, time]; mask: bool [batch, time]. values[:, t] is the value of the state in which
    token t is chosen; the value after the last response token is 0.
    Returns (advantages, returns), both [batch, time], zero where mask is False; returns = advantages + values.
    """
    rewards = torch.where(mask, rewards, 0.0)
    values = torch.where(mask, values, 0.0)
    next_value = torch.zeros_like(values[:, 0])
    next_advantage = torch.zeros_like(next_value)
    backwards = []
    for t in reversed(range(values.shape[1])):
        # Padding needs no branch: there reward, value and what follows are all zero, so both carries stay zero.
        surprise = rewards[:, t] + discount * next_value - values[:, t]
        next_advantage = surprise + discount * trace_decay * next_advantage
        next_value = values[:, t]
        backwards.append(next_advantage)
    # A prompt in front of the response would pick up the discounted carry: it is no action, so it gets none.
    advantages = torch.where(mask, torch.stack(backwards[::-1], dim=1), 0.0)
    return advantages, advantages + values


def sequence_advantages(
    scores: Tensor, token_kl: Tensor, values: Tensor, mask: Tensor, *, kl_coef: float
) -> tuple[Tensor, Tensor]:
    """One reward and one advantage per response, a whole response being one action (a bandit with a baseline).

    scores: float [batch]; token_kl, values: float [batch, time]; mask: bool [batch, time].
    Returns (rewards, advantages), both [batch]: reward = score - kl_coef * (KL summed over the response),
    advantage = reward - value at the last response token. A row with no response token gets 0 and 0.
    """
    response_kl = torch.where(mask, token_kl, 0.0).sum(dim=1)
    rewards = torch.where(mask.any(dim=1), scores - kl_coef * response_kl, 0.0)
    return rewards, rewards - last_token_values(values, mask)


def last_token_values(values: Tensor, mask: Tensor) -> Tensor:
    """The value at the last response token of each row.

    values: float [batch, time]; mask: bool [batch, time]. Returns [batch]; 0 for a row with no response token.
    """
    return torch.where(_is_last_token(mask), values, 0.0).sum(dim=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the True positions, as a scalar tensor; 0 when there are none. values, mask: same shape."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def masked_var(values: Tensor, mask: Tensor) -> Tensor:
    """Population variance (divisor n) over the True positions, as a scalar tensor; 0 for none or one.

    values, mask: same shape. Divisor n, not n - 1, so that one token has a variance and whitened values have
    variance exactly 1, as in the code of Ziegler et al. 2019.
    """
    centred, _ = _centred(values, mask)
    return centred.square().sum() / mask.sum().clamp_min(1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale the True positions to variance 1; with shift_mean their mean becomes 0, without it the mean is kept.

    values, mask: same shape (the whole rollout, before it is cut into minibatches).
    Returns the same shape, zero where mask is False. One token, or equal values, come out as exactly 0
    (or as they were, when the mean is kept).
    """
    centred, mean = _centred(values, mask)
    variance = centred.square().sum() / mask.sum().clamp_min(1)
    whitened = centred * torch.rsqrt(variance + _VARIANCE_FLOOR)
    return whitened if shift_mean else torch.where(mask, whitened + mean, 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var[returns - values] / Var[returns]: 1 is a perfect critic, 0 no better than a constant, below 0 worse.

    values, returns: float [batch, time]; mask: bool [batch, time]. Returns a scalar tensor, always finite: 0 where
    the ratio has no meaning (no tokens, returns that do not vary, inputs that are not finite).
    """
    ratio = masked_var(returns - values, mask) / masked_var(returns, mask)
    return torch.where(ratio.isfinite(), 1.0 - ratio, 0.0)


def adapt_kl_coef(coef: float, observed_kl: float, *, target: float, horizon: float, responses: int) -> float:
    """The next KL coefficient by proportional control (Ziegler et al. 2019, section 2.2).

    observed_kl, target: nats per response; horizon and responses: a count of responses, `responses` being those of
    the step that observed the KL. The relative error is clipped to +-0.2, then coef *= 1 + error * responses / horizon.
    Never below 0, whatever the ratio of responses to horizon; a KL that is not a number changes nothing.
    """
    if math.isnan(observed_kl):
        return coef
    error = max(-0.2, min(0.2, observed_kl / target - 1.0))
    return max(0.0, coef * (1.0 + error * responses / horizon))


def _is_last_token(mask: Tensor) -> Tensor:
    """bool [batch, time]: True on the last True of each row of mask, nowhere in a row without one."""
    still_to_come = mask.flip(1).cumsum(1).flip(1)
    return mask & (still_to_come == 1)


def _centred(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(values - mean, zero where mask is False; the mean as a scalar), exactly zero for equal values.

    Differences from one of the values are averaged, not the values: the mean of equal floats may be off by a
    rounding error, and whitening would blow that error up to size 1.
    """
    anchor = values.flatten()[mask.flatten().int().argmax()]
    shifted = torch.where(mask, values - anchor, 0.0)
    shift = shifted.sum() / mask.sum().clamp_min(1)
    return torch.where(mask, shifted - shift, 0.0), anchor + shift
