"""Samples: what the model wrote, newest first, with the words that earned or cost points marked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from textual import events
from textual.binding import Binding, BindingType
from textual.cache import LRUCache
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from rlhf_engine.errors import RunError
from rlhf_engine.events import Sample
from rlhf_tui.areas.samples.favourites import Favourites
from rlhf_tui.engine.sample_store import ORDERS, SampleStore, listed
from rlhf_tui.terminal.textual_private import resize_content
from rlhf_tui.widgets.figures import figure
from rlhf_tui.widgets.highlight import highlighted
from rlhf_tui.widgets.line import line_strip
from rlhf_tui.widgets.selecting import selected_text, with_selection

_DRAWN = 200  # lines that are kept drawn


class Columns(NamedTuple):
    """What the samples listed have, beside a step and a text."""

    score: bool = True
    kl: bool = True

    @property
    def heading(self) -> str:
        """The names of the columns."""
        return f" step {'  score ' if self.score else ''}{' log-ratio ' if self.kl else ''} response"


def sample_line(
    sample: Sample, width: int, *, favourite: bool = False, run: str = "", inspects: bool = False,
    columns: Columns = Columns(),
) -> Content:
    """A sample as one line of `width` cells, with * behind the step of a favourite, i behind one whose tokens can be
    inspected, and its run where that is to be told. A newline shows as ↵, which keeps the spans' offsets."""
    score = sample.score
    score_style = "" if not score else "$text-success" if score > 0 else "$text-error" if score < 0 else ""
    scored = "" if score is None else figure(score, "+6.2f")
    ratio = "" if sample.kl is None else figure(sample.kl, "9.1f")
    response = highlighted(sample.response.replace("\n", "↵"), sample.spans)
    line = Content.assemble(
        (f"{sample.step:5}", "$text-muted"), ("*" if favourite else " ", "$accent bold"),
        ("i" if inspects else " ", "$accent"), (f"{scored:>6} " if columns.score else "", score_style),
        f" {ratio:>9} " if columns.kl else "", " ",
        (f"{run}: " if run else "", "$text-muted"), response,
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
        Binding("o", "order", "Order", tooltip="Newest, highest or lowest score, or highest log-ratio first",
                id="samples.order"),
        Binding("asterisk", "favourite", "Favourite", tooltip="Mark this sample as a favourite, or unmark it",
                id="samples.favourite"),
        Binding("v", "favourites", "Favourites", tooltip="List the favourites of all runs, or this run again",
                id="samples.favourites"),
    ]

    @dataclass
    class Opened(Message):
        """Enter on a sample."""

        sample: Sample

    @dataclass
    class Copied(Message):
        """`y` on a sample."""

        sample: Sample

    @dataclass
    class Said(Message):
        """What a key just did, for the alarm line."""

        text: str
        level: str = "info"

    class Changed(Message):
        """The number shown, waiting or filtered has changed."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self.held = False
        self.words = ""
        self.run = ""
        self.order = next(iter(ORDERS))
        self.only_favourites = False
        self.columns = Columns()
        self._favourites = Favourites()
        self._store = SampleStore()
        self._shown: list[Sample] = []
        self._drawn: LRUCache[tuple[object, ...], tuple[Sample, Strip]] = LRUCache(_DRAWN)
        """Lines as they were drawn: each step moves most of them by a few. The sample is kept for its `id` to count."""
        self._differ = False
        """Some of the samples listed have their tokens, and others do not."""

    @property
    def shown(self) -> list[Sample]:
        """The samples listed, in their order."""
        return self._shown

    @property
    def waiting(self) -> int:
        """Samples that came while the list holds still."""
        return len(self._store.waiting)

    @property
    def selected(self) -> Sample | None:
        """The sample under the cursor."""
        return self._shown[self.cursor] if self.cursor < len(self._shown) else None

    def newest(self) -> list[Sample]:
        """All samples of the run that are kept, newest first, whether or not they are listed."""
        return [*self._store.waiting, *self._store.taken]

    def add(self, samples: Iterable[Sample]) -> None:
        """Take in samples, oldest first; their texts are clean."""
        if not (samples := list(samples)):
            return
        self._store.add(samples)
        if not self.held and self.cursor == 0:
            self._take_waiting()
        self.post_message(self.Changed())

    def cut(self, step: int) -> None:
        """Forget the samples of steps after `step`."""
        self._store.cut(step)
        self.cursor = 0
        self._filter()

    def clear(self) -> None:
        """Forget all samples."""
        self._store.clear()
        self.held, self.cursor = False, 0
        self._filter()

    def filter(self, words: str) -> None:
        """Show only samples whose prompt or response holds all `words`, in any case."""
        self.words = words
        self.cursor = 0
        self._filter()

    def _take_waiting(self) -> None:
        self._store.take_waiting()
        self._filter()

    def _filter(self) -> None:
        there = [known.sample for known in self._favourites.all] if self.only_favourites else self._store.taken
        self._shown = listed(there, self.words, self.order)
        self._differ = len({sample.trace is None for sample in self._shown}) == 2
        self.columns = Columns(any(sample.score is not None for sample in self._shown),
                               any(sample.kl is not None for sample in self._shown)) if self._shown else Columns()
        self.cursor = max(0, min(self.cursor, len(self._shown) - 1))
        self._resize_content()
        self.post_message(self.Changed())

    def _resize_content(self) -> None:
        resize_content(self, Size(self.scrollable_content_region.width, max(1, len(self._shown))))

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

    def action_order(self) -> None:
        """The next order, from its top."""
        names = list(ORDERS)
        self.order = names[(names.index(self.order) + 1) % len(names)]
        self._filter()
        self._go(0)

    def action_favourite(self) -> None:
        """Mark the sample under the cursor, or take its mark off."""
        if self.selected is None:
            return
        try:
            said = self._favourites.toggle(self._run_of(self.selected), self.selected)
        except RunError as error:
            self.post_message(self.Said(str(error), "warning"))
            return
        self.post_message(self.Said(said))
        if self.only_favourites:
            self._filter()
        self.refresh()

    def action_favourites(self) -> None:
        """The favourites, or all again."""
        self.only_favourites = not self.only_favourites
        self.cursor = 0
        self._filter()
        self._go(0)

    def _run_of(self, sample: Sample) -> str:
        if self.only_favourites:
            return next(known.run for known in self._favourites.all if known.sample is sample)
        return self.run

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to a line; on the cursor's own line, open it."""
        if self.text_selection is not None:
            return  # the end of a drag that selects text
        line = event.y + self.scroll_offset.y
        if line == self.cursor:
            self.action_open()
        else:
            self._go(line)

    def _go(self, line: int) -> None:
        self.cursor = max(0, min(line, len(self._shown) - 1))
        if self.cursor == 0 and not self.held and self.waiting:
            self._take_waiting()
        self.scroll_to_region(Region(0, self.cursor, self.size.width, 1), animate=False, force=True)
        self.refresh()
        self.post_message(self.Changed())

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        return with_selection(self, self._line(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, len(self._shown), lambda line: self._line(line).text)

    def _line(self, line: int) -> Strip:
        width, style = self.scrollable_content_region.width, self.visual_style
        if line >= len(self._shown):
            text = self._empty_text() if line == 0 else ""
            style += self.get_visual_style("samples--empty")
            return line_strip(self, Content(text).truncate(width, ellipsis=True, pad=True), style)
        if line == self.cursor:
            style += self.get_visual_style("samples--cursor")
        sample = self._shown[line]
        run = self._run_of(sample) if self.only_favourites else ""
        marked = bool(run) or self._favourites.holds(self.run, sample)
        inspects = self._differ and sample.trace is not None
        look = (id(sample), width, marked, run, inspects, self.columns, style, self.app.theme)
        drawn = self._drawn.get(look)
        if drawn is None:
            content = sample_line(sample, width, favourite=marked, run=run, inspects=inspects, columns=self.columns)
            drawn = self._drawn[look] = (sample, line_strip(self, content, style))
        return drawn[1]

    def _empty_text(self) -> str:
        if self.only_favourites and not self._favourites.all:
            return " no favourites yet: * marks a sample; v lists all samples again"
        if self.words and (self.only_favourites or self._store.taken):
            return " no sample holds these words; Esc clears the filter"
        return " samples of each step appear here"
