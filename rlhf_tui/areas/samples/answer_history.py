"""The answers to one prompt, step after step, with what is new in each of them marked."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual

from rlhf_engine.events import Sample
from rlhf_tui.areas.samples.word_diff import Change, change
from rlhf_tui.widgets.answer import signed
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.highlight import highlighted
from rlhf_tui.widgets.selecting import selected_text, with_selection

KEPT_ANSWERS = 500
_NONE_YET = " no answers yet: the first comes when the run begins (probe.every)"
NEW = "bold on $primary 30%"
NEW_ANSI = "bold on ansi_blue"  # the terminal's own colours cannot be mixed, and white on its cyan is hard to read


class ProbeLog:
    """The answers of a run by step: the reference's and the newest KEPT_ANSWERS."""

    def __init__(self) -> None:
        self._by_step: dict[int, Sample] = {}

    @property
    def answers(self) -> list[Sample]:
        """In the order of their steps."""
        return [self._by_step[step] for step in sorted(self._by_step)]

    def add(self, sample: Sample) -> None:
        """Take in an answer; of one step the later counts."""
        self._by_step[sample.step] = sample
        if len(self._by_step) > KEPT_ANSWERS + 1:
            del self._by_step[min(step for step in self._by_step if step)]

    def cut(self, step: int) -> None:
        """Forget the answers of steps after `step`."""
        self._by_step = {at: sample for at, sample in self._by_step.items() if at <= step}

    def clear(self) -> None:
        """Forget all."""
        self._by_step = {}


@dataclass(frozen=True)
class _Block:
    """An answer as drawn: which, against which, and its lines."""

    sample: Sample
    against: Sample | None
    lines: list[Strip]


def heading(sample: Sample, found: Change | None) -> Content:
    """Step, score and log-ratio where there are any, and how much changed."""
    who = "reference" if sample.step == 0 else f"step {sample.step}"
    parts = [Content.styled(f"{who:<10}", "bold")]
    if sample.score is not None:
        style = "$text-success" if sample.score > 0 else "$text-error" if sample.score < 0 else ""
        parts.append(Content.assemble(" score ", (f"{signed(sample.score):>7}", style)))
    parts.append(Content("  " if sample.kl is None else f"  log-ratio {figure(sample.kl, '5.2f')}  "))
    if found is not None:
        changed = f"{found.added} of {found.words} words new, {found.dropped} gone"
        parts.append(Content.styled(changed if found.added or found.dropped else "unchanged", "$text-muted"))
    return Content("").join(parts)


def body(sample: Sample, found: Change | None, new: str = NEW) -> Content:
    """The answer with its liked and disliked words, and its new words marked in the style `new`."""
    text = highlighted(sample.response, sample.spans)
    for start, end in found.new if found else ():
        text = text.stylize(new, start, end)
    return text if sample.finished else text.append_text("…", "$text-muted")


