"""Where models stand beside best-of-n of their reference at equal KL: values, and what they say in words.

Neither torch nor numpy: the screen reads these before either is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from rlhf_engine.maths.statistics import Estimate

POOL = 2048
"""The most responses of the reference in all, unless a person says otherwise."""
_HUGE_N = 1e6


@dataclass(frozen=True)
class CurvePoint:
    """What best-of-n reaches: its KL to the reference in nats per response, and its expected score."""

    n: float
    kl: float
    score: float


@dataclass(frozen=True)
class Standing:
    """A trained side beside best-of-n, on the prompts of the pool.

    n: the best of how many scores the same; n_at_kl: the best of how many has the same KL; share: its gain over the
    reference as a part of the gain of best-of-n at its KL, with a 95 % interval for these prompts. All are None where
    they cannot be told; `why` then says why the share cannot.
    """

    label: str
    kl: float
    score: float
    n: float | None = None
    n_at_kl: float | None = None
    share: Estimate | None = None
    why: str = ""


@dataclass(frozen=True)
class Frontier:
    """The curve of best-of-n and where all sides stand; None for a side that is the reference.

    responses: of the reference to each prompt; prompts: how many, of `all_prompts` that the sides answered. There is
    no curve where there can be none: `why` says why.
    """

    standings: tuple[Standing | None, ...] = (None, None)
    curve: tuple[CurvePoint, ...] = ()
    responses: int = 0
    prompts: int = 0
    all_prompts: int = 0
    why: str = ""

    def sentences(self) -> list[str]:
        """All of it for people, a sentence a line."""
        return [self.why] if self.why else [told(standing) for standing in self.standings if standing]

    @property
    def source(self) -> str:
        """What the curve is of, in words."""
        of_all = "" if self.prompts == self.all_prompts else f" of {self.all_prompts}"
        return f"{self.responses} reference responses to each of {self.prompts}{of_all} prompts"


def told(standing: Standing) -> str:
    """How a side stands, in a sentence."""
    if standing.share is None:
        return f"{standing.label}: {standing.why}"
    share = standing.share
    as_good = (f"as good as best-of-{n_text(standing.n)}" if standing.n is not None
               else "no better than the reference" if share.value <= 0 else "better than the best of all drawn")
    interval = (f"95 % CI {100 * share.low:.0f} to {100 * share.high:.0f}" if math.isfinite(share.low)
                else "one response is too few for an interval")
    return (f"{standing.label}: {as_good}, at the KL of best-of-{n_text(standing.n_at_kl)} ({standing.kl:.2f} nats): "
            f"{100 * share.value:.0f} % of its gain ({interval})")


def n_text(n: float | None) -> str:
    """An n for people; between whole numbers with a decimal while that tells something."""
    if n is None:
        return "?"
    if n > _HUGE_N:
        return "more than a million"
    return f"{n:.1f}" if n < 10 else f"{n:,.0f}"
