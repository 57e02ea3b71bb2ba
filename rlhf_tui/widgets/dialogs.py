"""Dialogs that do something once a person has said yes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from rlhf_tui.background import run_in_background
from rlhf_tui.terminal.clean_text import clean_text
from rlhf_tui.widgets.screen import BaseDialog

DIALOG_STYLES = Path(__file__).with_name("dialogs.tcss")
"""How all dialogs look; a whole path, since a relative one would be looked for beside each dialog's own file."""


class ActingDialog(BaseDialog[bool]):
    """Does `act` with what was asked; where that is refused, says why and stays, so that nothing typed is lost."""

    CSS_PATH = DIALOG_STYLES
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
        run_in_background(self, act, lambda _: self.dismiss(True), self._refused, "act")

    def _refused(self, why: str) -> None:
        self._acting = False
        self.say(f"✗ {why}", "$text-error")

    def say(self, text: str, style: str = "$text-muted") -> None:
        """One sentence below."""
        self._said.update(Content.styled(clean_text(text), style))

    def action_back(self) -> None:
        """Do nothing."""
        self.dismiss(False)


class SureScreen(ActingDialog):
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
