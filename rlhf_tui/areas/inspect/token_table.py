"""The tokens of a response as a table: their quantities as numbers, one of them as a bar too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.selection import Selection
from textual.strip import Strip
from textual.visual import Visual

from rlhf_engine.config.methods.base import Series
from rlhf_engine.events import Sample
from rlhf_engine.token_trace import TokenTrace, signed_number
from rlhf_tui.areas.inspect.token_facts import largest, token_label
from rlhf_tui.widgets.figures import signed_bar
from rlhf_tui.widgets.selecting import selected_text, with_selection

_INDEX, _NUMBER, _GAP = 5, 7, 1
_TOKEN, _BAR = (8, 18), (7, 31)  # from … to


@dataclass(frozen=True)
class Layout:
    """What a width has room for."""

    columns: tuple[Series, ...]
    token: int
    bar: int


def lay_out(found: Sequence[Series], shown: Series | None, width: int) -> Layout:
    """All columns, or without the dispensable ones, then from the last; the one shown as a bar always is."""
    if shown is None:
        return Layout((), max(_TOKEN[0], width - _INDEX), 0)
    columns = list(found)
    least = _INDEX + _TOKEN[0] + _GAP + _BAR[0]
    for item in [item for item in reversed(found) if item.dispensable] + list(reversed(found)):
        if least + sum(map(_cells, columns)) <= width:
            break
        if item != shown and item in columns:
            columns.remove(item)
    left = max(0, width - least - sum(map(_cells, columns)))
    token = _TOKEN[0] + min(left // 2, _TOKEN[1] - _TOKEN[0])
    room = _BAR[0] + left - (token - _TOKEN[0])
    return Layout(tuple(columns), token, min(_BAR[1], room - (room + 1) % 2))


def _cells(item: Series) -> int:
    """The width of a column, with the space before it."""
    return max(_NUMBER, len(item.short) + 1)


class TokenTable(ScrollView, can_focus=True):
    """↑ ↓ go from token to token, ← → choose the quantity that is drawn as bars here and as colours in the text."""

    DEFAULT_CSS = """
    TokenTable { scrollbar-size-vertical: 1; overflow-x: hidden; }
    TokenTable > .tokens--head { color: $text-muted; }
    TokenTable > .tokens--cursor { background: $block-cursor-blurred-background; }
    TokenTable:focus > .tokens--cursor {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"tokens--head", "tokens--cursor"}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "measure(-1)", "Quantity before", tooltip="The quantity before, as colours and bars",
                id="tokens.previous"),
        Binding("right", "measure(1)", "Next quantity", tooltip="The next quantity, as colours and bars",
                id="tokens.next"),
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "page(-1)", "Page up", show=False),
        Binding("pagedown", "page(1)", "Page down", show=False),
        Binding("home", "move(-1000000)", "First token", show=False),
        Binding("end", "move(1000000)", "Last token", show=False),
    ]

    @dataclass
    class Chosen(Message):
        """Another token is to be marked."""

        token: int

    @dataclass
    class Measured(Message):
        """Another quantity is to be shown."""

        quantity: Series

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.cursor = 0
        self.quantity: Series | None = None
        self._found: list[Series] = []
        self._most = 1.0
        self._sample: Sample | None = None
        self._trace: TokenTrace | None = None

    def load(self, sample: Sample, trace: TokenTrace, found: Sequence[Series], quantity: Series | None) -> None:
        """Show a response's tokens with their numbers `found`, and with bars of `quantity`, which is one of them."""
        self._sample, self._trace, self._found, self.cursor = sample, trace, list(found), 0
        self.measure(quantity)
        self._resize_content()
        self.scroll_home(animate=False)

    def measure(self, quantity: Series | None) -> None:
        """Draw bars of another quantity."""
        self.quantity = quantity
        if quantity is not None and self._trace is not None:
            self._most = largest(self._trace.series[quantity.name])
        self.refresh()

    def mark(self, token: int) -> None:
        """Mark a token, and bring it into view; the heading covers the uppermost lines."""
        self.cursor = token
        self.scroll_to_region(Region(0, token, self.size.width, 1 + self._heads), animate=False, force=True)
        self.refresh()

    @property
    def _count(self) -> int:
        return len(self._trace.texts) if self._trace else 0

    @property
    def _heads(self) -> int:
        """Lines of the heading, which stay where they are: two where columns belong together."""
        return 2 if any(item.of for item in self._found) else 1

    def _resize_content(self) -> None:
        self.virtual_size = Size(self.scrollable_content_region.width, self._count + self._heads)
        self.refresh()

    def on_resize(self, _: events.Resize) -> None:
        self._resize_content()
        self.mark(self.cursor)

    # --- keys ---

    def action_move(self, by: int) -> None:
        """To a token before or after."""
        self._choose(self.cursor + by)

    def action_page(self, direction: int) -> None:
        """By what is visible."""
        self._choose(self.cursor + direction * max(1, self.size.height - 1 - self._heads))

    def action_measure(self, by: int) -> None:
        """To the quantity before or after; the ends meet."""
        if self.quantity is not None:
            self.quantity = self._found[(self._found.index(self.quantity) + by) % len(self._found)]
            self.post_message(self.Measured(self.quantity))

    def on_click(self, event: events.Click) -> None:
        """Take the token under the mouse."""
        place = event.get_content_offset(self)
        if place is not None and place.y >= self._heads:
            self._choose(place.y - self._heads + self.scroll_offset.y)

    def _choose(self, token: int) -> None:
        if self._count:
            self.cursor = max(0, min(token, self._count - 1))  # at once: the next key may be here already
            self.post_message(self.Chosen(self.cursor))

    # --- drawing ---

    def render_line(self, y: int) -> Strip:
        line = y + self.scroll_offset.y if y >= self._heads else y
        return with_selection(self, self._strip(line), line)

    def get_selection(self, selection: Selection) -> tuple[str, str]:
        """The lines as they are shown."""
        return selected_text(selection, self._count + self._heads, lambda line: self._strip(line).text)

    def _strip(self, line: int) -> Strip:
        width, style, row = self.scrollable_content_region.width, self.visual_style, line - self._heads
        if self._sample is None or self._trace is None:
            return Strip.blank(self.size.width, style.rich_style)
        layout = lay_out(self._found, self.quantity, width)
        if row < 0:
            content = self._heading(layout) if row == -1 else self._groups(layout)
            style += self.get_visual_style("tokens--head")
        elif row < self._count:
            content = self._line(layout, self._sample, self._trace, row)
            if row == self.cursor:
                style += self.get_visual_style("tokens--cursor")
        else:
            content = Content("")
        strips = Visual.to_strips(self, content.truncate(width, ellipsis=True, pad=True), max(1, width), 1, style,
                                  apply_selection=False)
        return strips[0].adjust_cell_length(self.size.width, style.rich_style)

    def _groups(self, layout: Layout) -> Content:
        """What the columns below are of."""
        parts = [Content(" " * (_INDEX + layout.token))]
        for of, columns in groupby(layout.columns, key=lambda item: item.of):
            width = sum(map(_cells, columns))
            parts.append(Content(f"{of:>{width}}").truncate(width, ellipsis=True, pad=True))
        return Content("").join(parts)

    def _heading(self, layout: Layout) -> Content:
        parts: list[Content] = [Content(f"{'#':>{_INDEX - 1}} {'token':<{layout.token}}")]
        for item in layout.columns:
            shown = item == self.quantity
            parts.append(Content.styled(f"{item.short:>{_cells(item)}}", "bold underline $primary" if shown else ""))
        if half := layout.bar // 2:
            parts.append(Content(f" {'−':^{half}}0{'+':^{half}}"))
        return Content("").join(parts)

    def _line(self, layout: Layout, sample: Sample, trace: TokenTrace, row: int) -> Content:
        name = Content(token_label(sample, trace, row), strip_control_codes=False)
        parts = [Content.styled(f"{row + 1:>{_INDEX - 1}} ", "$text-muted"),
                 name.truncate(layout.token, ellipsis=True, pad=True)]
        for item in layout.columns:
            shown = item == self.quantity
            text = f"{signed_number(trace.series[item.name][row]):>{_cells(item)}}"
            parts.append(Content.styled(text, "bold" if shown else ""))
        if self.quantity is not None:
            values = trace.series[self.quantity.name]
            style = "$text-success" if values[row] > 0 else "$text-error"
            parts.append(Content.styled(" " + signed_bar(values[row], self._most, layout.bar), style))
        return Content("").join(parts)
