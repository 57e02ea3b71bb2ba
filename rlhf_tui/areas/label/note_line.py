"""The line below the pair: what was said of the one before, or, while one writes it, a note about this one."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static

from rlhf_tui.areas.label.pair_view import put
from rlhf_tui.widgets.inputs import TextField


class NoteLine(Widget):
    """Enter in the note is the screen's to hear (`Input.Submitted`)."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._last = Static("", id="last", markup=False)
        self._note = TextField(placeholder="a line about this pair · Enter keeps it with the judgement", id="note",
                               max_length=1000)
        self._show_note(False)

    def compose(self) -> ComposeResult:
        yield self._last
        yield self._note

    def tell(self, last: Content) -> None:
        """Of the pair before."""
        put(self._last, last)

    @property
    def writing(self) -> bool:
        """Whether somebody writes a note."""
        return self._note.has_focus

    def write(self, note: str) -> None:
        """Let the note be written on."""
        self._note.value = note
        self._show_note(True)
        self._note.focus()

    def leave(self) -> None:
        """Write no more."""
        self.screen.set_focus(None)
        self._show_note(False)

    def _show_note(self, shown: bool) -> None:
        # a field that can have the focus gets it from Textual now and then, and would take the keys that judge
        self._note.display = self._note.can_focus = shown
        self._last.display = not shown
