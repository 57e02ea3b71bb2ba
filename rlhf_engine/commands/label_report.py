"""What is told of judgements, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rlhf_engine.labels.statistics import LabelStatistics, Share


def statistics_json(found: LabelStatistics) -> dict[str, Any]:
    """As --json has them."""
    def share(told: Share | None) -> dict[str, Any] | None:
        return asdict(told) if told else None

    return {"labels": dict(found.counts), "consistency": share(found.consistency), "left_won": share(found.left_won),
            "longer_won": share(found.longer_won)}


def report_lines(found: LabelStatistics) -> list[str]:
    """For people, a line each: what was judged, how steadily, and what may lead astray."""
    counts = {"first": "for the first", "second": "for the second", "tie": "ties", "both_bad": "both bad",
              "skip": "skipped"}
    told = ", ".join(f"{number} {counts[verdict]}" for verdict, number in found.counts.items() if number)
    lines = [f"{found.judged} judged: {told}" if told else "nothing is judged yet"]
    if found.seconds_per_pair is not None:
        lines.append(f"{found.seconds_per_pair:.1f} s a pair (median)")
    lines += [f"{name}: {share_text(share)}" for name, share in (
        ("pairs judged twice, with their sides swapped, and judged alike", found.consistency),
        ("won by the left one", found.left_won), ("won by the longer one", found.longer_won)) if share]
    return lines


def share_text(share: Share) -> str:
    """A share with its interval, and what chance would give."""
    return (f"{share.value:.0%} of {share.n} (95 % interval {share.low:.0%} to {share.high:.0%}; chance "
            f"{share.chance:.0%})")
