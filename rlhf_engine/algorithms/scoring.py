"""When the rewards read a step's responses: while a GPU evaluates these, unless they want the GPU themselves.

Kernels are asked for and not waited for. So the passes of the evaluation are asked for first, and rewards that run on
the CPU, as word lists and functions do, read the responses meanwhile; no thread is needed. Nothing but time depends on
the order: passes of the evaluation draw no random numbers and change no weight, nor do rewards.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from rlhf_engine.errors import NonFiniteError
from rlhf_engine.rewards.composite import ScoredBatch


class Scoring:
    """The scores of a step's responses, for which the rewards are asked once: now, or when they are wanted first."""

    def __init__(self, score: Callable[[], ScoredBatch], *, now: bool) -> None:
        """score: asks the rewards. now: they go first. What they raise is let through wherever they are asked."""
        self._score = score
        self._scored: ScoredBatch | None = None
        if now:
            self.result()

    def result(self) -> ScoredBatch:
        """What the rewards give."""
        if self._scored is None:
            self._scored = self._score()
        return self._scored


def finite_scores(scored: ScoredBatch) -> Tensor:
    """Scores float64 [batch], on the CPU, for mps has no such numbers. Raises NonFiniteError for those that float32
    cannot hold."""
    scores = torch.tensor([score.total for score in scored.scores], dtype=torch.float64)
    if not torch.isfinite(scores.float()).all() or not math.isfinite(scores.sum()):
        raise NonFiniteError("scores are too large to compute with")
    return scores
