"""What becomes of a changed setting: it goes into the next run's config and, where a run goes on, to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rlhf_engine.config import fields, presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import RunStarted
from rlhf_engine.requests import Edit
from rlhf_tui.areas.settings_form.setting_rows import same_rewards
from rlhf_tui.editing.undo_stack import Step, UndoStack, step_between
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.clean_text import clean_line

if TYPE_CHECKING:
    from rlhf_tui.app import WorkbenchApp
    from rlhf_tui.areas.workbench.screen import WorkbenchScreen


class Editing:
    """Changes the settings that the workbench shows; `app.config` holds them. show: bring the panes up to date."""

    def __init__(self, screen: WorkbenchScreen, bridge: EngineBridge, show: Callable[[], None]) -> None:
        self._screen, self._bridge, self._show = screen, bridge, show
        self.history = UndoStack()
        self.start: RunConfig | None = None
        """What the run on the screen began with; None before the first."""
        self._original: tuple[str, RunConfig | None] | None = None

    @property
    def original(self) -> RunConfig | None:
        """The settings of the preset as it was loaded; None where that cannot be read."""
        app = self._app
        if self._original is None and not self._bridge.viewing:
            self._original = (app.preset, app.original)
        if self._original is None or self._original[0] != app.preset:
            self._original = (app.preset, _preset_or_none(app.preset))
        return self._original[1]

    @property
    def _app(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self._screen.app)

    # --- changes ---

    def edit(self, path: str, value: object) -> None:
        """Set `path` to `value`: in a run that goes on from its next step, else for the next run."""
        self.change({path: value})

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several settings (path -> value) at once; one undo takes all of them back."""
        app = self._app
        if app.read_only():
            self._show()
            return
        before = app.config
        try:
            changes = {path: (fields.value_at(before, path), value) for path, value in values.items()}
            self._make(Step({path: pair for path, pair in changes.items() if pair[0] != pair[1]}))
        except RlhfError as error:
            self._app.say(clean_line(str(error)), "warning")
            return
        made = step_between(before, app.config)
        self.history.note(made)
        if not made.empty and not self._bridge.busy:
            app.say(f"for the next run: {clean_line(made.told())}")

    def take(self, config: RunConfig) -> None:
        """Take settings of another shape (a reward more, or fewer) for the next run; one undo takes that back."""
        self.history.note(step_between(self._app.config, config))
        self._app.config = config

    def ask_reset(self, values: Mapping[str, Any], fixed: Sequence[str]) -> None:
        """Say what going back to the preset would change (path -> value; `fixed` cannot now), and do it if wanted."""
        from rlhf_tui.areas.settings_form.reset import ResetScreen

        app = self._app
        if app.read_only():
            return
        if not values:
            app.say("these settings are the preset's" if not fixed else
                       f"only {clean_line(', '.join(fixed))} differ from the preset, and that is fixed during a run")
            return
        changes = {path: (fields.value_at(app.config, path), value) for path, value in values.items()}
        asked = ResetScreen(changes, fixed, preset=app.preset, training=self._bridge.busy)
        app.push_screen(asked, lambda wanted: self._reset(values) if wanted else None)

    def _reset(self, values: Mapping[str, Any]) -> None:
        self.change(values)
        self._show()

    def undo(self) -> None:
        """Take the newest change back."""
        self._walk(self.history.undo, "undone", self.history.undid, self.history.drop_undo)

    def redo(self) -> None:
        """Make again what was taken back last."""
        self._walk(self.history.redo, "redone", self.history.redid, self.history.drop_redo)

    def _walk(self, step: Step | None, word: str, done: Callable[[], None], drop: Callable[[], None]) -> None:
        app = self._app
        if app.read_only():
            return
        if step is None:
            app.say(f"there is no change that could be {word}")
        elif fixed := self._fixed(step):
            app.say(f"not {word}: {clean_line(fixed)} was changed before the run began and is fixed until it ends")
        else:
            try:
                self._make(step)
            except RlhfError as error:
                drop()
                app.say(f"not {word}: {clean_line(str(error))}", "warning")
                return
            done()
            if step.name:
                app.preset = step.name[1]
            self._show()
            app.say(f"{word}: {clean_line(step.told())}")

    def _fixed(self, step: Step) -> str:
        """The setting of `step` that may not change now; empty when all may."""
        if not self._bridge.busy:
            return ""
        if step.name or step.whole:
            return "the preset" if step.name else "the list of rewards"
        live = {item.path: item.live for item in fields.settings(self._app.config)}
        return next((path for path in step.changes if not live.get(path)), "")

    def _make(self, step: Step) -> None:
        """Take `step` into the config, and tell the engine. Raises ConfigError."""
        app = self._app
        app.config = step.made_to(app.config)
        if not self._bridge.busy:
            return
        for path, (_, value) in step.changes.items():
            if fields.setting_at(app.config, path).live:
                self._bridge.ask(Edit(path, value))
            else:
                self._app.say(f"{path} takes effect with the next start: it cannot change while training")

    # --- what a run says ---

    def begun(self, event: RunStarted, *, goes_on: bool) -> None:
        """A run has begun, or (`goes_on`) the one on the screen was resumed."""
        if not goes_on or self.start is None:
            self.start = event.config
        if self._bridge.view.has_own_settings:
            self.adopt()
        else:
            self._show()

    def revert(self, path: str) -> None:
        """Show what the engine uses at `path`, since it refused what was wanted."""
        self.history.forget(path)
        running = self._bridge.view.config
        if running is not None:
            app = self._app
            try:
                app.config = fields.replace(app.config, {path: fields.value_at(running, path)})
            except (RlhfError, LookupError, AttributeError):
                return
            self._show()

    def adopt(self) -> None:
        """Show the settings that a run came with: one that is driven elsewhere, or that goes on here."""
        if self._bridge.view.has_own_settings and self._bridge.view.config is not None:
            self._app.config = self._bridge.view.config
            self._app.preset = self._bridge.view.preset
            self.history.clear()
            self._show()

    def load_preset(self, name: str) -> None:
        """Take the settings of a preset for the next run."""
        app = self._app
        try:
            config = presets.load(name)
        except RlhfError as error:
            self._app.say(str(error), "warning")
            return
        self.history.note(step_between(app.config, config, (app.preset, name)))
        app.config, app.preset, self._original = config, name, (name, config)
        self._show()
        self._app.say(f"preset {name} loaded: F5 starts it")

    def in_editor(self, text: str | None = None) -> None:
        """All settings as TOML in the user's own editor; text: what was written there before, and was not allowed."""
        from rlhf_engine.config.preset_text import parse
        from rlhf_engine.config.preset_writer import to_toml
        from rlhf_tui.terminal.own_editor import edited
        from rlhf_tui.widgets.dialogs import SureScreen

        app, name = self._app, "settings.toml"
        if app.read_only():
            return
        try:
            text = edited(app, to_toml(app.config) if text is None else text, name)
        except RlhfError as error:
            app.say(clean_line(str(error)), "warning")
            return
        try:
            config = parse(text, name, Path.cwd())
        except RlhfError as error:
            asked = SureScreen("Not allowed", f"{error}\n\nOpen the editor again, with what was written?", lambda: None)
            app.push_screen(asked, lambda again: self.in_editor(text) if again else None)
            return
        if same_rewards(app.config, config):
            self.change({path: new for path, (_, new) in fields.changed_settings(app.config, config).items()})
        elif self._bridge.busy:
            app.say("nothing was changed: rewards are added and taken out between runs", "warning")
        else:
            self.take(config)
            app.say("for the next run: settings as written, with other rewards")
        self._show()

    def saved(self, name: str) -> None:
        """The settings were kept as the preset `name`, which is the open one from now on."""
        app = self._app
        app.preset, self._original = name, (name, app.config)
        self._show()
        self._screen.show_run()


def _preset_or_none(name: str) -> RunConfig | None:
    try:
        return presets.load(name) if name else None
    except RlhfError:
        return None
