"""Running moments of scores, to feed the critic numbers around zero whatever scale a reward has."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

_DECAY = 0.9  # a step weighs a tenth: scores rise while training, so old ones must fade


class ScoreNormalizer:
    """Exponential moving mean and variance of scores (cf. reward normalisation in Ziegler et al. 2019)."""

    def __init__(self) -> None:
        self.mean, self.variance, self.steps = 0.0, 1.0, 0

    def __call__(self, scores: Tensor, mode: Literal["none", "center", "standardize"]) -> Tensor:
        """Take scores [batch] into the moments and return them centred, standardised, or as they are.

        scores: float64, for a mean of equal scores must be that score: what rounding leaves would be divided by a
        spread of nothing. Returns float64.
        """
        decay = _DECAY if self.steps else 0.0
        # sums of differences, not of scores: exact where all are equal
        now = (scores[0] + (scores - scores[0]).mean()).item()
        self.mean = now if not self.steps else self.mean + (1 - decay) * (now - self.mean)
        spread = (scores - self.mean).square().mean().item()  # around the running mean: steps differ, too
        self.variance = decay * self.variance + (1 - decay) * spread
        self.steps += 1
        if mode == "none":
            return scores
        centred = scores - self.mean
        return centred if mode == "center" else centred / max(self.variance, 1e-8) ** 0.5

    def state(self) -> dict[str, Any]:
        """The moments, for a checkpoint."""
        return {"mean": self.mean, "variance": self.variance, "steps": self.steps}

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over what `state` gave."""
        self.mean, self.variance, self.steps = float(state["mean"]), float(state["variance"]), int(state["steps"])
