"""Score against KL: the curve of best-of-n, and a mark for each model that is held against it."""

from __future__ import annotations

from collections.abc import Sequence

from rlhf_tui.areas.charts.plot import Picture, draw
from rlhf_tui.areas.charts.sheet import Sheet
from rlhf_tui.engine.metrics_history import Points, drawable

_LEAST_KL = 0.1  # nats, that the axis reaches to at the least
Mark = tuple[str, float, float]
"""A character, and the KL and score that it stands at."""


def draw_frontier(curve: Points, marks: Sequence[Mark], width: int, height: int) -> Sheet | str | None:
    """As `plot.draw`: the curve's points are (KL, score), ascending. What cannot be drawn is left out; where two marks
    fall into one cell, the first is seen."""
    line = [(kl, score) for kl, score in curve if drawable(kl) and drawable(score)]
    seen = [(mark, kl, score) for mark, kl, score in marks if drawable(kl) and drawable(score)]
    kls = [kl for kl, _ in line] + [kl for _, kl, _ in seen]
    if not kls:
        return None
    # as overlays they have their place within the limits of both axes
    sheet = draw(Picture(band=[], line=line, first=min(0.0, *kls), last=max(_LEAST_KL, *kls),
                         overlays=[(mark, [(kl, score)]) for mark, kl, score in seen]), width, height)
    if isinstance(sheet, Sheet):
        for mark, kl, score in reversed(seen):
            sheet.mark(kl, score, mark, "overlay")
    return sheet
