"""NO_COLOR under a theme of the terminal's own 16 colours, where Textual's greys would come out black on black."""

from __future__ import annotations

from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

_PLAIN = Style.from_color(RichColor.default(), RichColor.default())
_GROUNDS = {None, "default", "black", "white"}


class Plain(LineFilter):
    """Takes all colours away; what stood on a coloured ground, as the chosen row does, is reversed instead."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments of a line, without colours."""
        return [Segment(text, style and _plain(style), control) for text, style, control in segments]


def _plain(style: Style) -> Style:
    ground = style.bgcolor.name if style.bgcolor else None
    return style + _PLAIN + (Style() if ground in _GROUNDS else Style(reverse=True))
