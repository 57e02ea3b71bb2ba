"""Samples: what the model wrote, newest first, with the words that earned or cost points marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual
from textual.widgets import Input

from rlhf_engine.events import Sample
from rlhf_tui.widgets.answer_history import ProbeLog
from rlhf_tui.widgets.highlight import highlighted

KEPT_SAMPLES = 2000
HEADING = " step   score     KL  response"
_PREFIX = len(" step   score     KL  ")


def sample_line(sample: Sample, width: int) -> Content:
    """A sample as one line of `width` cells. A newline shows as ↵, which keeps the spans' offsets."""
    score_style = "$text-success" if sample.score > 0 else "$text-error" if sample.score < 0 else ""
    response = highlighted(sample.response.replace("\n", "↵"), sample.spans)
    line = Content.assemble(
        (f"{sample.step:5} ", "$text-muted"), (f" {sample.score:+6.2f} ", score_style), f" {sample.kl:5.1f}  ", response
    )
    return line.truncate(width, ellipsis=True, pad=True)


class SampleList(ScrollView, can_focus=True):
    """The lines, drawn only where they are seen. Follows the newest while the cursor is on top; else it holds still."""

    DEFAULT_CSS = """
    SampleList { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    SampleList > .samples--cursor { background: $block-cursor-blurred-background; }
    SampleList:focus > .samples--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    SampleList > .samples--empty { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"samples--cursor", "samples--empty"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "newest", "Newest", tooltip="Go to the newest sample and follow", show=False),
        Binding("end", "move(1000000)", "Oldest", show=False),
        Binding("f", "freeze", "Follow", tooltip="Hold the list still, or follow the newest", id="samples.follow"),
        Binding("enter", "open", "Open", tooltip="The whole text and its score", id="samples.open"),
        Binding("y", "copy", "Copy", tooltip="Copy the response to the clipboard", id="samples.copy"),
    ]

    @dataclass
    class Opened(Message):
        """Enter on a sample."""

        sample: Sample

    @dataclass
    class Copied(Message):
        """`y` on a sample."""

        sample: Sample

    class Changed(Message):
        """The number shown, waiting or filtered has changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self.held = False
        self.words = ""
        self._all: list[Sample] = []
        self._waiting: list[Sample] = []
        self._shown: list[Sample] = []

    @property
    def shown(self) -> list[Sample]:
        """The samples listed, newest first."""
        return self._shown

    @property
    def waiting(self) -> int:
        """Samples that came while the list holds still."""
        return len(self._waiting)

    @property
    def selected(self) -> Sample | None:
        """The sample under the cursor."""
        return self._shown[self.cursor] if self.cursor < len(self._shown) else None

    def newest(self, count: int = KEPT_SAMPLES) -> list[Sample]:
        """Samples as they came, newest first, whether or not they are listed."""
        return [*self._waiting, *self._all][:count]

    def add(self, samples: Iterable[Sample]) -> None:
        """Take in samples, oldest first; their texts are clean."""
        self._waiting = [*reversed(list(samples)), *self._waiting][:KEPT_SAMPLES]
        if not self.held and self.cursor == 0:
            self._take_waiting()
        self.post_message(self.Changed())

    def cut(self, step: int) -> None:
        """Forget the samples of steps after `step`."""
        self._all, self._waiting = ([sample for sample in kept if sample.step <= step]
                                    for kept in (self._all, self._waiting))
        self.cursor = 0
        self._filter()

    def clear(self) -> None:
        """Forget all samples."""
        self._all, self._waiting, self.held, self.cursor = [], [], False, 0
        self._filter()

    def filter(self, words: str) -> None:
        """Show only samples whose prompt or response holds all `words`, in any case."""
        self.words = words
        self.cursor = 0
        self._filter()

    def _take_waiting(self) -> None:
        self._all = [*self._waiting, *self._all][:KEPT_SAMPLES]
        self._waiting = []
        self._filter()

    def _filter(self) -> None:
        words = self.words.lower().split()
        self._shown = [s for s in self._all if all(word in f"{s.prompt} {s.response}".lower() for word in words)]
        self.cursor = max(0, min(self.cursor, len(self._shown) - 1))
        self._resize_content()
        self.post_message(self.Changed())

    def _resize_content(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, max(1, len(self._shown)))
        self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        self._resize_content()

    # --- keys ---

    def action_move(self, by: int) -> None:
        """Move the cursor; off the top the list holds still."""
        self._go(self.cursor + by)

    def action_page(self, direction: int) -> None:
        """Move by what is visible."""
        self._go(self.cursor + direction * max(1, self.size.height - 1))

    def action_newest(self) -> None:
        """Back to the top, following."""
        self.held = False
        self._go(0)

    def action_freeze(self) -> None:
        """Hold still, or follow the newest."""
        self.held = not (self.held or self.cursor > 0)
        if not self.held:
            self._go(0)
        self.post_message(self.Changed())

    def action_open(self) -> None:
        """Show the sample under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected))

    def action_copy(self) -> None:
        """Copy the sample under the cursor."""
        if self.selected is not None:
            self.post_message(self.Copied(self.selected))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a line; on the cursor's own line, open it."""
        line = event.y + self.scroll_offset.y
        if line == self.cursor:
            self.action_open()
        else:
            self._go(line)

    def _go(self, line: int) -> None:
        self.cursor = max(0, min(line, len(self._shown) - 1))
        if self.cursor == 0 and not self.held and self._waiting:
            self._take_waiting()
        self.scroll_to_region(Region(0, self.cursor, self.size.width, 1), animate=False, force=True)
        self.refresh()
        self.post_message(self.Changed())

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        width, line = self.scrollable_content_region.width, y + self.scroll_offset.y
        style = self.visual_style
        if line >= len(self._shown):
            text = self._empty_text() if y == 0 and not self._shown else ""
            style += self.get_visual_style("samples--empty")
            return self._strip(Content(text).truncate(width, ellipsis=True, pad=True), style)
        if line == self.cursor:
            style += self.get_visual_style("samples--cursor")
        return self._strip(sample_line(self._shown[line], width), style)

    def _empty_text(self) -> str:
        if self.words and self._all:
            return " no sample holds these words; Esc clears the filter"
        return " samples of each step appear here"

    def _strip(self, content: Content, style: Style) -> Strip:
        strips = Visual.to_strips(self, content, content.cell_length, 1, style)
        return strips[0].adjust_cell_length(self.size.width, style.rich_style)


