"""Some lines to type any text into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from rlhf_tui.widgets.inputs import TextBox


class TextPad(TextBox):
    """Enter makes a new line; Esc and Tab leave it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,tab,shift+tab", "leave", "Done", show=False, priority=True),
    ]

    @dataclass
    class Left(Message):
        """The pad was left by a key."""

    def action_leave(self) -> None:
        """Tell the owner."""
        self.post_message(self.Left())
