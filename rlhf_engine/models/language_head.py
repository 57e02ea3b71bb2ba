"""The frozen language-model head: from hidden states to what is said of tokens.

For a rollout it gives the next token's logits or probabilities, a few rows at a time; for evaluation and updates the
log-probs of chosen tokens, many rows at a time (`token_log_probs`). Both are of one distribution: logits / temperature,
banned ids left out.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from rlhf_engine.models.compiled import Compiled
from rlhf_engine.models.token_log_probs import HeadTransform, TokenLogProbs, chosen_log_probs, logit_statistics

_COPIED_BYTES = 16 * 1024 * 1024
_FEW_ROWS = 32


class LanguageHead:
    """Of one base model, on its device."""

    def __init__(
        self, base: Any, banned: Tensor | None, transform: HeadTransform, *, compiles: bool = False,
        copied_bytes: int = _COPIED_BYTES,
    ) -> None:
        """banned: bool [vocabulary], ids that are never sampled, or None. compiles: let torch compile what follows the
        head's product (`compiled`). copied_bytes: a weight of more is not copied for the sake of faster decoding."""
        self._head, self._banned, self._transform = base.get_output_embeddings(), banned, transform
        self._copied_bytes = copied_bytes
        self._statistics = Compiled("log-probs", logit_statistics, rows=(0, 1)) if compiles else None
        self._probabilities = Compiled("probabilities", token_probabilities, rows=(0,)) if compiles else None

    @property
    def compiled(self) -> tuple[Compiled, ...]:
        """What torch compiles of it."""
        return tuple(function for function in (self._statistics, self._probabilities) if function)

    @property
    def vocabulary(self) -> int:
        """Its rows: how many logits it gives."""
        return len(self._head.weight)

    def next_logits(self, hidden: Tensor, temperature: float) -> Tensor:
        """float32 logits [batch, vocabulary] / temperature from hidden [batch, hidden]; banned ids are −inf."""
        weight, bias = self._columns
        by_rows = weight.dtype == torch.float32 and weight.device.type == "cpu" and not weight.is_contiguous()
        if len(hidden) > _FEW_ROWS or not by_rows:
            logits = torch.addmm(bias, hidden, weight).float()
        else:  # W hᵀ instead of h Wᵀ: for few rows and a weight that lies by rows, the faster order by a third
            shape = (len(hidden), weight.shape[1])
            logits = torch.add((weight.t() @ hidden.t()).t(), bias, out=bias.new_empty(shape)).float()
        logits = self._transform.apply(logits)
        if temperature != 1.0:
            logits = logits.div_(temperature)
        if self._banned_ids is None:
            return logits
        # some columns, not a pass over all that a vocabulary of 150,000 would notice
        return logits.index_fill_(1, self._banned_ids, float("-inf"))

    def next_probabilities(self, hidden: Tensor, temperature: float) -> Tensor | None:
        """float32 [batch, vocabulary], from hidden [batch, hidden]; None where nothing is compiled: then they are the
        softmax of `next_logits`."""
        if self._probabilities is None:
            return None
        weight, bias = self._columns
        found: Tensor = self._probabilities(
            torch.addmm(bias, hidden, weight), self._banned, self._transform, temperature)
        return found

    def chosen_log_probs(
        self, hidden: Tensor, chosen: Tensor, temperature: float, *, with_entropy: bool = False
    ) -> TokenLogProbs:
        """log π of the tokens `chosen` [...] after the states `hidden` [..., hidden]."""
        return chosen_log_probs(
            hidden,
            self._head.weight,
            getattr(self._head, "bias", None),
            chosen,
            temperature=temperature,
            banned=self._banned,
            banned_ids=self._banned_ids,
            transform=self._transform,
            with_entropy=with_entropy,
            statistics=self._statistics,
        )

    @cached_property
    def _banned_ids(self) -> Tensor | None:
        """int64; found once, for a GPU has to be waited for."""
        return None if self._banned is None else self._banned.nonzero().squeeze(1)

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        """The weight as [hidden, vocabulary], and the bias.

        On a CPU a copy that is laid out so, unless it is large: for the few rows of a decoding step MKL multiplies with
        it in a quarter of the time on two threads, and in four fifths on one.
        """
        weight, bias = self._head.weight.t(), getattr(self._head, "bias", None)
        if weight.device.type == "cpu" and weight.numel() * weight.element_size() <= self._copied_bytes:
            weight = weight.contiguous()
        return weight, bias if bias is not None else weight.new_zeros(weight.shape[1])


def token_probabilities(product: Tensor, banned: Tensor | None, transform: HeadTransform, temperature: float) -> Tensor:
    """float32 [n, vocabulary], from a head's product [n, vocabulary]. To be compiled; see `logit_statistics`."""
    logits = transform.apply(product.to(torch.float32, copy=True)) / temperature
    if banned is not None:
        logits = torch.where(banned, -torch.inf, logits)
    return logits.softmax(dim=-1)
