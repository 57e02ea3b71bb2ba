"""What becomes of a changed setting: it goes into the next run's config and, where a run goes on, to the engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from rlhf_engine import fields, presets
from rlhf_engine.errors import RlhfError
from rlhf_tui.bridge import EngineBridge
from rlhf_tui.clean_text import clean_line

if TYPE_CHECKING:
    from rlhf_tui.app import WorkbenchApp
    from rlhf_tui.screens.workbench import WorkbenchScreen


class Editing:
    """Changes the settings that the workbench shows; `app.config` holds them. show: bring the panes up to date."""

    def __init__(self, screen: WorkbenchScreen, bridge: EngineBridge, show: Callable[[], None]) -> None:
        self._screen, self._bridge, self._show = screen, bridge, show

    @property
    def _app(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self._screen.app)

    def edit(self, path: str, value: object) -> None:
        """Set `path` to `value`: in a run that goes on from its next step, else for the next run."""
        app, screen = self._app, self._screen
        if app.read_only():
            self._show()
            return
        try:
            app.config = fields.replace(app.config, {path: value})
        except RlhfError as error:
            screen.say(clean_line(str(error)), "warning")
            return
        if not self._bridge.busy:
            return
        if fields.setting_at(app.config, path).live:
            self._bridge.edit(path, value)
        else:
            screen.say(f"{path} takes effect with the next start: it cannot change while training")

    def revert(self, path: str) -> None:
        """Show what the engine uses at `path`, since it refused what was wanted."""
        running = self._bridge.view.config
        if running is not None:
            app = self._app
            try:
                app.config = fields.replace(app.config, {path: fields.value_at(running, path)})
            except (RlhfError, LookupError, AttributeError):
                return
            self._show()

    def adopt(self) -> None:
        """Show the settings of a run that is driven elsewhere."""
        if self._bridge.viewing and self._bridge.view.config is not None:
            self._app.config = self._bridge.view.config
            self._show()

    def load_preset(self, name: str) -> None:
        """Take the settings of a preset for the next run."""
        try:
            self._app.config = presets.load(name)
        except RlhfError as error:
            self._screen.say(str(error), "warning")
            return
        self._app.preset = name
        self._show()
        self._screen.say(f"preset {name} loaded: F5 starts it")
