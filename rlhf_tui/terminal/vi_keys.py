"""Keys that stand for others where they mean nothing of their own: those of vi and less."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import App
from textual.widgets import Input, TextArea

VI_KEYS = {"j": "down", "k": "up", "ctrl+d": "pagedown", "ctrl+u": "pageup", "g": "home", "G": "end",
           "colon": "ctrl+p"}
VI_KEYS_HELP = ("Where they mean nothing else, j and k go down and up in every list and page, Ctrl+D and Ctrl+U a "
                "page, G to the end and g to the top. F1 is ?, in a field too; : is Ctrl+P.")


def translate_vi_key(app: App[Any], event: events.Key) -> events.Key:
    """`event`, or the key that it stands for on the screen in use."""
    first = VI_KEYS.get(event.key)
    if first is None or isinstance(app.focused, Input | TextArea):
        return event
    bound = app.screen.active_bindings
    if event.key in bound or first not in bound:
        return event
    stands_for = events.Key(first, None)  # writes nothing
    stands_for.set_sender(app)
    return stands_for
