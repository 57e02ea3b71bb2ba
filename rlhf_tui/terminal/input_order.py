"""Keys, pastes and clicks take effect one after the other, however close together they come.

Textual hands a key to whatever has the focus at that moment. A letter is typed right there; Enter, Backspace and every
other key that a binding acts on goes up from widget to widget, queue by queue, and is looked up only when it has come
back to the app. By then the keys behind it may have been typed into the field that it was to close, or into the one
before the field that it was to open: `a b ⌫ c` gives "abc" without its backspace, or the wrong number is applied.

Here a key waits in line until all that the key before it set off is over: the actions and messages, the focus that
moved, the screen that came or went. A key that comes alone finds nothing in its way and is handed on at once.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from textual import events
from textual.app import App
from textual.command import CommandPalette
from textual.screen import Screen
from textual.widgets import Input, TextArea

from rlhf_tui.terminal.textual_private import has_drawn_all, is_idle

# A part of the screen that never comes to rest must not take the keyboard away. Turns of the loop are counted, not
# time: on a machine that stands still for a while, the screen has had none of it.
_QUICK_TURNS, _TURNS = 100, 2000
_LATER_SECONDS = 0.001


class InputOrder:
    """The line in which input waits. `admits` is asked for each event that reaches the app."""

    def __init__(self, app: App[Any]) -> None:
        self._app = app
        self._waiting: deque[events.Event] = deque()
        self._admitted: set[events.Event] = set()
        self._follower: asyncio.Task[None] | None = None
        self._typed_into: Input | TextArea | None = None

    def admits(self, event: events.Event) -> bool:
        """Whether `event` may be handled now; if not, it comes again when it is its turn."""
        if not isinstance(event, events.InputEvent | events.Paste):
            return True
        if not self._app.screen_stack:
            return False  # the app leaves: there is nothing left to act on
        if event.is_forwarded:
            return True
        if event in self._admitted:
            self._admitted.discard(event)
            return True
        if self._follower is not None and (self._waiting or not self._needs_no_rest(event)):
            self._waiting.append(event)
            return False
        self._note(event)
        if self._follower is None and not isinstance(event, events.MouseMove):
            self._follower = asyncio.create_task(self._follow(), name="input in order")
        return True

    def _needs_no_rest(self, event: events.Event) -> bool:
        """Letters that follow letters into one field are in order there; a pointer that moves acts on nothing."""
        if isinstance(event, events.MouseMove | events.MouseUp):
            return True
        return self._field_for(event) is not None and self._field_for(event) is self._typed_into

    def _field_for(self, event: events.Event) -> Input | TextArea | None:
        focused = self._app.focused
        typed = isinstance(event, events.Key) and event.is_printable and isinstance(focused, Input | TextArea)
        return focused if typed else None  # type: ignore[return-value]

    def _note(self, event: events.Event) -> None:
        if not isinstance(event, events.MouseMove):
            self._typed_into = self._field_for(event)

    async def _follow(self) -> None:
        """See to it that what was admitted is over before the next is."""
        try:
            await self._rest()
            while self._waiting and self._app.is_running:
                if not self._needs_no_rest(self._waiting[0]):
                    await self._rest()
                event = self._waiting.popleft()
                self._note(event)
                self._admitted.add(event)
                self._app.post_message(event)
                if not self._waiting:
                    await self._rest()
        finally:
            self._follower = None

    async def _rest(self) -> None:
        for turn in range(_TURNS):
            await asyncio.sleep(0 if turn < _QUICK_TURNS else _LATER_SECONDS)
            if not self._app.is_running or self._at_rest():
                return

    def _at_rest(self) -> bool:
        stack = self._app.screen_stack
        if not stack or not is_idle(self._app):
            return False
        top: Screen[Any] = stack[-1]
        if not has_drawn_all(top):
            return False
        if isinstance(top, CommandPalette) and any(
                worker.node is top and worker.is_running for worker in self._app.workers):
            return False  # Enter takes a command that was found, and what is typed is still looked for
        return all(is_idle(node) for screen in stack for node in screen.walk_children(with_self=True))
