"""Responses with the words that earned or cost points marked, the same way wherever one is shown.

What earned some is green and underlined, what cost some red and struck through: the two differ without colour as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from textual.content import Content

from rlhf_engine.events import Span

_GOOD, _BAD = "$text-success underline", "$text-error strike"
STYLES = {"liked": _GOOD, "rewarded": _GOOD, "right": _GOOD, "disliked": _BAD, "penalized": _BAD, "wrong": _BAD}
"""Style of each kind of span, in the theme's colours; a kind that is not here is shown plain."""


def highlighted(text: str, spans: Iterable[Span] = ()) -> Content:
    """`text` (already clean) with its spans styled; never read as markup.

    Spans are offsets into `text`. Those that reach outside of it are cut to it, empty ones are dropped.
    """
    # Content drops characters like BEL by itself, which would shift every span after them: nothing to drop may be left.
    content = Content(text, strip_control_codes=False)
    for span in spans:
        start, end = max(0, span.start), min(len(text), span.end)
        style = STYLES.get(span.kind)
        if style and start < end:
            content = content.stylize(style, start, end)
    return content


def by_span(text: str, spans: Iterable[Span] = ()) -> tuple[list[str], list[str]]:
    """The pieces of `text` in order, and the style of each: as `highlighted`, for what draws pieces."""
    content = highlighted(text, spans)
    marks = {edge for span in content.spans for edge in (span.start, span.end)}
    edges = sorted(marks | {0, len(text)})
    pieces, styles = [], []
    for start, end in pairwise(edges):
        pieces.append(text[start:end])
        styles.append(" ".join(str(span.style) for span in content.spans if span.start <= start and end <= span.end))
    return pieces, styles
