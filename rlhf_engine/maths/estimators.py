"""The numbers PPO learns from: KL, shaped rewards, advantages, whitening. Pure functions over tensors.

Masks are bool, True on response tokens; the True run of a row is contiguous, with padding after it. Whatever stands
where a mask is False (NaN included) reaches no result: values are selected with `where`, never multiplied by zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

LOG_RATIO_LIMIT = 20.0
"""Log-ratios are clamped to +-20 nats: exp(20) is still far inside float32, and nothing useful is learnt beyond it."""

_VARIANCE_FLOOR = 1e-8
ROUNDING = 16 * torch.finfo(torch.float32).eps
"""Relative to the largest value: differences up to this are what sums and differences in float32 leave of nothing."""


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


def response_rewards(scores: Tensor, token_kl: Tensor, mask: Tensor, *, kl_coef: float) -> Tensor:
    """One reward per response, a whole response being one action: score - kl_coef * (KL summed over the response).

    scores: float [batch]; token_kl: float [batch, time]; mask: bool [batch, time]. Returns [batch]; 0 for a row with no
    response token.
    """
    response_kl = torch.where(mask, token_kl, 0.0).sum(dim=1)
    return torch.where(mask.any(dim=1), scores - kl_coef * response_kl, 0.0)


def first_token_values(values: Tensor, mask: Tensor) -> Tensor:
    """The value at the first response token of each row.

    values: float [batch, time]; mask: bool [batch, time]. Returns [batch]; 0 for a row with no response token.
    """
    return torch.where(mask & (mask.cumsum(1) == 1), values, 0.0).sum(dim=1)


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


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True, differences_of: Tensor | None = None) -> Tensor:
    """Scale the True positions to variance 1; with shift_mean their mean becomes 0, without it the mean is kept.

    values, mask: same shape (the whole rollout, before it is cut into minibatches). differences_of: of the same shape,
    what `values` were subtracted from: its rounding is theirs too.
    Returns the same shape, zero where mask is False. One token, or values that are equal but for rounding, come out as
    exactly 0 (or as their mean, when that is kept): divided by their spread, rounding errors would be of size 1.
    """
    centred, mean = _centred(values, mask)
    of = values if differences_of is None else torch.maximum(values.abs(), differences_of.abs())
    centred = torch.where(_spread_is_rounding(centred, of, mask), 0.0, centred)
    variance = centred.square().sum() / mask.sum().clamp_min(1)
    whitened = centred * torch.rsqrt(variance + _VARIANCE_FLOOR)
    return whitened if shift_mean else torch.where(mask, whitened + mean, 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """1 - Var[returns - values] / Var[returns]: 1 is a perfect critic, 0 no better than a constant, below 0 worse.

    values, returns: float [batch, time]; mask: bool [batch, time]. Returns a scalar tensor, always finite: 0 where
    the ratio has no meaning (no tokens, returns that do not vary but for rounding, inputs that are not finite).
    """
    centred, _ = _centred(returns, mask)
    ratio = masked_var(returns - values, mask) / (centred.square().sum() / mask.sum().clamp_min(1))
    # returns are advantages + values, so they bear the rounding of both
    meaningless = _spread_is_rounding(centred, torch.maximum(returns.abs(), values.abs()), mask) | ~ratio.isfinite()
    return torch.where(meaningless, 0.0, 1.0 - ratio)


def importance_weights(log_probs: Tensor, sampled_log_probs: Tensor, mask: Tensor, *, cap: float) -> Tensor:
    """min(p_scored / p_sampled, cap) of each action: truncated importance sampling (Ionides 2008, section 2), which
    corrects for actions that were sampled with other probabilities than they are scored with (Yao et al. 2025, "Your
    efficient RL framework secretly brings you off-policy RL training").

    log_probs, sampled_log_probs: float, nats; mask: bool; all of one shape. Returns the same shape, 1 where mask is
    False. Exactly 1 where both agree.
    """
    log_ratio = torch.where(mask, kl_k1(log_probs, sampled_log_probs), 0.0)
    return log_ratio.exp().clamp_max(cap)


def _is_last_token(mask: Tensor) -> Tensor:
    """bool [batch, time]: True on the last True of each row of mask, nowhere in a row without one."""
    still_to_come = mask.flip(1).cumsum(1).flip(1)
    return mask & (still_to_come == 1)


def _spread_is_rounding(centred: Tensor, computed_from: Tensor, mask: Tensor) -> Tensor:
    """bool scalar: True when distances from a mean are what rounding leaves of numbers as large as `computed_from`."""
    return centred.abs().amax() <= ROUNDING * torch.where(mask, computed_from, 0.0).abs().amax()


def _centred(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(values - mean, zero where mask is False; the mean as a scalar), exactly zero for equal values.

    Differences from one of the values are averaged, not the values: the mean of equal floats may be off by a
    rounding error, and whitening would blow that error up to size 1.
    """
    anchor = values.take(mask.flatten().int().argmax())  # [] with a tensor would read its number, and a GPU would wait
    shifted = torch.where(mask, values - anchor, 0.0)
    shift = shifted.sum() / mask.sum().clamp_min(1)
    return torch.where(mask, shifted - shift, 0.0), anchor + shift


def summed(values: Tensor, mask: Tensor) -> Tensor:
    """Sum over the True positions of each row: [batch, time] -> [batch]."""
    return torch.where(mask, values, 0.0).sum(dim=1)
