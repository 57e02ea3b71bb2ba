"""What every method would do with the same responses, as plain values: each one's advantages and pushes.

Neither torch nor numpy: the screen reads these before either is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Sample

LEAST, MOST = 2, 64
"""Responses of a group."""
_USUAL = 8


@dataclass(frozen=True)
class MethodCredit:
    """What one method would do with a group.

    advantages, pushes: of each response, one number a token. A push is −∂loss/∂log π of the token in the first
    optimizer step: above 0 the token is made likelier. totals: the advantage of each response, where it is one action;
    else the mean over its tokens, and `by_token` is true. told: one line about where the numbers come from.
    """

    kind: str
    title: str
    advantages: tuple[tuple[float, ...], ...]
    pushes: tuple[tuple[float, ...], ...]
    totals: tuple[float, ...]
    by_token: bool
    told: str


@dataclass(frozen=True)
class GroupCredit:
    """A group of responses to one prompt after `step`, each with its tokens, and what every method makes of it.

    kl_coef: β, the same for all. left_out: one sentence for each method that could not be asked.
    """

    step: int
    kl_coef: float
    samples: tuple[Sample, ...]
    methods: tuple[MethodCredit, ...]
    left_out: tuple[str, ...] = ()


def group_size(config: RunConfig) -> int:
    """How many responses a group of the run's own has; 8, as is usual, where it samples one to a prompt."""
    method = config.algorithm
    own = method.learned_per_step // max(1, method.rows_per_step)
    return min(own, MOST) if own > 1 else _USUAL
