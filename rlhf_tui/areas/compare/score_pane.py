"""The pane of the scores: how often each was given, or how they stand beside best-of-n of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget

from rlhf_engine.evaluation.frontier import Frontier
from rlhf_tui.areas.compare.frontier import FrontierView
from rlhf_tui.areas.compare.scores import ScoreHistogram


class ScorePane(Widget, can_focus=True):
    """Shows one of the two; `switch` shows the other."""

    DEFAULT_CSS = """
    ScorePane { layout: vertical; }
    ScorePane > ScoreHistogram, ScorePane > FrontierView { height: 1fr; width: 1fr; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.shows_frontier = False
        self._histogram, self._view = ScoreHistogram(), FrontierView()
        self._frontier: Frontier | None = None

    def compose(self) -> ComposeResult:
        yield self._histogram
        yield self._view

    def on_mount(self) -> None:
        self._show()

    def switch(self) -> None:
        """Show the other of the two."""
        self.shows_frontier = not self.shows_frontier
        self._show()

    def load(
        self, reference: Sequence[float], tuned: Sequence[float], labels: tuple[str, str] = ("reference", "tuned")
    ) -> None:
        """Show other scores, under the names of the two."""
        self._histogram.load(reference, tuned, labels)

    def load_frontier(self, frontier: Frontier | None, otherwise: str = "") -> None:
        """Show another one; or, where there is none, why."""
        self._frontier = frontier
        self._view.load(frontier, otherwise)
        self._show()

    def _show(self) -> None:
        self._histogram.display, self._view.display = not self.shows_frontier, self.shows_frontier
        self.border_title = Content("3 Score against KL" if self.shows_frontier else "3 Scores")
        shares = [standing.share for standing in (self._frontier.standings if self._frontier else ())
                  if standing and standing.share]
        told = ", ".join(f"{100 * share.value:.0f}%" for share in shares)
        self.border_subtitle = Content("f scores" if self.shows_frontier else
                                       f"{told} of best-of-n's gain · f" if told else "f best-of-n")
