"""Where to export a run: which checkpoint, adapter or merged model, and the folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalGroup, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_engine.errors import RlhfError
from rlhf_engine.exporting.export_process import Wanted
from rlhf_engine.files.disk import folder_to_make
from rlhf_engine.runs.run_list import RunSummary
from rlhf_tui.terminal.clean_text import clean_text
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import Choice, TextField
from rlhf_tui.widgets.screen import BaseDialog

_KINDS = {"adapter": "the LoRA adapter alone: peft puts it on its base model, which it names",
          "merged model": "base and adapter in one: as large as the base, and needs nothing else"}


class ExportScreen(BaseDialog[bool]):
    """Hands what is wanted to `begin`, which raises RlhfError; dismisses with True then."""

    CSS_PATH = DIALOG_STYLES
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "begin", "Export", tooltip="Write the folder", id="export.begin", priority=True),
        Binding("escape", "back", "Back", id="export.back"),
    ]

    def __init__(self, run: RunSummary, steps: Sequence[int], begin: Callable[[Wanted], object]) -> None:
        """steps: of the run's checkpoints, the newest first; there is at least one."""
        super().__init__()
        self._run, self._begin = run, begin
        self._step = Choice([f"step {step}" for step in steps], f"step {steps[0]}", id="step")
        self._kind = Choice(list(_KINDS), "adapter", id="kind")
        self._folder = TextField(self._proposed(), id="folder")
        self._typed = False
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Export {self._run.name}")
            box.border_subtitle = Content("F5 export · ←→ choose · Tab next · Esc back")
            for name, field in (("checkpoint", self._step), ("as", self._kind), ("folder", self._folder)):
                with HorizontalGroup(classes="row"):
                    yield Static(f"{name:<10}", classes="name", markup=False)
                    yield field
            yield self._said

    def on_mount(self) -> None:
        self._folder.focus()
        self._check()

    def _proposed(self) -> str:
        """A folder that is not there yet."""
        merged = "-merged" if self._kind.value == "merged model" else ""
        name = f"exports/{self._run.name}-{self._step.value.replace(' ', '-')}{merged}"
        tries = (name + (f".{number}" if number > 1 else "") for number in range(1, 1000))
        return next((path for path in tries if not Path(path).exists()), name)

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Another checkpoint or kind goes into another folder, unless one was typed."""
        event.stop()
        if not self._typed:
            with self.prevent(Input.Changed):
                self._folder.value = self._proposed()
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the folder as one types."""
        event.stop()
        self._typed = event.value != self._proposed()
        self._check()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in the field exports, too."""
        event.stop()
        self.action_begin()

    def _wanted(self) -> Wanted:
        """Raises RlhfError for a folder that would have to be replaced."""
        target = folder_to_make(self._folder.value or ".")
        return Wanted(self._run.path, int(self._step.value.split()[1]), target, self._kind.value == "merged model")

    def _check(self) -> None:
        try:
            self._wanted()
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._say(_KINDS[self._kind.value], "$text-muted")

    def action_begin(self) -> None:
        """Export, unless something is wrong."""
        try:
            self._begin(self._wanted())
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self.dismiss(True)

    def action_back(self) -> None:
        """Export nothing."""
        self.dismiss(False)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled(clean_text(text), style))
