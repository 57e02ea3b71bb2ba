"""Runs that were deleted: restored one by one, or gone for good once the trash is emptied."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.runs.run_care import TrashedRun, empty_trash, list_trash, restore
from rlhf_engine.system.units import format_bytes
from rlhf_tui.background import run_in_background
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.dialogs import DIALOG_STYLES, SureScreen
from rlhf_tui.widgets.screen import BaseDialog


class TrashScreen(BaseDialog[None]):
    """The last deleted first. Emptying asks, and takes what was listed when it asked."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "restore", "Restore", tooltip="Restore the run under the name it had", id="trash.restore",
                priority=True),
        Binding("E", "empty", "Empty trash", tooltip="Empty the trash for good; asks first", id="trash.empty"),
        Binding("escape", "back", "Back", id="trash.back"),
    ]

    def __init__(self, root: Path) -> None:
        super().__init__()
        self._root = root
        self._trashed: list[TrashedRun] = []
        self._list = ChoiceList(id="trashed", markup=False, compact=True)
        self._said = Static("reading…", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content("Trash")
            box.border_subtitle = Content("Enter restore · E empty · Esc back")
            yield self._list
            yield self._said

    def on_mount(self) -> None:
        self._read()

    def _read(self) -> None:
        run_in_background(self, lambda: list_trash(self._root), self._show, partial(self._show, []), "trash")

    def _show(self, runs: list[TrashedRun], problem: str = "") -> None:
        at = self._list.highlighted or 0
        self._trashed = runs
        self._list.clear_options()
        self._list.add_options([Option(_line(trashed)) for trashed in self._trashed])
        if self._trashed:
            self._list.highlighted = min(at, len(self._trashed) - 1)
        if problem:
            self._say(problem, "$text-error")
        else:
            self._say(f"{len(self._trashed)} in the trash, {format_bytes(self._bytes)}" if self._trashed else
                      "the trash is empty")

    @property
    def _bytes(self) -> int:
        return sum(trashed.bytes for trashed in self._trashed)

    def on_option_list_option_selected(self, _: OptionList.OptionSelected) -> None:
        """A click restores."""
        self.action_restore()

    def action_restore(self) -> None:
        """Restore the run under the cursor."""
        if self._list.highlighted is None or not self._trashed:
            return
        trashed = self._trashed[self._list.highlighted]
        run_in_background(self, lambda: restore(self._root, trashed.entry), lambda _: self._read(),
                          lambda problem: self._say(problem, "$text-error"), "restore")

    def action_empty(self) -> None:
        """Ask, with how many and how much."""
        if self._trashed:
            count = len(self._trashed)
            what = "1 run" if count == 1 else f"{count} runs"
            text = f"Empty the trash of {what} for good, {format_bytes(self._bytes)}?\n\nThis cannot be undone."
            entries = [trashed.entry for trashed in self._trashed]
            self.app.push_screen(SureScreen("Empty the trash", text, partial(empty_trash, self._root, entries)),
                                 lambda _: self._read())

    def action_back(self) -> None:
        """Leave."""
        self.dismiss(None)

    def _say(self, text: str, style: str = "$text-muted") -> None:
        self._said.update(Content.styled(clean_text(text), style))


def _line(trashed: TrashedRun) -> Content:
    return Content.assemble((clean_line(trashed.entry), "bold"), (f"  {format_bytes(trashed.bytes)}", "$text-muted"))
