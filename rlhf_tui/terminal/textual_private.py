"""What we lean on in Textual 8 beside its public doors, all of it, each with its reason.

Two more have a room of their own, since they are classes of Textual's that are meant to be derived from:
`terminal.driver` (LinuxDriver) and the app's `_fatal_error`. `tests/tui/test_textual_private.py` fails where Textual
changes one of these, and where another module of ours reaches for a private name.
"""

from __future__ import annotations

from typing import Any

from textual._styles_cache import StylesCache
from textual._xterm_parser import XTermParser
from textual.app import App
from textual.binding import Binding
from textual.dom import DOMNode
from textual.driver import Driver
from textual.geometry import Size
from textual.message_pump import MessagePump
from textual.screen import Screen, ScreenResultType
from textual.scroll_view import ScrollView
from textual.widget import Widget

__all__ = ["PatientScreen", "XTermParser", "bindings_of", "driver_of", "has_drawn_all", "is_idle",
           "let_go_of_what_left", "resize_content"]
# XTermParser knows the sequences of keys and of the mouse. It also types what it does not know, and drops Alt from
# named keys (https://github.com/Textualize/textual/issues/6663): `terminal.input` hands it only what it knows.


def driver_of(app: App[Any]) -> Driver | None:
    """What writes to the terminal of the app: no public door lets a sequence of ours through."""
    return app._driver


def bindings_of(node: DOMNode) -> list[Binding]:
    """All bindings of a node. The public `active_bindings` has only those around the focus; the help page shows what
    other panes can do."""
    return [binding for bindings in node._bindings.key_to_bindings.values() for binding in bindings]


# --- keys in their order: a bound key acts later than letters typed after it ---
# https://github.com/Textualize/textual/issues/6605, https://github.com/Textualize/textual/pull/6631


def is_idle(pump: MessagePump) -> bool:
    """True when `pump` has nothing left to do: it is closed, or waits for a message."""
    if pump._closing or pump._closed:
        return True
    # while one is handled nobody waits at the queue, nor before a new widget is mounted
    waits = bool(pump._message_queue.ready_event._waiters)
    return waits and not pump.message_queue_size and not pump._next_callbacks


def has_drawn_all(screen: Screen[Any]) -> bool:
    """False while a layout, new parts, or what is to be called after the next drawing are still due."""
    return not (screen._callbacks or screen._layout_required or screen._recompose_required)


# --- what is drawn, and when ---


def resize_content(view: ScrollView, size: Size) -> None:
    """Tells a scrolled view how large its content is. Assigned to `virtual_size`, that has the whole screen laid out
    and drawn anew; only the scrollbar, when it comes or goes, needs that, and asks for it itself."""
    view.set_reactive(Widget.virtual_size, size)
    view._scroll_update(size)
    view.refresh()


class PatientScreen(Screen[ScreenResultType]):
    """A screen that draws no empty frame when it opens, and calls nobody who has left."""

    _has_begun = False

    def _on_timer_update(self) -> None:
        if not self._has_begun and self._layout_required:
            self._repaint_required = False  # this layout is the first to be drawn: it draws everything
        self._has_begun = True
        super()._on_timer_update()

    def _compositor_refresh(self) -> None:
        """Nothing is drawn by the layout that a screen opens with: what its parts show follows from the size that they
        get there. It would be an empty frame, and then another, of some 18 KB each."""
        if self._has_begun:
            super()._compositor_refresh()

    async def _invoke_and_clear_callbacks(self) -> None:
        """What waits for the next drawing, but for what asked for it and has been taken away since: it would look for
        parts of itself that are gone. Textual calls it all the same."""
        self._callbacks[:] = [(callback, asker) for callback, asker in self._callbacks
                              if not (isinstance(asker, Widget) and asker._pruning)]
        await super()._invoke_and_clear_callbacks()


def let_go_of_what_left(app: App[Any]) -> None:
    """Forgets what Textual keeps of widgets that have been taken away: its cache of border colours holds a thousand
    widgets' lines by its keys, and the app, until its theme changes, the fields that asked to be told of that.

    https://github.com/Textualize/textual/issues/6665, https://github.com/Textualize/textual/issues/6666
    """
    StylesCache.get_inner_outer.cache_clear()
    for asked in getattr(app, "__watchers", {}).values():
        asked[:] = [(asker, callback) for asker, callback in asked if not asker._closing]
