"""What is known of one run, on one page. A pure function."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.metrics import describe
from rlhf_engine.runs.run_list import RunFigures, RunSummary
from rlhf_engine.system.units import format_bytes
from rlhf_tui.areas.runs.run_rows import age, number, started, state_badge
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import sparkline

_STEPS = 8
_CURVE = 24
_VERSIONS = 4  # of reward models, the last ones


def run_details(run: RunSummary, figures: RunFigures | None, parent: RunSummary | None, *, now: float) -> Content:
    """State, figures, where it came from, its checkpoints, its note. All texts of `run` are clean."""
    lines = [Content.assemble((run.name, "bold"), "  ", state_badge(run.state))]
    if run.message:
        lines.append(Content.styled(run.message, "$text-muted"))
    lines.append(_named("step", f"{run.step} of {run.total_steps}" if run.total_steps else "none yet"))
    if begun := started(run.started):
        lines.append(_named("started", begun))
    if figures:
        if figures.scores:
            lines.append(_named("scores", sparkline(figures.scores, _CURVE)))
        if figures.telling:
            lines.append(_named("course", sparkline(figures.course, _CURVE)))
            lines += [_named(clean_line(describe(name).title), number(value, ".3g")) for name, value in figures.telling]
        else:
            lines += [_named("score", number(figures.score, "+.3f")),
                      _named("KL", f"{number(figures.kl, '.2f')} nats/response")]
        lines += [_named("size", format_bytes(figures.bytes)), _named("saved", _steps(figures.checkpoints))]
        lines += [_named("" if at else "versions", clean_line(version.text))
                  for at, version in enumerate(figures.versions[-_VERSIONS:])]
    ago = age(now - run.changed)
    lines += [_named("changed", ago if ago == "now" else f"{ago} ago"), _named("preset", run.preset or "none")]
    if run.parent:
        called = f", now called {parent.name}" if parent and parent.name != run.parent.run else ""
        gone = "" if parent else ", which is not here"
        lines.append(_named("fork of", f"{run.parent.run} at step {run.parent.step}{called}{gone}"))
    if run.note:
        lines += [Content(""), Content.styled("note", "$text-muted"), Content(run.note)]
    return Content("\n").join(lines)


def _steps(steps: tuple[int, ...]) -> str:
    if not steps:
        return "no checkpoint"
    more = f" … ({len(steps)})" if len(steps) > _STEPS else ""
    return ("steps " if len(steps) > 1 else "step ") + ", ".join(map(str, steps[:_STEPS])) + more


def _named(name: str, value: str) -> Content:
    return Content.assemble((f"{name:<9}", "$text-muted"), value)
