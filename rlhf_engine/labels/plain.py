"""Judgements as plain pairs, as other programs want them: no more than prompt, chosen and rejected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rlhf_engine.labels.judgement import Judgement


def plain_rows(judgements: Iterable[Judgement], *, ties: bool) -> list[dict[str, Any]]:
    """A row for each pair with a winner, in order; with `ties` also for those without one, and a column `tie`."""
    rows: list[dict[str, Any]] = []
    for judgement in judgements:
        if judgement.decided or (ties and judgement.tie):
            told = {"prompt": judgement.pair.prompt, "chosen": judgement.chosen.text,
                    "rejected": judgement.rejected.text}
            rows.append(told | {"tie": judgement.tie} if ties else told)
    return rows
