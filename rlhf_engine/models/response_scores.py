"""What a head says of responses, token by token, and at the last one: the score of a reward model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout


def values_along(
    policy: Policy, role: str, head: nn.Linear, ids: Tensor, mask: Tensor, response_width: int
) -> Tensor:
    """What `head` says in `role` once each of the last `response_width` tokens stands, behind what it says before the
    first of them: float32 [batch, response_width + 1]. On padded positions it is meaningless: mask it."""
    with policy.as_role(role):
        hidden = policy.forward(ids, mask)[:, -response_width - 1:]
    values: Tensor = head(hidden.float()).squeeze(-1)
    return values


def at_last_token(values: Tensor, response_mask: Tensor) -> Tensor:
    """Of `values_along` [batch, time + 1] the one at the last token that is there: that of the prompt where a response
    has none. response_mask: bool [batch, time], padding right. [batch]."""
    return values.gather(1, response_mask.sum(dim=1, keepdim=True)).squeeze(1)


@torch.no_grad()
def score_responses(
    policy: Policy, readers: list[tuple[str, nn.Linear]], rollout: Rollout, limit: MicroBatchLimit
) -> Tensor:
    """The raw score of each response by each of `readers`, roles with the head that reads them: float32
    [readers, batch] on the CPU, in as many micro-batches as memory asks for.

    Rows of like length go through a pass together. A score depends on its own text alone, but for rounding.
    """
    order = (rollout.prompt_mask.sum(dim=1) + rollout.response_mask.sum(dim=1)).argsort(stable=True).cpu()

    def attempt() -> Tensor:
        found = torch.zeros(len(readers), len(rollout))
        for rows in order.split(limit.size):
            ids, mask, response_mask = rollout.batch(rows)
            for at, (role, head) in enumerate(readers):
                values = values_along(policy, role, head, ids, mask, response_mask.shape[1])
                found[at, rows] = at_last_token(values, response_mask).cpu()
        return found

    return limit.fit(attempt)
