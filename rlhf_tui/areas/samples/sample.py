"""One sample, whole: the prompt dimmed, the response with its words marked, and what its score is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.events import Sample
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.answer import continued
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.screen import BaseDialog


def score_parts(sample: Sample) -> Content:
    """The parts of the score, signed, one a line, and their sum; nothing of what has no score."""
    if sample.score is None:
        return Content("")
    width = max((len(name) for name in [*sample.parts, "score"]), default=0)
    lines = [Content(f"{name:<{width}}  {figure(value, '+8.2f')}") for name, value in sample.parts.items()]
    lines.append(Content.styled(f"{'score':<{width}}  {figure(sample.score, '+8.2f')}", "bold"))
    return Content("\n").join(lines)


def sample_facts(sample: Sample) -> str:
    """Log-ratio, length, and how the response ended."""
    ending = "ended (EOS)" if sample.finished else "truncated (no EOS)"
    ratio = "" if sample.kl is None else f"log-ratio {figure(sample.kl, '.2f')} nats · "
    return f"{ratio}{sample.tokens} tokens · {ending}"


class SampleScreen(BaseDialog[None]):
    """Reads; nothing can be changed here."""

    DEFAULT_CSS = """
    SampleScreen { align: center middle; background: $background 60%; }
    SampleScreen > VerticalScroll {
        width: 90%; max-width: 100; height: auto; max-height: 90%;
        border: round $border; background: $surface; padding: 1 2; scrollbar-size-vertical: 1;
    }
    SampleScreen Static { height: auto; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,enter,q", "dismiss", "Close", id="sample.close"),
        Binding("y", "copy", "Copy", tooltip="Copy the response", id="sample.copy"),
        Binding("i", "inspect", "Inspect", tooltip="Token by token: how the update changes each", id="sample.inspect"),
    ]

    @dataclass
    class InspectAsked(Message):
        """The same sample is to be seen token by token, in the place of this screen."""

        sample: Sample

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self._sample = sample

    def compose(self) -> ComposeResult:
        sample = self._sample
        end = "" if sample.finished else ("…", "$text-muted")
        with VerticalScroll() as box:
            box.border_title = Content(f"Sample of step {sample.step}")
            box.border_subtitle = Content("i inspect · y copy · Esc close")
            yield Static(Content.assemble(continued(sample.prompt, sample.response, sample.spans), end))
            if sample.score is not None:
                yield Static(score_parts(sample))
            yield Static(Content.styled(sample_facts(sample), "$text-muted"))

    def action_inspect(self) -> None:
        """The same sample token by token."""
        self.post_message(self.InspectAsked(self._sample))

    def action_copy(self) -> None:
        """Copy the response."""
        said = copy(self.app, self._sample.response)
        self.query_one(VerticalScroll).border_subtitle = Content(said)
