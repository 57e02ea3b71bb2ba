"""Leaving while a run goes on."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from rlhf_tui.areas.leaving.leaving import Leaving
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.screen import BaseDialog


class QuitScreen(BaseDialog[None]):
    """Asks; then waits for the step and its checkpoint; `q` once more leaves at once."""

    DEFAULT_CSS = """
    QuitScreen { align: center middle; background: $background 60%; }
    QuitScreen > Vertical {
        width: 64; max-width: 100%; height: auto; max-height: 100%;
        border: round $warning; background: $surface; padding: 1 2;
    }
    QuitScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "next", "Quit", tooltip="Finish the step, save, quit; again: leave at once", id="quit.next"),
        Binding("enter,y", "confirm", "Save and quit", tooltip="Finish the step, save, quit", id="quit.confirm"),
        Binding("d", "app.detach", "Leave it running", tooltip="Save, quit, and continue the run in the background",
                id="quit.detach"),
        Binding("escape,n", "stay", "Stay", tooltip="Continue training", id="quit.stay"),
    ]

    def __init__(self, bridge: EngineBridge, leaving: Leaving) -> None:
        super().__init__()
        self._bridge, self._leaving = bridge, leaving
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        dialog = Vertical(self._text)
        dialog.border_title = "Quit"
        yield dialog

    def on_mount(self) -> None:
        self._show()
        self.set_interval(1.0, lambda: self._show() if self._bridge.view.slow_reward else None)

    def on_engine_events(self, _: EngineEvents) -> None:
        self._show()

    def action_next(self) -> None:
        """Second press: save and quit. Third press: leave at once."""
        if self._bridge.closing:
            self._leaving.leave_at_once()
        else:
            self.action_confirm()

    def action_confirm(self) -> None:
        """Finish the step, save, quit."""
        if not self._bridge.closing:
            self._leaving.leave()
            self._show()

    def action_stay(self) -> None:
        """Back to the workbench, unless leaving has begun."""
        if not self._bridge.closing:
            self.dismiss()

    def _show(self) -> None:
        view = self._bridge.view
        if self._bridge.closing:
            step = min(view.step + 1, view.total_steps)
            goes_on = " The run then continues in the background." if self._leaving.hands_over else ""
            slow = f" ({view.slow_reward} so far)" if view.slow_reward else ""
            text = Content.assemble(f"finishing step {step}{slow}, saving…{goes_on}\n\n", ("q", "$accent bold"),
                                    "  leave at once; the last checkpoint stays good")
        else:
            how_far = f"in progress: step {view.step} of {view.total_steps}" if view.total_steps else "about to begin"
            text = Content.assemble(f"A run is {how_far}.\n\n",
                                    ("q Enter", "$accent bold"), "  finish this step, save a checkpoint, quit\n",
                                    ("d      ", "$accent bold"), "  leave it running in the background\n",
                                    ("Esc    ", "$accent bold"), "  stay")
        self._text.update(text)
