"""Whether a reward model that has learnt on is worse than it was: asked of pairs that neither has learnt from.

Pairs are few and noisy, so that the figures of both differ by chance. The mean of the pairs' differences, with its 95 %
interval (paired, Student's t), tells how much of that is chance: a version is worse when that of the losses lies above
0 as a whole, or that of the share told apart below it (losses also tell how sure a model is, which a reward that is
scaled anew forgets). One that is not worse for sure rewards, and both figures are told in any case.
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

    before, after: their metrics, `eval/…`; pairs: how many; loss_change, accuracy_change: of the mean loss and of the
    share of decided pairs that are told apart, after − before, with their 95 % intervals. untold: why they do not tell
    whether it is worse; empty if they do.
    """

    before: dict[str, float] = field(default_factory=dict)
    after: dict[str, float] = field(default_factory=dict)
    pairs: int = 0
    loss_change: Estimate | None = None
    accuracy_change: Estimate | None = None
    untold: str = ""

    @classmethod
    def of(cls, before: HeldOutPairs, after: HeldOutPairs) -> VersionCheck:
        """Of the same pairs, at least one."""
        pairs = len(before.losses)
        if pairs < FEWEST:
            return cls(before.metrics, after.metrics, pairs, untold=f"{pairs} pairs are too few to tell (fewer than "
                       f"{FEWEST})")
        told = before.told_apart, after.told_apart
        return cls(before.metrics, after.metrics, pairs, paired_difference_interval(before.losses, after.losses),
                   paired_difference_interval(*told) if len(told[0]) >= FEWEST else None)

    @property
    def worse(self) -> bool:
        """True when it is worse by more than chance explains."""
        return (self.loss_change is not None and self.loss_change.low > 0) or (
            self.accuracy_change is not None and self.accuracy_change.high < 0)

    @property
    def text(self) -> str:
        """Both figures of each, and what they say, in few words."""
        told = []
        if self.pairs:
            told.append(f"loss {self._figures('eval/loss', '.3f')}{_interval(self.loss_change, 1, '+.3f')}")
        if {"eval/accuracy"} <= self.before.keys() & self.after.keys():
            change = _interval(self.accuracy_change, 100, "+.0f")
            told.append(f"{self._figures('eval/accuracy', '.0%')} told apart{change}")
        found = f"{self.pairs} held-out pairs: {', '.join(told)}; " if told else ""
        if self.loss_change is None:
            return f"{found}whether it is worse is not known: {self.untold}"
        return found + ("worse by more than chance" if self.worse else
                        "better by more than chance" if self.loss_change.high < 0 else "the difference may be chance")

    @property
    def record(self) -> dict[str, Any]:
        """For a file."""
        changes = {name: [change.value, change.low, change.high] if change else None for name, change in (
            ("loss_change", self.loss_change), ("accuracy_change", self.accuracy_change))}
        return {"held_out": self.pairs, "accuracy": self.after.get("eval/accuracy"), "before": self.before,
                "after": self.after, "untold": self.untold} | changes

    def _figures(self, metric: str, form: str) -> str:
        return f"{self.after[metric]:{form}} ({self.before[metric]:{form}} before)"


def _interval(change: Estimate | None, factor: float, form: str) -> str:
    """Of a change, behind its figures."""
    return f" [{factor * change.low:{form}}, {factor * change.high:{form}}]" if change else ""
