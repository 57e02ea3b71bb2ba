"""How long a model takes, tried on ids that mean nothing: what a choice rests on that no table could tell."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rlhf_engine.models.policy import Policy

PROMPT = 8
"""Tokens before a response in a trial."""


def trial_width(policy: Policy, response: int) -> int:
    """Tokens of a row with a response of so many, as far as the model has positions."""
    return min(PROMPT + response, policy.max_positions or 4096)


def trial_ids(policy: Policy, rows: int, width: int) -> torch.Tensor:
    """Random ids [rows, width] on the policy's device, always the same, by a generator of their own."""
    vocabulary = policy.base.get_input_embeddings().weight.shape[0]
    drawn = torch.randint(0, vocabulary, (rows, width), generator=torch.Generator().manual_seed(0))
    return drawn.to(policy.device)


def fastest(work: Callable[[], object], times: int, clock: Callable[[], float]) -> float:
    """Seconds by `clock` that `work` takes, the least of `times`; a first time, which prepares, does not count.

    The least, for whatever else the machine does can only make it longer.
    """
    taken = []
    for _ in range(times + 1):
        started = clock()
        work()
        taken.append(clock() - started)
    return min(taken[1:])