class SamplesPane(Vertical):
    """The list, its heading and its filter field."""

    DEFAULT_CSS = """
    SamplesPane .heading { height: 1; color: $text-muted; }
    SamplesPane Input { display: none; height: 1; border: none; padding: 0 1; background: $surface; }
    SamplesPane Input.-open { display: block; }
    SamplesPane.-short .heading { display: none; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.run = ""
        self.probes = ProbeLog()
        self.samples = SampleList(id="sample-list")
        self.field = Input(placeholder="words to look for", id="sample-filter", compact=True)
        self.field.cursor_blink = False

    def compose(self) -> ComposeResult:
        heading = Heading(classes="heading")
        yield heading
        yield self.samples
        yield self.field

    def clear(self, run: str) -> None:
        """Begin with the samples of another run."""
        self.run = run
        self.samples.clear()
        self.probes.clear()

    def cut(self, step: int) -> None:
        """Forget what came after `step`."""
        self.samples.cut(step)
        self.probes.cut(step)

    def open_filter(self) -> None:
        """Let the user type words."""
        self.field.add_class("-open")
        # at once: `focus()` waits for the next message, and a letter typed until then would be a key of the list
        self.screen.set_focus(self.field)

    def close_filter(self) -> None:
        """Esc: show all again."""
        self.field.value = ""
        self.field.remove_class("-open")
        self.samples.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.samples.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value.strip():
            self.close_filter()
        self.samples.focus()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and (self.field.has_focus or self.samples.words):
            event.stop()
            self.close_filter()

    def on_sample_list_changed(self) -> None:
        shown = self.samples
        facts = [f"{len(shown.shown)} samples" if shown.shown else "", f"“{shown.words}”" if shown.words else ""]
        if shown.held or shown.cursor > 0:
            facts.append(f"held · {shown.waiting} newer · f follows" if shown.waiting else "held · f follows")
        self.border_subtitle = Content(" · ".join(filter(None, facts)))


class Heading(Vertical):
    """Names of the columns."""

    DEFAULT_CSS = "Heading { height: 1; }"

    def render(self) -> Content:
        return Content(HEADING).truncate(self.size.width)
