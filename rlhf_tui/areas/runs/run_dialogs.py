"""What the runs screen asks: a name, a note, whether one is sure."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_tui.apart import do_apart
from rlhf_tui.terminal.clean_text import clean_text
from rlhf_tui.widgets.inputs import TextBox, TextField
from rlhf_tui.widgets.screen import BaseDialog


class _Dialog(BaseDialog[bool]):
    """Does `act` with what was asked; where that is refused, says why and stays, so that nothing typed is lost."""

    CSS_PATH = "screen.tcss"
    title_text = ""
    keys_text = ""

    def __init__(self) -> None:
        super().__init__()
        self._said = Static("", id="said", markup=False)
        self._acting = False

    def on_mount(self) -> None:
        box = self.query_one("#box")
        box.border_title, box.border_subtitle = Content(self.title_text), Content(self.keys_text)

    def do(self, act: Callable[[], object]) -> None:
        """Dismiss with True once `act` is done, in a thread. Until then nothing else is done."""
        if self._acting:
            return
        self._acting = True
        do_apart(self, act, lambda _: self.dismiss(True), self._refused, "act")

    def _refused(self, why: str) -> None:
        self._acting = False
        self.say(f"✗ {why}", "$text-error")

    def say(self, text: str, style: str = "$text-muted") -> None:
        """One sentence below."""
        self._said.update(Content.styled(clean_text(text), style))

    def action_back(self) -> None:
        """Do nothing."""
        self.dismiss(False)


class NameScreen(_Dialog):
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


class NoteScreen(_Dialog):
    """Several lines about a run; what was typed is dropped only when Esc is pressed twice."""

    keys_text = "F2 save · Esc back"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f2", "save", "Save note", tooltip="Keep the note with the run", id="note.save"),
        Binding("escape", "back", "Back", id="note.back", priority=True),
    ]

    def __init__(self, name: str, note: str, act: Callable[[str], object]) -> None:
        super().__init__()
        self.title_text = f"Note on {name}"
        self._act, self._sure = act, False
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

    def on_text_area_changed(self) -> None:
        """Esc asks anew."""
        self._sure = False

    def action_save(self) -> None:
        """Keep it."""
        self.do(lambda: self._act(self._area.text))

    def action_back(self) -> None:
        """Drop what was typed, but only when told twice."""
        if self._area.text == self._before or self._sure:
            self.dismiss(False)
        else:
            self._sure = True
            self.say("⚠ Esc once more drops what was typed; F2 saves it", "$text-warning bold")


class SureScreen(_Dialog):
    """Asks before it does what cannot be undone at once."""

    keys_text = "Enter y yes · Esc n no"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,y", "confirm", "Yes", tooltip="Do it", id="sure.yes"),
        Binding("escape,n", "back", "No", tooltip="Do nothing", id="sure.no"),
    ]

    def __init__(self, title: str, text: str, act: Callable[[], object]) -> None:
        super().__init__()
        self.title_text, self._text, self._act = title, text, act

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(Content(clean_text(self._text)), id="text", markup=False)
            yield self._said

    def action_confirm(self) -> None:
        """Do it."""
        self.do(self._act)