class AnswerHistory(ScrollView, can_focus=True):
    """Newest last. ↑ ↓ go from answer to answer; it stays with the newest while the cursor is there."""

    DEFAULT_CSS = """
    AnswerHistory { scrollbar-size-vertical: 1; overflow-x: hidden; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Answer before", show=False),
        Binding("down", "move(1)", "Next answer", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First answer", show=False),
        Binding("end", "move(1000000)", "Newest answer", show=False),
    ]

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self.against_reference = False
        self._answers: list[Sample] = []
        self._blocks: list[_Block] = []
        self._tops: list[int] = [0]
        self._width = 0

    @property
    def selected(self) -> Sample | None:
        """The answer under the cursor."""
        return self._answers[self.cursor] if self.cursor < len(self._answers) else None

    def load(self, answers: list[Sample]) -> None:
        """Show these, in the order of their steps; the cursor stays on its step, or with the newest."""
        at_end, step = self.cursor >= len(self._answers) - 1, self.selected.step if self.selected else 0
        self._answers = answers
        earlier = [index for index, sample in enumerate(answers) if sample.step <= step]
        self.cursor = max(0, len(answers) - 1 if at_end or not earlier else earlier[-1])
        self._draw_blocks()
        self._show_cursor()

    def measure_against(self, reference: bool) -> None:
        """Mark what is new since the reference, or since the answer before."""
        self.against_reference = reference
        self._draw_blocks()
        self._show_cursor()

    def on_resize(self, _: events.Resize) -> None:
        self._draw_blocks()
        self._show_cursor()

    # --- keys ---

    def action_move(self, by: int) -> None:
        """To an answer before or after."""
        self.cursor = max(0, min(self.cursor + by, len(self._answers) - 1))
        self._show_cursor()

    def action_page(self, direction: int) -> None:
        """By what is visible."""
        line = self._tops[self.cursor] + direction * max(1, self.size.height - 1)
        before = self.cursor
        self.cursor = max(0, min(bisect_right(self._tops, line) - 1, len(self._answers) - 1))
        if self.cursor == before:
            self.action_move(direction)
        self._show_cursor()

    def on_click(self, event: events.Click) -> None:
        """The answer under the mouse."""
        place = event.get_content_offset(self)
        if place is not None and self._answers:
            line = place.y + self.scroll_offset.y
            self.action_move(min(bisect_right(self._tops, line) - 1, len(self._answers) - 1) - self.cursor)

    # --- drawing ---

    def _draw_blocks(self) -> None:
        """Wrap what has not been wrapped yet at this width."""
        if not self.is_attached:  # asked for later, and the screen was left in between
            return
        width = self.content_region.width - 3  # the cursor's margin, and a scroll bar even while there is none
        known: dict[tuple[int, int], _Block] = {}
        if width == self._width:  # the old blocks hold their samples, so an id still means the same one
            known = {(id(block.sample), id(block.against)): block for block in self._blocks}
        self._width = width
        blocks = []
        for index, sample in enumerate(self._answers):
            against = None if not index else self._answers[0 if self.against_reference else index - 1]
            blocks.append(known.get((id(sample), id(against))) or self._block(sample, against))
        self._blocks = blocks
        self._tops = [0, *accumulate(len(block.lines) for block in blocks)]
        self.virtual_size = Size(width, max(1, self._tops[-1]))
        self.refresh()

    def _block(self, sample: Sample, against: Sample | None) -> _Block:
        found = change(against.response, sample.response) if against else None
        width = max(2, self._width)
        head = heading(sample, found).truncate(width, ellipsis=True, pad=True)
        answer = body(sample, found, NEW_ANSI if self.app.current_theme.ansi else NEW)
        text = Visual.to_strips(self, answer, width, None, self.visual_style, apply_selection=False)
        title = Visual.to_strips(self, head, width, 1, self.visual_style, apply_selection=False)
        return _Block(sample, against, [*title, *text])

    def notify_style_update(self) -> None:
        """Another theme: what was drawn has the old colours."""
        super().notify_style_update()
        self._blocks, self._width = [], 0
        if self.is_mounted:
            self.call_after_refresh(self._draw_blocks)

    def _show_cursor(self) -> None:
        if self._blocks:
            top = self._tops[self.cursor]
            height = min(self._tops[self.cursor + 1] - top, max(1, self.size.height))
            self.scroll_to_region(Region(0, top, max(1, self.size.width), height), animate=False, force=True)
        self.refresh()

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        return with_selection(self, self._strip(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """Headings and answers, each answer on one line."""
        def between(line: int) -> str:
            return "\n" if line in self._tops or line + 1 in self._tops else " "

        return selected_text(selection, self._tops[-1], lambda line: self._strip(line).text[2:], between)

    def _strip(self, line: int) -> Strip:
        style = self.visual_style
        index = bisect_right(self._tops, line) - 1
        if index >= len(self._blocks):
            text = _NONE_YET if line == 0 and not self._blocks else ""
            strips = Visual.to_strips(self, Content.styled(text, "$text-muted").truncate(max(1, self.size.width)),
                                      max(1, self.size.width), 1, style)
            return strips[0].adjust_cell_length(self.size.width, style.rich_style)
        mark = Content.styled("▌ " if index == self.cursor else "  ", "$primary")
        margin = Visual.to_strips(self, mark, 2, 1, style)
        drawn = Strip.join([margin[0], self._blocks[index].lines[line - self._tops[index]]])
        return drawn.adjust_cell_length(self.size.width, style.rich_style)
