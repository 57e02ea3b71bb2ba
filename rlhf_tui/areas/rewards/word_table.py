"""The word lists with a line per word: how often the reference says it, how often the tuned model, and since when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.widgets import Static

from rlhf_tui.areas.rewards.word_editor import NO_LISTS, SIDES, WordEditor
from rlhf_tui.areas.rewards.word_rates import Rates
from rlhf_tui.areas.rewards.word_rows import ORDERS, WordRow, columns, rows_of, word_line
from rlhf_tui.widgets.line import line_strip
from rlhf_tui.widgets.selecting import selected_text, with_selection
from rlhf_tui.widgets.word_entries import words_text


class WordLines(ScrollView):
    """Lines drawn only where they are seen: a pasted list may have thousands."""

    DEFAULT_CSS = "WordLines { scrollbar-size-vertical: 1; overflow-x: hidden; }"

    def __init__(self, line: Callable[[int, int], Content], **options: Any) -> None:
        super().__init__(**options)
        self.can_focus = False
        self._line, self._count = line, 0

    def show(self, count: int) -> None:
        """Draw anew, with `count` lines."""
        self._count = count
        self.virtual_size = Size(self.scrollable_content_region.width, max(1, count))
        self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        self.show(self._count)

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y
        return with_selection(self, self._strip(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, self._count, lambda line: self._strip(line).text)

    def _strip(self, at: int) -> Strip:
        width = self.scrollable_content_region.width
        content = self._line(at, width) if at < self._count else Content("")
        content = content.truncate(max(1, width), ellipsis=True, pad=True)
        return line_strip(self, content, self.visual_style)


class WordTable(WordEditor):
    """↑ ↓ go through the words of both lists. Posts `Turned` when it shows the lists of another reward."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
        Binding("x,delete", "remove", "Remove word", tooltip="Take the word under the cursor off its list",
                id="words.remove"),
        Binding("o", "order", "Order of words", tooltip="As written, A to Z, most said, most gained; the lists stay",
                id="words.order"),
        Binding("s", "sort", "Sort list", tooltip="Write the list under the cursor in the order shown; else A to Z",
                id="words.sort"),
    ]
    DEFAULT_CSS = """
    WordTable #columns { height: 1; }
    WordTable.-editing #columns { display: none; }
    """
    typing_hint = "commas, semicolons or lines between entries; without them, spaces · a phrase alone: polar bear,"
    hint = "Enter edits the list · x removes a word · o order · s sorts"

    class Turned(Message):
        """The lists of another reward are shown."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.rates = Rates()
        self._order = ORDERS[0]
        self._rows: list[WordRow] = []
        self._mute: dict[str, set[str]] = {}
        self._cursor = 0

    # --- what the screen calls ---

    def show_rates(self, rates: Rates) -> None:
        """Show what was counted."""
        if rates != self.rates:
            self.rates = rates
            self.redraw()

    def choose_reward(self, index: int) -> None:
        before = self.reward
        super().choose_reward(index)
        if self.reward is not before:
            self._cursor = 0
            self.post_message(self.Turned())

    # --- drawing ---

    def compose_lists(self) -> ComposeResult:
        yield Static(id="columns", markup=False)
        yield WordLines(self._line, id="words-shown")

    def draw_lists(self) -> None:
        under = self._rows[self._cursor] if self._cursor < len(self._rows) else None
        self._rows = [row for side in SIDES for row in rows_of(side, self.words(side), self._order, self.rates)]
        if self.reward is None:
            self._rows = []
        if under in self._rows:
            # the order moved: the cursor stays on its word
            self._cursor = self._rows.index(under)
        self._cursor = max(0, min(self._cursor, len(self._rows) - 1))
        if under is not None and self._rows and self._rows[self._cursor].side != under.side:
            # the last word of a list is gone: the cursor stays with the list
            self._cursor = max(0, self._cursor - 1)
        if self._rows and not self.editing:
            self.side = self._rows[self._cursor].side
        self._mute = {side: self.mute(side) for side in SIDES}
        top = [*self.which(), columns(self._order, max(1, self.size.width - 1))]
        self.query_one("#columns", Static).update(Content("\n").join(top))
        self.query_one("#columns").styles.height = len(top)
        self.query_one("#words-shown", WordLines).show(max(1, len(self._rows)))

    def _line(self, at: int, width: int) -> Content:
        if not self._rows:
            return Content.styled(NO_LISTS, "$text-muted")
        row = self._rows[at]
        here = at == self._cursor and self.has_focus
        if row.at < 0:
            line = self.head(row.side, self.words(row.side), here)
        else:
            line = word_line(row, self.rates, row.word in self._mute[row.side], width)
        return line.stylize("$block-cursor-foreground on $block-cursor-background") if here else line

    # --- moving ---

    def action_move(self, by: int) -> None:
        """Move the cursor by some lines."""
        self._go(self._cursor + by)

    def _go(self, line: int) -> None:
        self._cursor = max(0, min(line, len(self._rows) - 1))
        self.redraw()
        first = 0 if self._cursor <= 1 else self._cursor
        region = Region(0, first, 1, self._cursor - first + 1)
        self.query_one("#words-shown").scroll_to_region(region, animate=False, force=True)

    def on_click(self, event: events.Click) -> None:
        shown = self.query_one("#words-shown", WordLines)
        offset = event.get_content_offset(shown)
        if offset is None or self.editing or self.screen.selections:
            return
        line = offset.y + shown.scroll_offset.y
        if line == self._cursor and self.has_focus:
            self.action_edit()
        elif line < len(self._rows):
            self._go(line)

    # --- the words ---

    def action_remove(self) -> None:
        """Take the word under the cursor off its list."""
        if not self._rows or self._rows[self._cursor].at < 0:
            return
        row = self._rows[self._cursor]
        words = self.words(row.side)
        self._write(row.side, words[: row.at] + words[row.at + 1 :])

    def action_order(self) -> None:
        """Another order of the lines; the lists stay as they are."""
        self._order = ORDERS[(ORDERS.index(self._order) + 1) % len(ORDERS)]
        self.redraw()

    def action_sort(self) -> None:
        """Write the list under the cursor in the order shown, or A to Z where that is the order it has."""
        if self.reward is not None:
            order = self._order if self._order != ORDERS[0] else ORDERS[1]
            rows = rows_of(self.side, self.words(self.side), order, self.rates)
            self._write(self.side, [row.word for row in rows if row.at >= 0])

    def _write(self, side: str, words: list[str]) -> None:
        self.write(side, words, words_text(words))
        self.redraw()
