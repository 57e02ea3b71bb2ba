"""One model's answer to a prompt: the text as it comes, and at the end what it earned and how far it strayed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.events import GenerationFinished, Sample, Span
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.highlight import highlighted


def continued(prompt: str, response: str, spans: tuple[Span, ...] = ()) -> Content:
    """The prompt in a quiet colour and the response behind it, its words marked. Both are clean already."""
    return Content.assemble((prompt, "$text-muted"), highlighted(response, spans))


def score_line(score: float, parts: Mapping[str, float]) -> Content:
    """The score and the parts that make it, those that are nothing left out."""
    style = "$text-success" if score > 0 else "$text-error" if score < 0 else ""
    line = Content.assemble("score ", (signed(score), f"{style} bold"))
    made_of = [f"{name} {signed(value)}" for name, value in parts.items() if value]
    return line.append_text("  = " + ", ".join(made_of), "$text-muted") if made_of else line


def signed(value: float) -> str:
    """A number with its sign and two places; infinities and NaN by name."""
    return figure(value, "+.2f") if math.isfinite(value) else str(value)


class Answer(VerticalScroll):
    """A box with a title, the text, and a foot of facts."""

    DEFAULT_CSS = """
    Answer {
        width: 1fr; height: 1fr; min-height: 5; padding: 0 1;
        border: round $border-blurred; border-title-color: $text-muted; scrollbar-size-vertical: 1;
    }
    Answer:focus { border: heavy $border; border-title-color: $primary; }
    Answer > Static { height: auto; }
    Answer > .facts { margin-top: 1; }
    """

    def __init__(self, title: str, **options: Any) -> None:
        super().__init__(**options)
        self.border_title = Content(title)
        self._lead = Static("", markup=False)
        self._lead.display = False
        self._text = Static("", markup=False)
        self._facts = Static("", markup=False, classes="facts")

    def compose(self) -> ComposeResult:
        yield self._lead
        yield self._text
        yield self._facts

    def lead(self, title: str) -> None:
        """A title inside of the box, for where it has no border."""
        self._lead.display = True
        self._lead.update(Content.styled(title, "bold"))

    def wait(self, prompt: str) -> None:
        """Only the prompt so far."""
        self._text.update(continued(prompt, ""))
        self.fact("")

    def stream(self, prompt: str, text: str) -> None:
        """The text so far."""
        self._text.update(Content.assemble(continued(prompt, text), ("▌", "$text-muted")))

    def finish(self, prompt: str, event: GenerationFinished) -> None:
        """The whole text with its marks, and what is known about it."""
        self._text.update(continued(prompt, event.text, event.spans))
        if event.error:
            self.fact(f"✗ {event.error}", "$text-error")
        else:
            self._known(event.score, event.parts, event.kl, event.tokens, event.no_scores)

    def show_sample(self, sample: Sample, no_scores: str = "") -> None:
        """A sample that is already scored, or why it is not."""
        self._text.update(continued(sample.prompt, sample.response, sample.spans))
        self._known(sample.score, sample.parts, sample.kl, sample.tokens, no_scores)

    def fact(self, text: str, style: str = "$text-muted") -> None:
        """A sentence at the foot."""
        self._facts.update(Content.styled(text, style))

    def _known(
        self, score: float | None, parts: Mapping[str, float], kl: float | None, tokens: int, no_scores: str
    ) -> None:
        ratio = "" if kl is None else f"log-ratio {figure(kl, '.2f')} nats · "
        lines = [Content.styled(f"{ratio}{tokens} tokens", "$text-muted")]
        if no_scores:
            lines.insert(0, Content.styled(no_scores, "$text-warning"))
        elif score is not None:
            lines.insert(0, score_line(score, parts))
        self._facts.update(Content("\n").join(lines))
