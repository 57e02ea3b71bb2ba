"""What the runs screen asks: a name, a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import Input

from rlhf_engine.errors import ConfigError
from rlhf_tui.widgets.dialogs import ActingDialog
from rlhf_tui.widgets.inputs import TextBox, TextField


class NameScreen(ActingDialog):
    """Asks for another name of a run; `check` says what is wrong with one as it is typed."""

    keys_text = "Enter rename · Esc back"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", id="name.back")]

    def __init__(self, name: str, check: Callable[[str], str], act: Callable[[str], object]) -> None:
        super().__init__()
        self.title_text = f"Rename {name}"
        self._check, self._act = check, act
        self._field = TextField(name, id="name", max_length=64)

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield self._field
            yield self._said

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the name as one types."""
        event.stop()
        problem = self._check(event.value)
        self.say(f"✗ {problem}" if problem else "its forks stay linked", "$text-error" if problem else "$text-muted")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Rename."""
        event.stop()
        self.do(lambda: self._act(event.value))


class NoteScreen(ActingDialog):
    """Several lines about a run; what was typed is dropped only when Esc is pressed twice."""

    keys_text = "F2 save · F9 own editor · Esc back"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "save", "Save note", tooltip="Keep the note with the run", id="note.save"),
        # no letter, which would be typed
        Binding("f9", "own_editor", "Own editor", tooltip="Write the note in your own editor ($VISUAL, $EDITOR)",
                id="note.editor"),
        Binding("escape", "back", "Back", id="note.back", priority=True),
    ]

    def __init__(self, name: str, note: str, act: Callable[[str], object], *, in_editor: bool = False) -> None:
        """in_editor: begin in the user's own editor."""
        super().__init__()
        self.title_text = f"Note on {name}"
        self._act, self._sure, self._in_editor = act, False, in_editor
        self._area = TextBox(note, id="note")
        self._before = self._area.text

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield self._area
            yield self._said

    def on_mount(self) -> None:
        super().on_mount()
        self._area.focus()
        self._area.move_cursor(self._area.document.end)
        self.say("it lies in the run's folder and goes where that goes")
        if self._in_editor:
            self.call_after_refresh(self.action_own_editor)

    def on_text_area_changed(self) -> None:
        """Esc asks anew."""
        self._sure = False

    def action_save(self) -> None:
        """Keep it."""
        self.do(lambda: self._act(self._area.text))

    def action_own_editor(self) -> None:
        """Write it in the user's own editor, and keep what was written there."""
        from rlhf_tui.terminal.own_editor import edited

        before = self._area.text
        try:
            text = edited(self.app, f"{before}\n" if before else "", "note.txt").rstrip("\n")
        except ConfigError as error:
            self.say(f"✗ {error}", "$text-error")
            return
        if text == before.rstrip("\n"):
            self.say("nothing was changed")
        else:
            self._area.text = text
            self.action_save()

    def action_back(self) -> None:
        """Drop what was typed, but only when told twice."""
        if self._area.text == self._before or self._sure:
            self.dismiss(False)
        else:
            self._sure = True
            self.say("⚠ Esc once more drops what was typed; F2 saves it", "$text-warning bold")
