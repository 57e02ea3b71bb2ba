"""log p(token) of chosen tokens straight from hidden states, without ever holding [batch, time, vocabulary].

Logits of a 150,000-word vocabulary for 64 x 256 tokens take 10 GB in float32, and autograd would keep several copies.
Here rows go through the language-model head a few hundred at a time. Because the head is frozen, all that the
backward pass needs is d log p / d hidden, which is formed while the logits are at hand: [rows, hidden] is kept
instead of [rows, vocabulary], and backward is one multiplication instead of a second pass through the head.

Left out: a gradient for the head (it is frozen) and for the entropy (it is a metric here, not a loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Logits per chunk: few, so that on a CPU they stay in its cache between passes, but enough rows for a matrix product to
# run at full speed (measured on vocabularies of 2,546 and 50,257), and never more than fits any memory.
_CACHED_BYTES = {"cpu": 2 * 1024 * 1024}
_EFFICIENT_ROWS = 128
_MOST_BYTES = 64 * 1024 * 1024
_NEVER = -1e30  # a banned id's logit: probability exactly 0 and, unlike -inf, no nan in 0 * log 0


class TokenLogProbs(NamedTuple):
    """All float32 and shaped like token_ids; nats."""

    log_probs: Tensor
    """log p(token) under the distribution that is sampled from; -inf for a banned token."""
    entropy: Tensor
    """Entropy of that whole distribution, without gradient; zeros if it was not asked for."""
    best: Tensor
    """log p of the likeliest token, without gradient; zeros if it was not asked for."""


@dataclass(frozen=True)
class HeadTransform:
    """What some models do to their logits after the head: multiply by scale (Cohere, Granite), then squash to
    softcap * tanh(logits / softcap) (Gemma 2 report, section 2)."""

    scale: float = 1.0
    softcap: float | None = None

    def apply(self, logits: Tensor) -> Tensor:
        """Transformed logits, same shape; `logits` is float32 and may be overwritten."""
        if self.scale != 1.0:
            logits = logits.mul_(self.scale)
        if self.softcap is not None:
            logits = logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def slope(self, transformed: Tensor) -> Tensor | float:
        """d transformed / d logits, element by element, from the transformed logits."""
        if self.softcap is None:
            return self.scale
        return self.scale * (1.0 - (transformed / self.softcap).square())


def chosen_log_probs(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    token_ids: Tensor,
    *,
    temperature: float = 1.0,
    banned: Tensor | None = None,
    transform: HeadTransform | None = None,
    with_entropy: bool = True,
    with_best: bool = False,
    chunk_size: int | None = None,
) -> TokenLogProbs:
    """Log-probabilities of chosen tokens and the entropy of the distributions they were chosen from.

    hidden: float [..., hidden], the states that predict the tokens; weight: float [vocabulary, hidden] and bias:
    [vocabulary] or None, the frozen head; token_ids: int64 [...].
    temperature: divides the (transformed) logits. banned: bool [vocabulary], ids that are never sampled: they get
    probability 0 and the rest is renormalised; at least one id must be allowed. with_entropy, with_best: each costs a
    pass over all logits. chunk_size: rows per chunk; by default 128 or more, in at most 64 MB of logits.

    Matrix products run in the dtype of weight, all after them in float32. Gradient flows to `hidden` only; a row whose
    chosen token is banned has log-probability -inf and gradient 0.
    Raises ValueError for shapes that do not fit together, a temperature that is not positive, or a head that wants a
    gradient it would never get.
    """
    _check(hidden, weight, bias, token_ids, temperature, banned)
    rows = chunk_size or _rows_per_chunk(weight)
    head = _Head(weight, bias, temperature, banned, transform or HeadTransform(), with_entropy, with_best, rows)
    flat_hidden, flat_ids = hidden.reshape(-1, hidden.shape[-1]), token_ids.reshape(-1)
    if torch.is_grad_enabled() and hidden.requires_grad:
        log_probs, entropy, best = _ChosenLogProbs.apply(flat_hidden, head, flat_ids)
    else:
        with torch.no_grad():
            log_probs, entropy, best, _ = head.run(flat_hidden, flat_ids, with_gradient=False)
    shape = token_ids.shape
    return TokenLogProbs(log_probs.reshape(shape), entropy.reshape(shape), best.reshape(shape))


def _rows_per_chunk(weight: Tensor) -> int:
    row_bytes = 4 * weight.shape[0]
    wanted = max(_EFFICIENT_ROWS, _CACHED_BYTES.get(weight.device.type, _MOST_BYTES) // row_bytes)
    return max(1, min(wanted, _MOST_BYTES // row_bytes))


@dataclass(frozen=True)
class _Head:
    weight: Tensor
    bias: Tensor | None
    temperature: float
    banned: Tensor | None
    transform: HeadTransform
    with_entropy: bool
    with_best: bool
    rows: int

    def run(
        self, hidden: Tensor, token_ids: Tensor, *, with_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(log_probs [N], entropy [N], best [N], d log_probs / d hidden [N, H] or None) for hidden [N, H], token_ids
        [N]."""
        log_probs = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        entropy, best = torch.zeros_like(log_probs), torch.zeros_like(log_probs)
        gradient = torch.empty_like(hidden) if with_gradient else None
        for start in range(0, hidden.shape[0], self.rows):
            chunk = slice(start, start + self.rows)
            self._run_chunk(
                hidden[chunk],
                token_ids[chunk].unsqueeze(1),
                log_probs[chunk],
                entropy[chunk],
                best[chunk],
                None if gradient is None else gradient[chunk],
            )
        return log_probs, entropy, best, gradient

    def _run_chunk(
        self, hidden: Tensor, chosen: Tensor, log_probs: Tensor, entropy: Tensor, best: Tensor, gradient: Tensor | None
    ) -> None:
        """Fill the rows log_probs, entropy, best [n] and gradient [n, H] for hidden [n, H], chosen [n, 1]."""
        logits = self._logits(hidden)
        slope = self.transform.slope(logits) if gradient is not None else 1.0
        logits = logits.div_(self.temperature) if self.temperature != 1.0 else logits
        logits = logits.masked_fill_(self.banned, _NEVER) if self.banned is not None else logits
        log_p = logits.log_softmax(dim=1)
        log_probs.copy_(log_p.gather(1, chosen).squeeze(1))
        if self.with_best:
            best.copy_(log_p.amax(dim=1))
        impossible = self.banned[chosen] if self.banned is not None else None
        if impossible is not None:
            log_probs.masked_fill_(impossible.squeeze(1), -torch.inf)
        if gradient is None and not self.with_entropy:
            return
        p = torch.exp(log_p, out=logits)
        if self.with_entropy:
            # a product of [1, V] and [V, 1]: unlike a sum of products it holds no third [n, V]
            entropy.copy_(torch.bmm(p.unsqueeze(1), log_p.unsqueeze(2)).flatten().neg_())
        if gradient is not None:
            gradient.copy_(self._gradient(p, chosen, slope))
            if impossible is not None:
                gradient.masked_fill_(impossible, 0.0)

    def _logits(self, hidden: Tensor) -> Tensor:
        """Transformed logits, float32 [n, V], before temperature and bans."""
        return self.transform.apply(functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias).float())

    def _gradient(self, p: Tensor, chosen: Tensor, slope: Tensor | float) -> Tensor:
        """d log p(chosen) / d hidden [n, H] = (one-hot(chosen) - p) * slope / temperature @ W; overwrites p."""
        if isinstance(slope, float) and self.weight.dtype == torch.float32:
            # the same without passes over [n, V]: W[chosen] - p W. In half precision p near 1 would round to 1.
            rows = torch.addmm(self.weight[chosen.squeeze(1)], p, self.weight, alpha=-1)
            return rows.mul_(slope / self.temperature)
        wanted = p.neg_().scatter_add_(1, chosen, torch.ones_like(chosen, dtype=p.dtype))
        return wanted.mul_(slope).div_(self.temperature).to(self.weight.dtype) @ self.weight


class _ChosenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, head: _Head, token_ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_probs, entropy, best, gradient = head.run(hidden, token_ids, with_gradient=True)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(entropy, best)
        return log_probs, entropy, best

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_log_probs: Tensor, *_others: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grad_log_probs.unsqueeze(1)).to(gradient.dtype), None, None


def _check(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, token_ids: Tensor, temperature: float, banned: Tensor | None
) -> None:
    if hidden.shape[:-1] != token_ids.shape or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)}, token_ids {tuple(token_ids.shape)} and weight {tuple(weight.shape)} do not "
            "fit: they must be [..., hidden], [...] and [vocabulary, hidden]"
        )
    if banned is not None and banned.shape != weight.shape[:1]:
        raise ValueError(f"banned has shape {tuple(banned.shape)}; it must be [vocabulary] = [{weight.shape[0]}]")
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be positive")
    if torch.is_grad_enabled() and (weight.requires_grad or (bias is not None and bias.requires_grad)):
        raise ValueError("the language-model head requires a gradient; it must be frozen (requires_grad_(False))")
