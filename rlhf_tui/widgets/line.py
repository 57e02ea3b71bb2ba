"""One line of a list that draws only what is seen."""

from __future__ import annotations

from textual.content import Content
from textual.strip import Strip
from textual.style import Style
from textual.visual import Visual
from textual.widget import Widget


def line_strip(widget: Widget, content: Content, style: Style) -> Strip:
    """`content`, which has no line break, as a line of `widget` in its whole width."""
    strips = Visual.to_strips(widget, content, max(1, content.cell_length), 1, style, apply_selection=False)
    return strips[0].adjust_cell_length(widget.size.width, style.rich_style)
