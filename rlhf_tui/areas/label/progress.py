"""The line above the pair: how far, how fast, and what is asked."""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content
from textual.widget import Widget

from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import progress_bar
from rlhf_tui.widgets.status import Part, fit


@dataclass(frozen=True)
class Progress:
    """What the line tells."""

    judged: int
    wanted: int
    per_minute: float | None
    median_seconds: float | None
    asked_for: str
    who: str
    waiting: int
    rater: str
    file: str
    anew: str
    """What was said of the pair in view before, where it is judged anew."""
    flag: bool
    note: str


class ProgressLine(Widget):
    """Drops the least important first where it is narrow."""

    DEFAULT_CSS = "ProgressLine { height: 1; padding: 0 1; }"

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._progress: Progress | None = None

    def show(self, progress: Progress) -> None:
        """Tell something else."""
        if progress != self._progress:
            self._progress = progress
            self.refresh()

    def render(self) -> Content:
        return fit(self._parts(self._progress), self.size.width) if self._progress else Content("")

    def _parts(self, now: Progress) -> list[Part]:
        quiet = "$text-muted"
        share = now.judged / now.wanted if now.wanted else 0.0
        bar = Content.assemble(("▕", quiet), (progress_bar(share, 12), "$primary on $surface"), ("▏", quiet))
        pace = "" if now.per_minute is None else f"{now.per_minute:.0f}/min"
        seconds = "" if now.median_seconds is None else f"median {now.median_seconds:.1f} s"
        return [
            Part(Content.styled(f"judged anew; it was: {now.anew}", "$warning bold") if now.anew else Content(""), 1),
            Part(Content.styled(f"{now.judged}/{now.wanted} judged", "bold"), 0),
            Part(bar, 50),
            Part(Content.styled("⚑ flagged", "$accent bold") if now.flag else Content(""), 2),
            Part(Content.styled(f"✎ {clean_line(now.note)[:30]}", "$accent") if now.note else Content(""), 5),
            Part(Content(pace), 20), Part(Content(seconds), 25),
            Part(Content(f"next: {now.asked_for}"), 10),
            Part(Content.styled(now.who, quiet), 45),
            Part(Content.styled(f"{now.waiting} wait", quiet), 60),
            Part(Content.styled(clean_line(now.rater), quiet), 30),
            Part(Content.styled(clean_line(now.file), quiet), 40),
        ]
