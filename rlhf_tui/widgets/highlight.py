"""Responses with the words that earned or cost points marked, the same way wherever one is shown.

Liked words are green and underlined, disliked ones red and struck through: the two differ without colour as well.
"""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from rlhf_engine.rewards.base import Span

STYLES = {"liked": "$text-success underline", "disliked": "$text-error strike"}
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
