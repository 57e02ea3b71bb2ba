"""Some lines to type any text into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from rlhf_tui.clean_text import clean_text


class TextPad(TextArea):
    """Enter makes a new line; Esc and Tab leave it. Never blinks; what is pasted is cleaned."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,tab,shift+tab", "leave", "Done", show=False, priority=True),
    ]

    @dataclass
    class Left(Message):
        """The pad was left by a key."""

    def __init__(self, **options: Any) -> None:
        super().__init__(compact=True, highlight_cursor_line=False, **options)
        self.cursor_blink = False

    def action_leave(self) -> None:
        """Tell the owner."""
        self.post_message(self.Left())

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        start, end = sorted(self.selection)
        self.move_cursor(self.replace(clean_text(event.text), start, end).end_location)
