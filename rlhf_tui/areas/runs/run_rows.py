"""The lines of the list of runs: which, in which order, and how one reads. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from textual.content import Content

from rlhf_engine.runs.run_dir import Parent
from rlhf_engine.runs.run_list import CURVE_PLACES, RunFigures, RunSummary, as_tree
from rlhf_engine.system.units import format_bytes
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.figures import figure, sparkline

Figures = Mapping[Path, RunFigures]

SORTS = ("last changed", "name", "score", "step", "state")
_AS_TREE = ("last changed", "name")  # the other orders rank: a fork stands where its figure puts it
_STATES: dict[str, tuple[str, str]] = {
    "not begun": ("○", "$text-muted"), "loading": ("◌", "$accent"), "training": ("●", "$success bold"),
    "paused": ("‖", "$accent bold"), "stopping": ("◐", "$accent bold"), "finished": ("✓", "$success"),
    "stopped": ("■", "$primary"), "failed": ("✗", "$error bold"), "diverged": ("✗", "$error bold"),
    "interrupted": ("✗", "$warning bold"), "unknown": ("?", "$text-muted"), "unreadable": ("?", "$text-muted"),
}
_STATE_ORDER = list(_STATES)
# name, width, rank: the higher the rank, the sooner a column goes when there is no room
_COLUMNS = (("state", 13, 1), ("step", 10, 2), ("score", 7, 3), ("KL", 6, 4), ("size", 9, 6), ("age", 5, 5),
            ("scores", 14, 5.5), ("preset", 14, 7), ("started", 18, 8))
_LEAST_NAME = 18
MARK = "◆"


def clean_run(run: RunSummary) -> RunSummary:
    """The run with all its texts fit to be shown; `path` is what it was."""
    parent = run.parent and Parent(clean_line(run.parent.run), run.parent.step, run.parent.id)
    return replace(run, name=clean_line(run.name), preset=clean_line(run.preset), state=clean_line(run.state),
                   message=clean_text(run.message), note=clean_text(run.note), parent=parent)


def listed(
    runs: Sequence[RunSummary], figures: Figures, *, sort: str, words: str
) -> list[tuple[int, RunSummary]]:
    """The runs that hold all `words`, each with its depth below the run it came from (0 where the order ranks)."""
    ordered = sorted(runs, key=lambda run: (_key(run, figures.get(run.path), sort), run.name))
    wanted = words.lower().split()
    if wanted:
        return [(0, run) for run in ordered if all(word in _text(run) for word in wanted)]
    return as_tree(ordered) if sort in _AS_TREE else [(0, run) for run in ordered]


def columns(width: int) -> list[tuple[str, int]]:
    """The columns besides the name that fit into `width`, with their widths."""
    kept = list(_COLUMNS)
    while kept and width - 2 - sum(wide for _, wide, _ in kept) < _LEAST_NAME:
        kept.remove(max(kept, key=lambda column: column[2]))
    return [(name, wide) for name, wide, _ in kept]


def heading(width: int) -> Content:
    """The names of the columns."""
    shown = columns(width)
    name = width - 2 - sum(wide for _, wide in shown)
    text = "  " + "run".ljust(max(0, name)) + "".join(_aligned(title, title, wide) for title, wide in shown)
    return Content.styled(text, "$text-muted").truncate(max(1, width), ellipsis=True)


def run_line(
    depth: int, run: RunSummary, figures: RunFigures | None, width: int, *, now: float, marked: bool, open: bool
) -> Content:
    """A run as one line of `width` cells."""
    shown = columns(width)
    room = max(1, width - 2 - sum(wide for _, wide in shown))
    branch = "   " * min(depth - 1, 6) + "└─ " if depth else ""
    name = Content.assemble((branch, "$text-muted"), (run.name, "bold" if open else ""),
                            ("  ✎" if run.note else "", "$text-muted"))
    parts: list[Content] = [Content.styled(f"{MARK if marked else ' '} ", "$primary bold"),
                            name.truncate(room - 1, ellipsis=True, pad=True), Content(" ")]
    for title, wide in shown:
        text, style = _cell(title, run, figures, now)
        cut = Content(text).truncate(wide - 1, ellipsis=True).plain
        parts.append(Content.styled(_aligned(title, cut, wide), style))
    return Content("").join(parts).truncate(max(1, width), ellipsis=True, pad=True)


def state_badge(state: str) -> tuple[str, str]:
    """A state with its symbol, and a style."""
    symbol, style = _STATES.get(state, _STATES["unknown"])
    return f"{symbol} {state}", style


def age(seconds: float) -> str:
    """How long ago, short: `now`, `5m`, `3h`, `2d`, `9w`."""
    for limit, unit, length in ((60, "", 0), (3600, "m", 60), (86400, "h", 3600), (14 * 86400, "d", 86400)):
        if seconds < limit:
            return f"{int(seconds // length)}{unit}" if length else "now"
    return f"{int(seconds // (7 * 86400))}w"


def started(moment: str) -> str:
    """When a run started, by this machine's clock; empty if nobody knows."""
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError, OSError):  # of a file that somebody wrote by hand
        return ""


def number(value: float | None, form: str) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else figure(value, form) if math.isfinite(value) else "✗"


# ---------------------------------------------------------------------------------------------------------------------


def _cell(title: str, run: RunSummary, figures: RunFigures | None, now: float) -> tuple[str, str]:
    match title:
        case "state":
            return state_badge(run.state)
        case "step":
            return (f"{run.step}/{run.total_steps}" if run.total_steps else "–"), ""
        case "score":
            return (number(figures.score, "+.2f") if figures else ""), ""
        case "KL":
            return (number(figures.kl, ".1f") if figures else ""), ""
        case "size":
            return (format_bytes(figures.bytes) if figures else ""), "$text-muted"
        case "scores":
            return (sparkline(figures.scores, CURVE_PLACES) if figures else ""), "$primary"
        case "started":
            return started(run.started), "$text-muted"
        case "age":
            return age(now - run.changed), "$text-muted"
        case _:
            return run.preset, "$text-muted"


def _aligned(title: str, text: str, width: int) -> str:
    """Words to the left, numbers to the right."""
    if title in ("state", "scores", "preset", "started"):
        return f" {text}".ljust(width)
    return text.rjust(width)


def _text(run: RunSummary) -> str:
    parent = run.parent.run if run.parent else ""
    return f"{run.name} {run.preset} {run.state} {run.message} {run.note} {parent}".lower()


def _key(run: RunSummary, figures: RunFigures | None, sort: str) -> float:
    match sort:
        case "score":
            score = figures.score if figures else None
            return -score if score is not None and math.isfinite(score) else math.inf
        case "step":
            return -run.step
        case "state":
            return _STATE_ORDER.index(run.state) if run.state in _STATE_ORDER else len(_STATE_ORDER)
        case "name":
            return 0
        case _:
            return -run.changed
