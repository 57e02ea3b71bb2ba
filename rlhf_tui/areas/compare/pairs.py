"""The same prompt and the same seed, answered by reference and tuned, side by side; one pair after another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.content import Content
from textual.widget import Widget

from rlhf_engine.evaluation.compare import Pair
from rlhf_tui.widgets.answer import Answer, signed


def gain(pair: Pair) -> float:
    """By how much tuned outscores the reference; a difference that is not known, or no number, counts as none."""
    first, second = pair.reference.score, pair.tuned.score
    difference = math.nan if first is None or second is None else second - first
    return 0.0 if math.isnan(difference) else difference


ORDERS: dict[str, Callable[[Pair], float]] = {
    "as drawn": lambda pair: 0.0,
    "largest gain first": lambda pair: -gain(pair),
    "largest loss first": gain,
}


class Pairs(Widget, can_focus=True):
    """← → go through the pairs, ↑ ↓ scroll them, `o` changes their order."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "turn(-1)", "Previous pair", tooltip="The pair before", id="pairs.previous"),
        Binding("right", "turn(1)", "Next pair", tooltip="The next pair", id="pairs.next"),
        Binding("home", "turn(-1000000)", "First pair", show=False),
        Binding("end", "turn(1000000)", "Last pair", show=False),
        Binding("up", "scroll(-1)", "Up", show=False),
        Binding("down", "scroll(1)", "Down", show=False),
        Binding("o", "order", "Order", tooltip="As drawn, largest gain first, largest loss first", id="pairs.order"),
    ]
    DEFAULT_CSS = """
    Pairs Horizontal { height: 1fr; }
    Pairs.-narrow Horizontal { layout: vertical; }
    Pairs Answer { border: none; padding: 0 1; }
    Pairs Answer#tuned { border-left: solid $border-blurred; }
    Pairs.-narrow Answer#tuned { border-left: none; border-top: solid $border-blurred; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._drawn: tuple[Pair, ...] = ()
        self._pairs: list[Pair] = []
        self._at = 0
        self._order = next(iter(ORDERS))
        self._labels, self._no_scores = ("reference", "tuned"), ""
        self._answers = (Answer("reference", id="reference"), Answer("tuned", id="tuned"))
        for answer in self._answers:
            answer.can_focus = False

    def compose(self) -> ComposeResult:
        with Horizontal():
            yield from self._answers

    def on_mount(self) -> None:
        self._show()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.width < 60, "-narrow")

    def load(
        self, pairs: tuple[Pair, ...], labels: tuple[str, str] = ("reference", "tuned"), no_scores: str = ""
    ) -> None:
        """Show other pairs, from the first, under the names of the two; and why they have no scores, if so."""
        self._drawn, self._at, self._labels, self._no_scores = pairs, 0, labels, no_scores
        self._sort()

    def action_turn(self, step: int) -> None:
        """Another pair; the ends hold."""
        self._at = max(0, min(len(self._pairs) - 1, self._at + step))
        self._show()

    def action_scroll(self, lines: int) -> None:
        """Scroll both texts."""
        for answer in self._answers:
            answer.scroll_relative(y=lines, animate=False)

    def action_order(self) -> None:
        """The next order, from its first pair."""
        names = list(ORDERS)
        self._order = names[(names.index(self._order) + 1) % len(names)]
        self._at = 0
        self._sort()

    def _sort(self) -> None:
        self._pairs = sorted(self._drawn, key=ORDERS[self._order])
        self._show()

    def _show(self) -> None:
        if not self.is_mounted:
            return
        if not self._pairs:
            self.border_subtitle = Content("")
            return
        pair = self._pairs[self._at]
        samples = (pair.reference, pair.tuned)
        for answer, sample, label in zip(self._answers, samples, self._labels, strict=True):
            answer.show_sample(sample, self._no_scores)
            answer.lead(label)
            answer.scroll_home(animate=False)
        where = f"{self._at + 1} of {len(self._pairs)} ← →"
        self.border_subtitle = Content(where if self._no_scores else
                                       f"{where} · gain {signed(gain(pair))} · o {self._order}")
