"""Colours of a style sheet, for what is drawn by characters."""

from __future__ import annotations

from rich.color import Color
from textual.widget import Widget


def rich_color(widget: Widget, component: str) -> Color:
    """The colour of one of the widget's component classes on its background, as rich draws it."""
    color = widget.get_component_styles(component).color
    if color.ansi is not None:
        # a theme of the terminal's own colours: red, green, blue would all read 0, black on black
        return Color.from_ansi(color.ansi) if color.ansi >= 0 else Color.default()
    return Color.from_rgb(*(widget.background_colors[1] + color).rgb)
