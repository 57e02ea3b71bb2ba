"""log p(token) of chosen tokens straight from hidden states, without ever holding [batch, time, vocabulary].

Logits of a 150,000-word vocabulary for 64 x 256 tokens take 10 GB in float32, and autograd would keep several copies.
Here rows go through the language-model head a few hundred at a time. Because the head is frozen, all that the
backward pass needs is d log p / d hidden, which is formed while the logits are at hand: [rows, hidden] is kept
instead of [rows, vocabulary], and backward is one multiplication instead of a second pass through the head.

Left out: a gradient for the head (it is frozen) and for the entropy (it is a metric here, not a loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from rlhf_engine.models.compiled import Compiled

# Logits per chunk: few, so that on a CPU they stay in its cache between passes, but enough rows for a matrix product to
# run at full speed (measured on vocabularies of 2,546 and 50,257), and never more than fits any memory. A GPU reads the
# whole head for each chunk: with fewer rows it would wait for that.
_CACHED_BYTES = 2 * 1024 * 1024
_EFFICIENT_ROWS, _EFFICIENT_ROWS_OF_GPU = 96, 2048
_MOST_BYTES = 64 * 1024 * 1024
_SHARE_OF_GPU = 64  # chunks on a GPU may take a part in so many of its memory
_FEW_OF = 32  # banned ids are few if no more than one id in so many is banned
_NEVER = -1e30  # a banned id's logit: probability exactly 0 and, unlike -inf, no nan in 0 * log 0


class TokenLogProbs(NamedTuple):
    """All float32 and shaped like token_ids; nats."""

    log_probs: Tensor
    """log p(token) under the distribution that is sampled from; -inf for a banned token."""
    entropy: Tensor
    """Entropy of that whole distribution, without gradient; zeros if it was not asked for."""
    best: Tensor
    """log p of the likeliest token, without gradient."""


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
    banned_ids: Tensor | None = None,
    transform: HeadTransform | None = None,
    with_entropy: bool = True,
    chunk_size: int | None = None,
    statistics: Compiled | None = None,
) -> TokenLogProbs:
    """Log-probabilities of chosen tokens and the entropy of the distributions they were chosen from.

    hidden: float [..., hidden], the states that predict the tokens; weight: float [vocabulary, hidden] and bias:
    [vocabulary] or None, the frozen head; token_ids: int64 [...].
    temperature: divides the (transformed) logits. banned: bool [vocabulary], ids that are never sampled: they get
    probability 0 and the rest is renormalised; at least one id must be allowed. banned_ids: int64, the same ids, where
    they are known (to find them a GPU is waited for): few are left out faster so. with_entropy: costs a pass over all
    logits. chunk_size: rows per chunk; by default 96 or more (on a GPU 2,048), in at most 64 MB of logits (a 64th of
    the GPU's memory). statistics: `logit_statistics`, compiled; without it there are more passes.

    Matrix products run in the dtype of weight, all after them in float32. Gradient flows to `hidden` only; a row whose
    chosen token is banned has log-probability -inf and gradient 0.
    Raises ValueError for shapes that do not fit together, a temperature that is not positive, or a head that wants a
    gradient it would never get.
    """
    _check(hidden, weight, bias, token_ids, temperature, banned)
    rows = chunk_size or _rows_per_chunk(weight)
    few = banned_ids if banned_ids is not None and len(banned_ids) * _FEW_OF < len(weight) else None
    head = _Head(weight, bias, temperature, banned, few, transform or HeadTransform(), with_entropy, rows, statistics)
    flat_hidden, flat_ids = hidden.reshape(-1, hidden.shape[-1]), token_ids.reshape(-1)
    if torch.is_grad_enabled() and hidden.requires_grad:
        log_probs, entropy, best = _ChosenLogProbs.apply(flat_hidden, head, flat_ids)
    else:
        with torch.no_grad():
            log_probs, entropy, best, _ = head.run(flat_hidden, flat_ids, with_gradient=False)
    shape = token_ids.shape
    return TokenLogProbs(log_probs.reshape(shape), entropy.reshape(shape), best.reshape(shape))


def _rows_per_chunk(weight: Tensor) -> int:
    row_bytes, device = 4 * weight.shape[0], weight.device
    most = _MOST_BYTES
    if device.type == "cuda":
        most = max(most, torch.cuda.get_device_properties(device).total_memory // _SHARE_OF_GPU)
    wanted = max(_EFFICIENT_ROWS, _CACHED_BYTES // row_bytes) if device.type == "cpu" else _EFFICIENT_ROWS_OF_GPU
    return max(1, min(wanted, most // row_bytes))


def logit_statistics(
    product: Tensor, chosen: Tensor, banned: Tensor | None, transform: HeadTransform, temperature: float,
    with_entropy: bool, with_gradient: bool,
) -> tuple[Tensor, ...]:
    """log p(chosen), entropy (or zeros) and the best log p, float32 [n] each, from a head's product [n, vocabulary];
    and with the gradient d log p(chosen) / d product, like the product. chosen: int64 [n, 1].

    To be compiled: for a GPU that makes one kernel, which reads the product three times.
    """
    logits = transform.apply(product.to(torch.float32, copy=True))
    slope = transform.slope(logits) / temperature
    logits = logits / temperature
    if banned is not None:
        logits = torch.where(banned, _NEVER, logits)
    logits = logits - logits.amax(dim=1, keepdim=True)
    exponentials = logits.exp()
    total = exponentials.sum(dim=1, keepdim=True)
    norm = total.log()
    said = logits.gather(1, chosen) - norm
    entropy = torch.zeros_like(norm)
    if with_entropy:
        entropy = norm - (exponentials * logits).sum(dim=1, keepdim=True) / total
    found = (said.squeeze(1), entropy.squeeze(1), -norm.squeeze(1))
    if not with_gradient:
        return found
    is_chosen = torch.arange(product.shape[1], device=product.device) == chosen
    return *found, ((is_chosen.float() - exponentials / total) * slope).to(product.dtype)


_Chunk = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""log_probs, entropy, best [n], and d log_probs / d hidden [n, H] if that is wanted."""


@dataclass(frozen=True)
class _Head:
    weight: Tensor
    bias: Tensor | None
    temperature: float
    banned: Tensor | None
    few_banned: Tensor | None
    transform: HeadTransform
    with_entropy: bool
    rows: int
    statistics: Compiled | None = None

    def run(
        self, hidden: Tensor, token_ids: Tensor, *, with_gradient: bool
    ) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """(log_probs [N], entropy [N], best [N], d log_probs / d hidden [N, H] or None) for hidden [N, H], token_ids
        [N]."""
        log_probs = torch.empty(hidden.shape[0], dtype=torch.float32, device=hidden.device)
        entropy, best = torch.zeros_like(log_probs), torch.zeros_like(log_probs)
        gradient = torch.empty_like(hidden) if with_gradient else None
        run_chunk = self._compiled if self.statistics else partial(self._in_passes, self._room(len(hidden)))
        for start in range(0, hidden.shape[0], self.rows):
            chunk = slice(start, start + self.rows)
            chosen = token_ids[chunk].unsqueeze(1)
            log_probs[chunk], entropy[chunk], best[chunk], slopes = run_chunk(hidden[chunk], chosen, with_gradient)
            impossible = self.banned[chosen] if self.banned is not None else None
            if impossible is not None:
                log_probs[chunk].masked_fill_(impossible.squeeze(1), -torch.inf)
            if gradient is not None and slopes is not None:
                gradient[chunk] = slopes if impossible is None else slopes.masked_fill_(impossible, 0.0)
        return log_probs, entropy, best, gradient

    def _compiled(self, hidden: Tensor, chosen: Tensor, with_gradient: bool) -> _Chunk:
        """For hidden [n, H] and chosen [n, 1]."""
        assert self.statistics is not None, "this is how a chunk is done with them"
        product = functional.linear(hidden.to(self.weight.dtype), self.weight, self.bias)
        log_probs, entropy, best, *slopes = self.statistics(
            product, chosen, self.banned, self.transform, self.temperature, self.with_entropy, with_gradient)
        return log_probs, entropy, best, slopes[0] @ self.weight if slopes else None

    def _room(self, count: int) -> _Room:
        return _Room.of(self.weight, min(self.rows, count), two=self.with_entropy)

    def _in_passes(self, whole_room: _Room, hidden: Tensor, chosen: Tensor, with_gradient: bool) -> _Chunk:
        """The same, by operations that each go through all logits: as few as give what is wanted."""
        room = whole_room.first(len(hidden))
        logits = self._logits(hidden, room)
        slope = self.transform.slope(logits) if with_gradient else 1.0
        logits = logits.div_(self.temperature) if self.temperature != 1.0 else logits
        logits = self._without_banned(logits)
        # a softmax: less the greatest, exponentials, their sum
        logits.sub_(logits.amax(dim=1, keepdim=True))
        said = logits.gather(1, chosen)
        exponentials = torch.exp(logits, out=room.exponentials)
        total = exponentials.sum(dim=1, keepdim=True)
        norm = total.log()
        entropy = torch.zeros_like(norm)
        if self.with_entropy:
            entropy = norm - torch.linalg.vecdot(exponentials, logits).unsqueeze(1) / total
        slopes = self._gradient(exponentials, total, chosen, slope, room) if with_gradient else None
        # the exponential of the greatest is exp(0)
        return (said - norm).squeeze(1), entropy.squeeze(1), -norm.squeeze(1), slopes

    def _logits(self, hidden: Tensor, room: _Room) -> Tensor:
        """Transformed logits, float32 [n, V], before temperature and bans."""
        states, weight = hidden.to(self.weight.dtype), self.weight.t()
        product = room.logits if room.half is None else room.half
        if self.bias is None:
            torch.mm(states, weight, out=product)
        else:
            torch.addmm(self.bias, states, weight, out=product)
        return self.transform.apply(room.logits if room.half is None else room.logits.copy_(room.half))

    def _without_banned(self, logits: Tensor) -> Tensor:
        """Of `logits` [n, V], overwritten, the columns of banned ids can win nothing."""
        if self.banned is None:
            return logits
        if self.few_banned is not None:  # a pass over their columns is shorter than one over all
            return logits.index_fill_(1, self.few_banned, _NEVER)
        return logits.masked_fill_(self.banned, _NEVER)

    def _gradient(self, exponentials: Tensor, total: Tensor, chosen: Tensor, slope: Tensor | float, room: _Room
                  ) -> Tensor:
        """d log p(chosen) / d hidden [n, H] = (one-hot(chosen) - p) * slope / temperature @ W, where p = exponentials
        [n, V] / total [n, 1]; overwrites the exponentials."""
        if isinstance(slope, float) and room.half is None:
            # W[chosen] - p W. In half precision p near 1 would round to 1.
            rows = (exponentials @ self.weight).div_(-total).add_(self.weight[chosen.squeeze(1)])
            return rows.mul_(slope / self.temperature)
        less = exponentials.scatter_add_(1, chosen, -total)  # (p - one-hot) * total
        less = less.mul_(slope) if isinstance(slope, Tensor) else less
        scale = -self.temperature if isinstance(slope, Tensor) else -self.temperature / slope
        rows = (less if room.half is None else room.half.copy_(less)) @ self.weight
        return rows.float().div_(total * scale)


@dataclass(frozen=True)
class _Room:
    """Memory for a chunk's logits, used for one chunk after another: to ask the system for it anew takes as long as a
    pass over it. half: in the weight's dtype, if that is not float32. exponentials: where logits are, if those are not
    needed beside them."""

    logits: Tensor
    exponentials: Tensor
    half: Tensor | None

    @classmethod
    def of(cls, weight: Tensor, rows: int, *, two: bool) -> _Room:
        """For chunks of at most `rows`; two: logits are read after their exponentials are taken."""
        logits = torch.empty(rows, weight.shape[0], dtype=torch.float32, device=weight.device)
        half = None if weight.dtype == torch.float32 else torch.empty_like(logits, dtype=weight.dtype)
        return cls(logits, torch.empty_like(logits) if two else logits, half)

    def first(self, rows: int) -> _Room:
        """The first rows of it."""
        return _Room(self.logits[:rows], self.exponentials[:rows], None if self.half is None else self.half[:rows])


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
