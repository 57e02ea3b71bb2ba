"""What the bridge tells the screens."""

from __future__ import annotations

from textual.message import Message

from rlhf_engine.events import Event


class EngineEvents(Message, bubble=False):
    """A batch of engine events, oldest first, their texts cleaned. Every screen on the stack gets each batch."""

    def __init__(self, events: list[Event]) -> None:
        self.events = events
        super().__init__()
