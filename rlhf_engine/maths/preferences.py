"""The losses of methods that learn from pairs of responses, a better and a worse one. Pure functions over tensors.

What they have in common: h, how much further the actor has moved from the reference towards the better response than
towards the worse one, h = (log π(y_w|x) − log π_ref(y_w|x)) − (log π(y_l|x) − log π_ref(y_l|x)), in nats. β · (log π −
log π_ref) is the implicit reward of a response (Rafailov et al. 2023, section 4), up to a number that both of a pair
share, so that β · h is the margin of the pair.

Every result is a sum divided by `normalizer`, the number of pairs of the WHOLE minibatch: results of micro-batches
simply add up.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

PreferenceKind = Literal["sigmoid", "ipo", "hinge"]


class PreferenceLoss(NamedTuple):
    """Scalars; all but `loss` are detached. Each adds up over micro-batches, to the mean over pairs."""

    loss: Tensor
    chosen_reward: Tensor
    """Implicit reward β · (log π − log π_ref) of the better response."""
    rejected_reward: Tensor
    margin: Tensor
    """β · h."""
    accuracy: Tensor
    """Share of pairs whose better response has the higher implicit reward; a tie counts half."""
    chosen_log_prob: Tensor
    """nats per response, as are the next."""
    rejected_log_prob: Tensor
    chosen_log_ratio: Tensor
    """log π − log π_ref of the better response, nats per response: neither β nor a mean over tokens is in it."""


def preference_loss(
    chosen: Tensor,
    rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    *,
    kind: PreferenceKind,
    beta: float,
    label_smoothing: float = 0.0,
    lengths: tuple[Tensor, Tensor] | None = None,
    normalizer: float,
) -> PreferenceLoss:
    """What pairs cost by one of `pair_losses`, and what is known of them.

    chosen, rejected (with gradient), reference_chosen, reference_rejected: float [pairs], log-probs of whole responses,
    the sums over their tokens, nats. lengths: [pairs] each, the tokens of the better and the worse responses, where the
    loss goes by log-ratios per token, as TRL does for ipo and others for all losses ("length-normalized DPO"): a longer
    response has no longer lever. Log-probs and log-ratio are told per response all the same. Raises ValueError unless
    normalizer and beta are positive.
    """
    if not normalizer > 0:
        raise ValueError(f"normalizer is {normalizer}; it must be the positive number of pairs of the minibatch")
    better, worse = chosen - reference_chosen, rejected - reference_rejected
    moved = better.detach()
    if lengths is not None:
        better, worse = better / lengths[0].clamp_min(1), worse / lengths[1].clamp_min(1)
    losses = pair_losses(better - worse, kind=kind, beta=beta, label_smoothing=label_smoothing)
    better, worse = better.detach(), worse.detach()
    right = (better > worse).to(better.dtype) + 0.5 * (better == worse)
    shares = (beta * better, beta * worse, beta * (better - worse), right, chosen.detach(), rejected.detach(),
              moved)
    return PreferenceLoss(losses.sum() / normalizer, *(share.sum() / normalizer for share in shares))


def pair_losses(gap: Tensor, *, kind: PreferenceKind, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """The loss of each pair; h in nats [pairs] -> [pairs].

    sigmoid: −log σ(β h) (Rafailov et al. 2023, "Direct preference optimization", eq. 7): log 2 where h is 0. With
        label_smoothing ε, −(1 − ε) log σ(β h) − ε log σ(−β h), as if a share ε of the pairs were the wrong way round
        (conservative DPO: Mitchell 2023, "A note on DPO with noisy preferences", eq. 3).
    ipo: (h − 1 / (2 β))² (Azar et al. 2024, "A general theoretical paradigm", eq. 17, whose τ is β): the margin has a
        goal, so that pairs that always go one way do not push it without end.
    hinge: max(0, 1 − β h) (Zhao et al. 2023, "SLiC-HF", eq. 1, with δ = 1 and β; of log-ratios to the reference, as Liu
        et al. 2024, "Statistical rejection sampling", normalise it): nothing is learnt beyond a margin of 1.

    Raises ValueError for a beta that is not positive, and for smoothing outside 0 to 0.5 or with other losses.
    """
    if not beta > 0:
        raise ValueError(f"beta is {beta}; it must be positive")
    if not 0 <= label_smoothing < 0.5 or (label_smoothing and kind != "sigmoid"):
        raise ValueError(f"label_smoothing is {label_smoothing}; it belongs to the sigmoid loss, from 0 to below 0.5")
    match kind:
        case "sigmoid":
            return -(1 - label_smoothing) * logsigmoid(beta * gap) - label_smoothing * logsigmoid(-beta * gap)
        case "ipo":
            return (gap - 1 / (2 * beta)).square()
        case "hinge":
            return (1 - beta * gap).clamp_min(0.0)


def pair_pushes(gap: Tensor, *, kind: PreferenceKind, beta: float, label_smoothing: float = 0.0) -> Tensor:
    """−∂loss/∂h of each pair [pairs], by `pair_losses`: by how much its loss falls for a nat of h. Below 0 where the
    loss would have h smaller: beyond the goal of ipo, and beyond log((1 − ε) / ε) / β with label smoothing ε."""
    with torch.enable_grad():
        h = gap.detach().requires_grad_()
        losses = pair_losses(h, kind=kind, beta=beta, label_smoothing=label_smoothing)
        return -torch.autograd.grad(losses.sum(), h)[0]
