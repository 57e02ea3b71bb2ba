"""Which reward of a run is gold: scored and not learnt from, it tells whether what is learnt from still says what was
meant. Without one, an ensemble's own doubt stands in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlhf_engine.config.rewards import RewardSection

AUTO = "auto"
SCORE, LENGTH = "objective/scores", "completions/score_length_corr"


@dataclass(frozen=True)
class Judge:
    """What the score that is learnt from is held against. name: of the gold reward, or "" for the score's lower bound:
    the score less the deviation of the ensembles that gave it."""

    name: str
    spreads: tuple[tuple[str, float], ...] = ()
    """The metrics of deviations, with the weight of each."""

    @property
    def title(self) -> str:
        """What to call it in a sentence."""
        return f"gold score “{self.name}”" if self.name else "score less the ensemble's deviation"

    def value(self, metrics: Mapping[str, float]) -> float:
        """Its score in a step, NaN where the step does not tell."""
        if self.name:
            return metrics.get(f"rewards/{self.name}/mean", math.nan)
        return metrics.get(SCORE, math.nan) - self.spread(metrics)

    def spread(self, metrics: Mapping[str, float]) -> float:
        """Of gold the deviation of its scores; else how far the members of the ensembles are apart. NaN as above."""
        if self.name:
            return metrics.get(f"rewards/{self.name}/std", math.nan)
        found = [abs(weight) * metrics[name] for name, weight in self.spreads if name in metrics]
        return math.fsum(found) if found else math.nan


def gold_of(rewards: Sequence[RewardSection], gold: str | None) -> str | None:
    """The name of the gold reward, as `sentinel.gold` says it; None where there is none."""
    if gold != AUTO:
        return gold
    return next((reward.name for reward in rewards if reward.weight == 0), None)


def judge_of(rewards: Sequence[RewardSection], gold: str | None) -> Judge:
    """What a run's score is held against; it says NaN where there is neither gold nor an ensemble."""
    name = gold_of(rewards, gold)
    spreads = tuple((f"rewards/{reward.name}/deviation", reward.weight) for reward in rewards if reward.weight)
    return Judge(name) if name is not None else Judge("", spreads)
