"""The lines of the list of runs: which, in which order, and how one reads. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from textual.content import Content

from rlhf_engine.metrics import describe
from rlhf_engine.runs.parent import Parent
from rlhf_engine.runs.run_list import CURVE_PLACES, RunFigures, RunSummary, as_tree
from rlhf_engine.system.units import format_bytes
from rlhf_tui.areas.sweep.groups import SweepGroup
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
_WIDEST_METRIC = 16
FOLDED, UNFOLDED = "▸ ", "▾ "
MARK = "◆"


def clean_run(run: RunSummary) -> RunSummary:
    """The run with all its texts fit to be shown; `path` is what it was."""
    parent = run.parent and Parent(clean_line(run.parent.run), run.parent.step, run.parent.id)
    return replace(run, name=clean_line(run.name), preset=clean_line(run.preset), state=clean_line(run.state),
                   message=clean_text(run.message), note=clean_text(run.note), parent=parent)


def listed(
    runs: Sequence[RunSummary], figures: Figures, *, sort: str, words: str, sweeps: Sequence[SweepGroup] = (),
    folded: Collection[Path] = (),
) -> list[tuple[int, RunSummary]]:
    """The runs that hold all `words`, each with its depth below the run it came from (0 where the order ranks). Without
    words the runs of a sweep stand below its own line, which stands where the first of them would; not while it is
    `folded`. sort: one of SORTS, or the name of a metric."""
    def place(run: RunSummary) -> tuple[float, str]:
        return _key(run, figures.get(run.path), sort), run.name

    ordered = sorted(runs, key=place)
    wanted = words.lower().split()
    if wanted:
        return [(0, run) for run in ordered if all(word in _text(run) for word in wanted)]
    of_sweeps = {path for sweep in sweeps for path in sweep.runs}
    alone = [run for run in ordered if run.path not in of_sweeps]
    blocks: list[tuple[tuple[float, str], list[tuple[int, RunSummary]]]] = []
    for depth, run in as_tree(alone) if sort in _AS_TREE else [(0, run) for run in alone]:
        if depth:
            blocks[-1][1].append((depth, run))
        else:
            blocks.append((place(run), [(0, run)]))
    for sweep in sweeps:
        members = [run for run in ordered if run.path in sweep.runs]
        head = sweep.head(members)
        first = min((_key(run, figures.get(run.path), sort) for run in members), default=math.inf)
        below = [] if sweep.path in folded else [(1, run) for run in members]
        blocks.append(((first, head.name), [(0, head), *below]))
    return [row for _, rows in sorted(blocks, key=lambda block: block[0]) for row in rows]


def columns(width: int, metric: str | None = None) -> list[tuple[str, int]]:
    """The columns besides the name that fit into `width`, with their widths; that of a metric before all others."""
    kept = list(_COLUMNS)
    if metric:
        kept.insert(2, (metric, max(8, min(_WIDEST_METRIC, len(_title(metric)) + 1)), 0.5))
    while kept and width - 2 - sum(wide for _, wide, _ in kept) < _LEAST_NAME:
        kept.remove(max(kept, key=lambda column: column[2]))
    return [(name, wide) for name, wide, _ in kept]


def heading(width: int, metric: str | None = None) -> Content:
    """The names of the columns."""
    shown = columns(width, metric)
    name = width - 2 - sum(wide for _, wide in shown)
    text = "  " + "run".ljust(max(0, name)) + "".join(
        _aligned(title, _title(title)[:wide - 1], wide) for title, wide in shown)
    return Content.styled(text, "$text-muted").truncate(max(1, width), ellipsis=True)


def run_line(
    depth: int, run: RunSummary, figures: RunFigures | None, width: int, *, now: float, marked: bool, open: bool,
    metric: str | None = None, fold: str = "",
) -> Content:
    """A run as one line of `width` cells. fold: stands before the name of what has lines below it."""
    shown = columns(width, metric)
    room = max(1, width - 2 - sum(wide for _, wide in shown))
    branch = "   " * min(depth - 1, 6) + "└─ " if depth else ""
    name = Content.assemble((branch + fold, "$text-muted"), (run.name, "bold" if open or fold else ""),
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
        case "preset":
            return run.preset, "$text-muted"
        case _:
            return (number(figures.metrics.get(title), ".3g") if figures else ""), ""


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
        case "last changed":
            return -run.changed
        case _:
            value = figures.metrics.get(sort, math.nan) if figures else math.nan
            return math.inf if not math.isfinite(value) else value if describe(sort).better == "down" else -value


def _title(column: str) -> str:
    """What a column is called; those of metrics have the metric's name."""
    return column if column in {name for name, _, _ in _COLUMNS} else clean_line(describe(column).title)
