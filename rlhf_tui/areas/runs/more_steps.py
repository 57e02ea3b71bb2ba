"""How many more steps a finished run is to take."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalGroup, Vertical
from textual.content import Content
from textual.widgets import Input, Static

from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import NumberField
from rlhf_tui.widgets.screen import BaseDialog

_MOST = 10_000_000  # that train.steps may be


class MoreStepsScreen(BaseDialog[int | None]):
    """Dismisses with the number of further steps (0: the run is loaded, and no more), or None."""

    CSS_PATH = DIALOG_STYLES
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back", id="more.back")]

    def __init__(self, run: str, total: int) -> None:
        """total: the steps that the run has taken, which were all it was to take."""
        super().__init__()
        self._run, self._total = run, total
        self._field = NumberField(total, whole=True, step=10, low=0, high=_MOST - total, id="more")
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Resume {clean_line(self._run)}")
            box.border_subtitle = Content("Enter resume · ↑↓ more, fewer · Esc back")
            with HorizontalGroup(id="more-row"):
                yield Static("more steps", classes="name", markup=False)
                yield self._field
            yield self._said

    def on_mount(self) -> None:
        self._field.focus()
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Say what that comes to."""
        event.stop()
        self._check()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Go on, if it is a number."""
        event.stop()
        if self._field.number is not None:
            self.dismiss(int(self._field.number))

    def action_back(self) -> None:
        """Leave the run as it is."""
        self.dismiss(None)

    def _check(self) -> None:
        more = self._field.number
        if more is None:
            self._said.update(Content.styled(f"✗ {self._field.allowed}", "$text-error"))
        elif more:
            self._said.update(Content.styled(f"finished ({self._total}/{self._total}); trains to step "
                                             f"{self._total + int(more)}, recorded as an edit of train.steps",
                                             "$text-muted"))
        else:
            self._said.update(Content.styled("no more steps: the run is only loaded, to generate and compare",
                                             "$text-muted"))
