"""Selecting text with the mouse in widgets that draw line by line: what is lit up, and what Ctrl+C copies."""

from __future__ import annotations

from collections.abc import Callable

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.selection import Selection
from textual.strip import Strip
from textual.widget import Widget


def with_selection(widget: Widget, strip: Strip, line: int) -> Strip:
    """`strip`, drawn as line number `line` of all that `widget` holds, with the part of it that is selected lit up."""
    selection = widget.text_selection
    span = selection.get_span(line) if selection is not None else None
    if span is not None:
        text = strip.text
        begin, end = (cell_len(text[:at]) if at >= 0 else strip.cell_length for at in span)
        lit = widget.screen.get_component_rich_style("screen--selection")
        before, inside, after = strip.divide([begin, end, strip.cell_length])
        marked = [Segment(part.text, (part.style or Style.null()) + lit, part.control) for part in inside]
        strip = Strip.join([before, Strip(marked), after])
    return strip.apply_offsets(0, line)


def selected_text(
    selection: Selection, count: int, text_of: Callable[[int], str], between: Callable[[int], str] = lambda _: "\n",
) -> tuple[str, str]:
    """What `Widget.get_selection` returns, of `count` lines. text_of: a line by its number; between: what parts a line
    from the next one in the text that they stand for, where that is no newline."""
    first, begin = (selection.start.y, selection.start.x) if selection.start else (0, 0)
    last, end = (selection.end.y, selection.end.x) if selection.end else (count, 0)
    found = ""
    for line in range(first, min(last + 1, count)):
        part = text_of(line)[begin if line == first else 0:end if line == last else None]
        found += part if line == last else part.rstrip() + between(line)
    return found.rstrip(), "\n"
