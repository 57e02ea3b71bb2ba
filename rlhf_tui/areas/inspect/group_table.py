"""The responses of a group, one line each: its score, what each method makes of it as a whole, and how it begins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip

from rlhf_engine.evaluation.credit import GroupCredit, MethodCredit
from rlhf_engine.token_trace import signed_number
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.line import line_strip
from rlhf_tui.widgets.selecting import selected_text, with_selection

_PLACE, _NUMBER, _TOKENS = 4, 8, 7


class GroupTable(ScrollView, can_focus=True):
    """↑ ↓ go from response to response."""

    DEFAULT_CSS = """
    GroupTable { scrollbar-size-vertical: 1; overflow-x: hidden; }
    GroupTable > .group--head { color: $text-muted; }
    GroupTable > .group--cursor { background: $block-cursor-blurred-background; }
    GroupTable:focus > .group--cursor { background: $block-cursor-background; color: $block-cursor-foreground; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"group--head", "group--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("home", "move(-1000000)", "First", show=False),
        Binding("end", "move(1000000)", "Last", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """Another response is to be shown."""

        row: int

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self._group: GroupCredit | None = None

    def load(self, group: GroupCredit) -> None:
        """Show another group."""
        self._group, self.cursor = group, 0
        self._resize_content()
        self.refresh(layout=True)
        self.scroll_home(animate=False)

    def mark(self, row: int) -> None:
        """Mark a response, and bring it into view; the heading covers the uppermost line."""
        self.cursor = row
        self.scroll_to_region(Region(0, row, self.size.width, 2), animate=False, force=True)
        self.refresh()

    @property
    def _count(self) -> int:
        return len(self._group.samples) if self._group else 0

    def _resize_content(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self._count + 1)
        self.refresh()

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """A line for each response, below the heading."""
        return self._count + 1

    def on_resize(self, _: events.Resize) -> None:
        self._resize_content()
        self.mark(self.cursor)

    def action_move(self, by: int) -> None:
        """To a response before or after; the ends hold."""
        if self._count:
            self.cursor = max(0, min(self.cursor + by, self._count - 1))  # at once: the next key may be here already
            self.post_message(self.Chosen(self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Take the response under the mouse."""
        place = event.get_content_offset(self)
        if place is not None and place.y > 0:
            self.action_move(place.y - 1 + self.scroll_offset.y - self.cursor)

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y if y else 0
        return with_selection(self, self._strip(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, self._count + 1, lambda line: self._strip(line).text)

    def _strip(self, line: int) -> Strip:
        width, style = self.scrollable_content_region.width, self.visual_style
        content = Content("")
        if self._group is not None and line == 0:
            content = self._heading(self._group)
            style += self.get_visual_style("group--head")
        elif self._group is not None and line <= self._count:
            content = self._line(self._group, line - 1)
            if line - 1 == self.cursor:
                style += self.get_visual_style("group--cursor")
        return line_strip(self, content.truncate(max(1, width), ellipsis=True, pad=True), style)

    def _heading(self, group: GroupCredit) -> Content:
        methods = "".join(f"{_head(method):>{_cells(method)}}" for method in group.methods)
        return Content(f"{'#':>{_PLACE - 1}} {'score':>{_NUMBER}}{'tokens':>{_TOKENS}}{methods}  response")

    def _line(self, group: GroupCredit, row: int) -> Content:
        sample = group.samples[row]
        mark = "▸" if row == self.cursor else " "
        score = signed_number(sample.score) if sample.score is not None else ""
        methods = "".join(f"{signed_number(method.totals[row]):>{_cells(method)}}" for method in group.methods)
        numbers = f"{mark}{row + 1:>{_PLACE - 2}} {score:>{_NUMBER}}{sample.tokens:>{_TOKENS}}{methods}  "
        return Content(numbers + clean_line(sample.response), strip_control_codes=False)


def _head(method: MethodCredit) -> str:
    """Marked where tokens of a response have advantages of their own, of which the mean is shown."""
    return f"{method.title}*" if method.by_token else method.title


def _cells(method: MethodCredit) -> int:
    return max(_NUMBER, len(_head(method)) + 2)
