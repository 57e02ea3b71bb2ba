"""What a head says of responses, token by token, and once the last one stands: the score of a reward model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout

Reads = Literal["last", "mean"]
"""What a score is made of: what the head says at the last token, or the mean of what it says at each of them."""


@dataclass(frozen=True)
class Reader:
    """A model that scores: entering what `reading` returns makes the base answer as it, and `head` makes one number
    [..., 1] of hidden states [..., hidden] in float32."""

    reading: Callable[[], AbstractContextManager[None]]
    head: Callable[[Tensor], Tensor]
    reads: Reads = "last"


def values_along(policy: Policy, reader: Reader, ids: Tensor, mask: Tensor, response_width: int) -> Tensor:
    """What a response would score if it ended with each of the last `response_width` tokens, behind what it would
    without any: float32 [batch, response_width + 1]. On padded positions it is meaningless: mask it."""
    with reader.reading():
        hidden = policy.forward(ids, mask)[:, -response_width - 1:]
    said = reader.head(hidden.float()).squeeze(-1)
    return said if reader.reads == "last" else running_means(said)


def running_means(said: Tensor) -> Tensor:
    """The mean of what the head says at the response's tokens up to each of them; what it says before the first one
    stays. said, returned: [batch, time + 1]."""
    counts = torch.arange(1, said.shape[1], device=said.device, dtype=said.dtype)
    return torch.cat([said[:, :1], said[:, 1:].cumsum(dim=1) / counts], dim=1)


def added_by_token(values: Tensor, response_mask: Tensor, reads: Reads, usual: float = 0.0) -> Tensor:
    """What each token adds to the score of its response: values [batch, time + 1] as `values_along` gives them, result
    [batch, time], 0 on padding.

    Read at the last token, that is the score once it stands less that before it. Of a mean each token has an equal
    share, and adds what it lies above `usual`, the score of a usual response.
    """
    if reads == "last":
        added = values[:, 1:] - values[:, :-1]
    else:
        counts = torch.arange(values.shape[1], device=values.device, dtype=values.dtype)
        sums = (values - usual) * counts
        added = (sums[:, 1:] - sums[:, :-1]) / response_mask.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.where(response_mask, added, 0.0)


def at_last_token(values: Tensor, response_mask: Tensor) -> Tensor:
    """Of `values_along` [batch, time + 1] the one at the last token that is there: that of the prompt where a response
    has none. response_mask: bool [batch, time], padding right. [batch]."""
    return values.gather(1, response_mask.sum(dim=1, keepdim=True)).squeeze(1)


def score_responses(policy: Policy, readers: Sequence[Reader], rollout: Rollout, limit: MicroBatchLimit) -> Tensor:
    """The raw score of each response by each of `readers`: float32 [readers, batch] on the CPU; see `read_responses`.
    """
    values = read_responses(policy, readers, rollout, limit)
    mask = rollout.response_mask.cpu()
    return torch.stack([at_last_token(each, mask) for each in values])


@torch.no_grad()
def read_responses(policy: Policy, readers: Sequence[Reader], rollout: Rollout, limit: MicroBatchLimit) -> Tensor:
    """What each of `readers` says before and after each token of each response: float32 [readers, batch, time + 1] on
    the CPU, 0 on padding, in as many micro-batches as memory asks for.

    Rows of like length go through a pass together. What is said depends on its own text alone, but for rounding.
    """
    order = (rollout.prompt_mask.sum(dim=1) + rollout.response_mask.sum(dim=1)).argsort(stable=True).cpu()

    def attempt() -> Tensor:
        found = torch.zeros(len(readers), len(rollout), rollout.response_mask.shape[1] + 1, device=policy.device)
        for rows in order.split(limit.size):
            ids, mask, response_mask = rollout.batch(rows)
            width = response_mask.shape[1]
            real = torch.nn.functional.pad(response_mask, (1, 0), value=True)
            for at, reader in enumerate(readers):
                values = values_along(policy, reader, ids, mask, width)
                found[at, rollout.on_device(rows), :width + 1] = torch.where(real, values, 0.0)
        return found

    return limit.fit(attempt).cpu()
