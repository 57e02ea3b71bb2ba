"""A prompt, and two responses to it: side by side, or one above the other where it is narrow."""

from __future__ import annotations

from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.events import Sample
from rlhf_engine.labels.pair import Answer, Pair
from rlhf_tui.areas.label.pair_queue import Turn
from rlhf_tui.terminal.clean_text import clean_sample, clean_text

TITLES = ("a ← left", "right → b")
_LINES = 8  # of a response, as most have fewer: so many are drawn anew with each pair


def as_sample(pair: Pair, answer: Answer) -> Sample:
    """An answer as other screens show one, fit to be shown."""
    return clean_sample(Sample(answer.origin.step or 0, pair.prompt, answer.text, answer.score, answer.parts, None, 0,
                               answer.finished, answer.spans))


def in_order(pair: Pair, swapped: bool) -> tuple[Answer, Answer]:
    """The two answers, from the left."""
    return (pair.second, pair.first) if swapped else (pair.first, pair.second)


def put(static: Static, text: Content, room: int = 0) -> None:
    """Another text, and the screen is laid out anew, which a key would wait for, only where that does not fit into the
    lines of the one before. room: lines that the text has to itself, so that a shorter one leaves them empty."""
    static.update(text, layout=False)
    static.clear_cached_dimensions()
    lines = static.get_content_height(static.size, static.app.size, static.size.width) if static.size.width else -1
    there = static.size.height
    if lines != there and not lines <= there <= room:
        static.refresh(layout=True)


class Scroll(VerticalScroll):
    """A text of any length, scrolled by the screen's keys. fills: it has the room to itself, however short it is."""

    def __init__(self, title: str = "", *, fills: bool = False, **options: Any) -> None:
        super().__init__(can_focus=False, **options)
        self._fills = fills
        self.border_title = Content(title)
        self._lead = Static(Content.styled(title, "bold"), markup=False, classes="lead")
        self._text = Static("", markup=False, classes="text")

    def compose(self) -> ComposeResult:
        yield self._lead
        yield self._text

    def on_resize(self) -> None:
        """Room for most texts, as far as there is any."""
        if self._fills:
            self._text.styles.min_height = min(_LINES, max(0, self.size.height - 1))

    def show(self, text: Content) -> None:
        """Another text, from its beginning."""
        put(self._text, text, self.size.height if self._fills else 0)
        if self.scroll_offset.y:
            self.scroll_home(animate=False)


class PairView(Widget):
    """Shows nothing by which one could tell who answered."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._prompt = Scroll(id="prompt")
        self._answers = (Scroll(TITLES[0], fills=True, id="left-answer", classes="answer"),
                         Scroll(TITLES[1], fills=True, id="right-answer", classes="answer"))

    def compose(self) -> ComposeResult:
        yield self._prompt
        with Horizontal(id="answers"):
            yield from self._answers

    def show(self, turn: Turn) -> None:
        """Another pair."""
        samples = [as_sample(turn.pair, answer) for answer in in_order(turn.pair, turn.swapped)]
        self._prompt.show(Content(samples[0].prompt, strip_control_codes=False))
        for box, sample in zip(self._answers, samples, strict=True):
            end = ("" if sample.finished else "…", "$text-muted")
            nothing = ("(empty)", "$text-muted italic") if not sample.response.strip() else ("", "")
            box.show(Content.assemble(Content(sample.response, strip_control_codes=False), end, nothing))

    def clear(self, why: str) -> None:
        """No pair, and what is waited for."""
        self._prompt.show(Content.styled(clean_text(why), "$text-muted"))
        for box in self._answers:
            box.show(Content(""))

    def scroll_texts(self, lines: int) -> None:
        """Both responses, and a prompt that has no room."""
        for box in (self._prompt, *self._answers):
            box.scroll_relative(y=lines, animate=False)

    def scroll_pages(self, pages: int) -> None:
        """As far as one sees."""
        self.scroll_texts(pages * max(1, self._answers[0].size.height - 1))
