"""The pair that was judged last, with what was hidden: the guess, the words that moved it, scores, and who answered."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_engine.events import Sample
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import Answer
from rlhf_tui.areas.label.pair_view import as_sample, in_order
from rlhf_tui.areas.label.sitting import said_of
from rlhf_tui.areas.label.told import WORDS, guess_text, origin_text
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.answer import score_line
from rlhf_tui.widgets.highlight import highlighted
from rlhf_tui.widgets.screen import BaseDialog


class LastPairScreen(BaseDialog[bool]):
    """Dismisses with True where the pair is to be judged anew."""

    DEFAULT_CSS = """
    LastPairScreen { align: center middle; background: $background 60%; }
    LastPairScreen > VerticalScroll {
        width: 94%; max-width: 130; height: auto; max-height: 90%;
        border: round $border; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    LastPairScreen Static { height: auto; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,v,enter,q", "dismiss", "Close", id="last.close"),
        Binding("u", "dismiss(True)", "Undo", tooltip="Judge this pair anew", id="last.undo"),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, judgement: Judgement) -> None:
        super().__init__()
        self._judgement = judgement

    def compose(self) -> ComposeResult:
        judgement = self._judgement
        answers = in_order(judgement.pair, judgement.swapped)
        samples = [as_sample(judgement.pair, answer) for answer in answers]
        with VerticalScroll() as box:
            box.border_title = Content("The pair before")
            box.border_subtitle = Content("u judges it anew · Esc close")
            yield Static(Content.assemble((WORDS[said_of(judgement)], "bold"), " · ", guess_text(judgement)))
            if judgement.note:
                yield Static(Content.assemble(("note: ", "$text-muted"), clean_line(judgement.note)))
            yield Static(Content.styled(samples[0].prompt, "$text-muted"))
            for title, answer, sample in zip(("left", "right"), answers, samples, strict=True):
                yield Static(_answer(title, answer, sample))


def _answer(title: str, answer: Answer, sample: Sample) -> Content:
    lines = [Content.assemble((title, "bold"), (f"  {origin_text(answer.origin)}", "$text-muted")),
             Content.assemble(highlighted(sample.response, sample.spans), ("" if sample.finished else "…",
                                                                           "$text-muted"))]
    if sample.score is not None:
        lines.append(score_line(sample.score, sample.parts))
    return Content("\n").join(lines)
