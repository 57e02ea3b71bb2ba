"""Sampling: a batch of prompts in, a batch of responses out, one cached decoding step per token.

Left out on purpose: beam search, repetition penalties and every other way of making text that does not come from the
policy's own distribution; PPO's ratio and KL would no longer describe what was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from rlhf_engine.config import SamplingConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.policy import Policy


@dataclass(frozen=True)
class Rollout:
    """Prompts and what was sampled after them; the ids trained on are these very ids, never retokenised text.

    prompt_ids [batch, prompt time] int64, left-padded, prompt_mask bool; response_ids [batch, response time] int64,
    right-padded, response_mask bool: True up to and including the end token. finished bool [batch]: an end token came.
    """

    prompts: list[str]
    responses: list[str]
    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor
    finished: Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(ids, mask, response mask) of some rows, without columns that are padding in all of them.

        rows: int64 [n]. ids and mask are [n, time]; response mask [n, response time] covers the last columns.
        """
        prompt_mask, response_mask = self.prompt_mask[rows], self.response_mask[rows]
        first = self.prompt_mask.shape[1] - int(prompt_mask.sum(1).max())
        last = int(response_mask.sum(1).max())
        ids = torch.cat([self.prompt_ids[rows, first:], self.response_ids[rows, :last]], dim=1)
        mask = torch.cat([prompt_mask[:, first:], response_mask[:, :last]], dim=1)
        return ids, mask, response_mask[:, :last]


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: list[str],
    sampling: SamplingConfig,
    generator: torch.Generator,
    *,
    on_token: Callable[[int, Tensor], bool | None] | None = None,
) -> Rollout:
    """Continue each prompt in the role the policy plays, until an end token or `max_new_tokens`.

    generator: on the policy's device. It advances by the same amount whatever the model says (see `draw`), so that
    reference and tuned answer from the same noise when seeds and batch shapes are equal.
    on_token: called with (tokens so far, response ids so far [batch, tokens so far]); returning True ends the sampling.
    Raises ModelError when a prompt and its response do not fit into the model's context.
    """
    prompt_ids, prompt_mask = policy.encode(prompts)
    _check_fits(policy, prompt_ids.shape[1], sampling.max_new_tokens)
    end_ids = torch.tensor(policy.end_ids, device=policy.device)
    cache = DynamicCache(config=policy.base.config)
    ids, mask = prompt_ids, prompt_mask
    open_rows = torch.ones(len(prompts), dtype=torch.bool, device=policy.device)
    tokens: list[Tensor] = []
    for count in range(1, sampling.max_new_tokens + 1):
        hidden = policy.forward(ids, mask, cache)[:, -1]
        probabilities = truncate(policy.next_logits(hidden, sampling.temperature), sampling).softmax(dim=-1)
        chosen = torch.where(open_rows, draw(probabilities, generator), policy.pad_id)
        tokens.append(chosen)
        mask = torch.cat([mask, open_rows.unsqueeze(1)], dim=1)
        open_rows = open_rows & ~torch.isin(chosen, end_ids)
        ids = chosen.unsqueeze(1)
        if on_token is not None and on_token(count, torch.stack(tokens, dim=1)):
            break
        if not open_rows.any():
            break
    response_ids, response_mask = torch.stack(tokens, dim=1), mask[:, prompt_ids.shape[1] :]
    texts = [policy.decode(row[keep].tolist()) for row, keep in zip(response_ids, response_mask, strict=True)]
    return Rollout(prompts, texts, prompt_ids, prompt_mask, response_ids, response_mask, finished=~open_rows)


def draw(probabilities: Tensor, generator: torch.Generator) -> Tensor:
    """One id a row, int64 [batch], from probabilities [batch, vocabulary], by a race of exponential clocks.

    Id i fires at time Exp(1) / p_i, and the first to fire is drawn with probability p_i (the Gumbel-max trick). Unlike
    a sampler by inverse distribution it couples models: where two agree, equal noise draws equal tokens. And unlike
    torch.multinomial it looks at no value, so nothing waits for the device.
    """
    # −log of uniform numbers, not exponential_: a third of the time on a CPU. Zero gives an infinite time: never drawn.
    clocks = torch.rand(probabilities.shape, generator=generator, device=probabilities.device).log_().neg_()
    return (probabilities / clocks).argmax(dim=-1)


def truncate(logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """Logits [batch, vocabulary] with −inf outside the top_k most likely ids and outside the top_p nucleus."""
    if sampling.top_k and sampling.top_k < logits.shape[-1]:
        smallest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, mass_before >= sampling.top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits


def _check_fits(policy: Policy, prompt_tokens: int, new_tokens: int) -> None:
    room = policy.max_positions
    if room is not None and prompt_tokens + new_tokens > room:
        raise ModelError(
            f"sampling.max_new_tokens: the longest prompt has {prompt_tokens} tokens, and with "
            f"{new_tokens} new ones exceeds the model's context of {room}; at most "
            f"{max(0, room - prompt_tokens)} fit"
        )
