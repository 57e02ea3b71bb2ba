"""How the workbench is left: after the step and its checkpoint, at once, or with the run handed to another process."""

from __future__ import annotations

from typing import Any

from textual.app import App

from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.signals import HUNG_UP, TERMINATED, ignore_hang_up


class Leaving:
    """Leaves `app`. `launch` reads afterwards how."""

    def __init__(self, app: App[Any], bridge: EngineBridge) -> None:
        self._app, self._bridge = app, bridge
        self.code: int | None = None
        """The exit code once leaving has begun."""
        self.at_once = False
        """True when nothing is to be waited for."""
        self.hands_over = False
        """True when the run is to be resumed in a process of its own after this one has left."""

    def leave(self, code: int = 0) -> None:
        """Finish the step, save, then exit with `code`; `exit_when_saved` does the last."""
        self.code = code
        self._bridge.close()

    def exit_when_saved(self) -> None:
        """Exit, where leaving has begun and the engine thread has ended."""
        if self.code is not None and not self._bridge.alive:
            self._app.exit(return_code=self.code)

    def leave_at_once(self) -> None:
        """Exit now. Checkpoints are renamed into place whole, so the last one stays good."""
        self.at_once = True
        self._app.exit(return_code=self.code or 0)

    def detach(self) -> bool:
        """Leave, and the run goes on without a screen, where one does; True while its step is waited for."""
        if self._bridge.viewing:
            self._app.exit(return_code=0)
        elif self.code is not None:
            return False
        elif self._bridge.is_training:
            self.hands_over = True
            self.leave()
            return True
        elif self._bridge.busy:
            self._app.notify("a paused run cannot be left running: Space resumes it, q saves and quits")
        else:
            self._app.notify("nothing is running: q quits")
        return False

    def terminated(self) -> None:
        """SIGTERM: finish the step, save, exit 143; asked a second time, exit 143 now."""
        if self.code is not None:
            self.leave_at_once()
            return
        self._app.notify("asked to leave: finishing the step, saving…", severity="warning")
        self.leave(TERMINATED)

    def hung_up(self) -> None:
        """The terminal has gone away: hand the run over, exit 129. Told again, as by a signal and the driver, does
        nothing."""
        if self.code == HUNG_UP:
            return
        ignore_hang_up()  # the shell may send a second one while we save
        if self.code is None:
            # whoever leaves a run paused, or has stopped it, did not mean it to go on
            self.hands_over = self._bridge.is_training
        self.leave(HUNG_UP)
        self._app.exit(return_code=HUNG_UP)
