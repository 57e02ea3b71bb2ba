"""Whether a reward model that has learnt on is worse than it was: asked of pairs that neither has learnt from.

Pairs are few and noisy, so that the figures of both differ by chance. The mean of the differences of the pairs' losses
with its 95 % interval (paired, Student's t) tells how much of that is chance: a version is worse when the interval lies
above 0 as a whole. One that is not worse for sure rewards, and both figures are told in any case.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rlhf_engine.learning.bradley_terry import HeldOutPairs
from rlhf_engine.maths.statistics import Estimate, paired_difference_interval

FEWEST = 10
"""Pairs below which the interval is not believed: differences of losses are skewed."""


@dataclass(frozen=True)
class VersionCheck:
    """What pairs that neither has learnt from tell of a model before and after it learnt on.

    before, after: their metrics, `eval/…`; pairs: how many; change: of the mean loss, after − before, with its 95 %
    interval. untold: why they do not tell whether it is worse; empty if they do.
    """

    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    pairs: int = 0
    change: Estimate | None = None
    untold: str = ""

    @classmethod
    def of(cls, before: HeldOutPairs, after: HeldOutPairs) -> VersionCheck:
        """Of the same pairs, at least one."""
        pairs = len(before.losses)
        if pairs < FEWEST:
            return cls(before.metrics, after.metrics, pairs, untold=f"{pairs} pairs are too few to tell (fewer than "
                       f"{FEWEST})")
        return cls(before.metrics, after.metrics, pairs, paired_difference_interval(before.losses, after.losses))

    @property
    def worse(self) -> bool:
        """True when it is worse by more than chance explains."""
        return self.change is not None and self.change.low > 0

    @property
    def text(self) -> str:
        """Both figures of each, and what they say, in few words."""
        told = [f"{self.pairs} held-out pairs: loss {self._figures('eval/loss', '.3f')}"] if self.pairs else []
        if {"eval/accuracy"} <= self.before.keys() & self.after.keys():
            told.append(f"{self._figures('eval/accuracy', '.0%')} told apart")
        if self.change is None:
            return "; ".join([", ".join(told), ""] if told else []) + f"whether it is worse is not known: {self.untold}"
        verdict = ("worse by more than chance" if self.worse else
                   "better by more than chance" if self.change.high < 0 else "the difference may be chance")
        return (f"{', '.join(told)}; {verdict} ({self.change.value:+.3f}, 95 % interval {self.change.low:+.3f} to "
                f"{self.change.high:+.3f})")

    @property
    def record(self) -> dict[str, Any]:
        """For a file."""
        change = self.change
        return {"held_out": self.pairs, "accuracy": self.after.get("eval/accuracy"), "before": self.before,
                "after": self.after, "untold": self.untold,
                "loss_change": [change.value, change.low, change.high] if change else None}

    def _figures(self, metric: str, form: str) -> str:
        return f"{self.after[metric]:{form}} ({self.before[metric]:{form}} before)"
