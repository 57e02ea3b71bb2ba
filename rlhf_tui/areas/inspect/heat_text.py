"""A response with a colour behind each of its tokens, one of them marked; wrapped at words, drawn where it is seen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual

from rlhf_tui.widgets.selecting import selected_text, with_selection

Piece = tuple[int, str]
"""Part of a line: which token (−1: the prompt) and its text there."""


def wrap(pieces: Iterable[Piece], width: int) -> list[list[Piece]]:
    """Lines of at most `width` cells, broken behind spaces where there are any; a newline ends its line as ↵."""
    width = max(2, width)
    lines: list[list[Piece]] = []
    line: list[Piece] = []  # one character each
    used = breakable = 0
    for index, text in pieces:
        for character in text:
            shown = "↵" if character == "\n" else character
            cells, broken = _cells(shown), False
            while line and used + cells > width:  # twice where a wide character does not fit behind the rest either
                kept, line = (line[:breakable], line[breakable:]) if breakable > 0 else (line, [])
                lines.append(kept)
                breakable, used, broken = 0, sum(_cells(part) for _, part in line), True
            if character == " " and broken and not line:
                continue  # the end of the line stands for it
            line.append((index, shown))
            used += cells
            if character == " ":
                breakable = len(line)
            elif character == "\n":
                lines.append(line)
                line, used, breakable = [], 0, 0
    lines.append(line)
    return [[(index, "".join(part for _, part in group)) for index, group in groupby(line, key=lambda piece: piece[0])]
            for line in lines]


def _cells(character: str) -> int:
    """Cells that a character takes at most: the emoji selector widens the one before it."""
    return 1 if character == "\ufe0f" else cell_len(character)


class HeatText(ScrollView, can_focus=True):
    """← → go from token to token, ↑ ↓ from line to line; a click takes the token under the mouse."""

    DEFAULT_CSS = "HeatText { scrollbar-size-vertical: 1; overflow-x: hidden; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "Previous token", show=False),
        Binding("right", "step(1)", "Next token", show=False),
        Binding("up", "line(-1)", "Line above", show=False),
        Binding("down", "line(1)", "Line below", show=False),
        Binding("home", "step(-1000000)", "First token", show=False),
        Binding("end", "step(1000000)", "Last token", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """Another token is to be marked."""

        token: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._pieces: list[Piece] = []
        self._styles: Sequence[str] = ()
        self._lines: list[list[Piece]] = []
        self._rows: list[int] = []

    def load(self, prompt: str, texts: Sequence[str], *, choose: bool = True) -> None:
        """Show a prompt and the tokens of a response; their texts are clean, empty ones are not drawn.

        choose: one of them is marked; not so where the texts are no tokens.
        """
        self._pieces = [(-1, prompt), *enumerate(texts)]
        self._styles = [""] * len(texts)
        self.cursor = 0 if choose else -1
        self._wrap()
        self.refresh(layout=True)

    def paint(self, styles: Sequence[str]) -> None:
        """A style for each token."""
        self._styles = styles
        self.refresh()

    def mark(self, token: int) -> None:
        """Mark a token, and bring it into view."""
        self.cursor = token
        row = self._row(token)
        self.scroll_to_region(Region(0, row, self.size.width, 1), animate=False, force=True)
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as the text has at this width."""
        return len(wrap(self._pieces, width - 1))

    def on_resize(self, _: events.Resize) -> None:
        self._wrap()
        self.mark(self.cursor)

    def _wrap(self) -> None:
        width = self.content_region.width - 1  # a scroll bar that comes or goes must not break the lines anew
        if width < 1:  # not laid out yet: lines of two letters would be drawn first
            return
        self._lines = wrap(self._pieces, width)
        first: dict[int, int] = {}
        for row, line in enumerate(self._lines):
            for token, _ in line:
                first.setdefault(token, row)
        row = 0
        self._rows = [row := first.get(token, row) for token in range(len(self._styles))]
        self.virtual_size = Size(width, len(self._lines))
        self.refresh()

    def _row(self, token: int) -> int:
        return self._rows[token] if 0 <= token < len(self._rows) else 0

    # --- keys ---

    def action_step(self, by: int) -> None:
        """To a token before or after."""
        self._choose(self.cursor + by)

    def action_line(self, by: int) -> None:
        """To the first token that begins on another line."""
        row = self._row(self.cursor) + by
        later = bisect_right(self._rows, row - 1)
        self._choose(later if later < len(self._rows) else len(self._rows) - 1)

    def on_click(self, event: events.Click) -> None:
        """Take the token under the mouse."""
        place = event.get_content_offset(self)
        if place is None:
            return
        row, column = place.y + self.scroll_offset.y, place.x
        for token, text in self._lines[row] if row < len(self._lines) else ():
            column -= cell_len(text)
            if column < 0:
                if token >= 0:
                    self._choose(token)
                return

    def _choose(self, token: int) -> None:
        if self._styles and self.cursor >= 0:
            self.cursor = max(0, min(token, len(self._styles) - 1))  # at once: the next key may be here already
            self.post_message(self.Chosen(self.cursor))

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        row = y + self.scroll_offset.y
        return with_selection(self, self._strip(row), row)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The text as the model wrote it, not as it is broken into lines."""
        def written(row: int) -> str:
            return "".join(text for _, text in self._lines[row])

        found, end = selected_text(
            selection, len(self._lines), written, lambda row: " " if written(row).endswith(" ") else "")
        return found.replace("↵", "\n"), end

    def _strip(self, row: int) -> Strip:
        width = self.size.width
        line = self._lines[row] if row < len(self._lines) else []
        content = Content("").join([self._styled(*piece) for piece in line])
        style = self.visual_style
        strips = Visual.to_strips(self, content, max(1, width), 1, style, apply_selection=False)
        return strips[0].adjust_cell_length(width, style.rich_style)

    def _styled(self, token: int, text: str) -> Content:
        if token < 0:
            style = "$text-muted"
        elif token == self.cursor:
            style = "reverse bold"
        else:
            style = self._styles[token] if token < len(self._styles) else ""
        return Content(text, strip_control_codes=False).stylize(style)
