"""The config as it is being edited: a change goes into the next run and, where one trains here, to the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rlhf_engine.config import fields, presets
from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, RlhfError
from rlhf_engine.events import RunStarted
from rlhf_engine.requests import Edit
from rlhf_tui.editing.undo_stack import Step, UndoStack, same_rewards, step_between
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.read_only import Say, read_only
from rlhf_tui.terminal.clean_text import clean_line


class EditedConfig:
    """`config` is what the next start uses, with the edits made so far; `preset` is where it came from.

    original: the preset's own config, where `config` differs, as by options of the command line. say: tells a person
    what became of an edit. Whoever shows the config `follows` it.
    """

    def __init__(
        self, bridge: EngineBridge, config: RunConfig, preset: str = "", *, original: RunConfig | None = None, say: Say,
    ) -> None:
        self.config, self.preset = config, preset
        self.undo_stack = UndoStack()
        self.start: RunConfig | None = None
        """What the run on the screen began with; None before the first."""
        self._bridge, self._say = bridge, say
        self._first_original = original or config
        self._original: tuple[str, RunConfig | None] | None = None
        self._followers: list[Callable[[], object]] = []

    @property
    def method(self) -> AlgorithmConfig:
        """How the run on the screen learns; before there is one, how the next will."""
        return (self._bridge.view.config or self.config).algorithm

    @property
    def original(self) -> RunConfig | None:
        """The config of the preset as it was loaded; None where that cannot be read."""
        if self._original is None and not self._bridge.viewing:
            self._original = (self.preset, self._first_original)
        if self._original is None or self._original[0] != self.preset:
            self._original = (self.preset, _preset_or_none(self.preset))
        return self._original[1]

    def follow(self, show: Callable[[], object]) -> None:
        """Call `show` whenever the config has changed otherwise than in a field that shows it by itself."""
        self._followers.append(show)

    def _changed(self) -> None:
        for show in self._followers:
            show()

    # --- changes ---

    def read_only(self) -> bool:
        """True, and said, while nothing can be changed since the run is only viewed."""
        return read_only(self._bridge, self._say)

    def edit(self, path: str, value: object) -> None:
        """Set `path` to `value`: in a run that trains here from its next step, else for the next run."""
        self.change({path: value})

    def change(self, values: Mapping[str, Any]) -> None:
        """Set several settings (path -> value) at once; one undo takes all of them back."""
        if self.read_only():
            self._changed()
            return
        before = self.config
        try:
            if values.get(fields.METHOD, before.algorithm.kind) != before.algorithm.kind:
                self._make(Step(whole=(before, self._with_method(values))))
            else:
                changes = {path: (fields.value_at(before, path), value) for path, value in values.items()}
                self._make(Step({path: pair for path, pair in changes.items() if pair[0] != pair[1]}))
        except RlhfError as error:
            self._say(clean_line(str(error)), "warning")
            return
        made = step_between(before, self.config)
        self.undo_stack.note(made)
        if not made.empty and not self._bridge.busy:
            self._say(f"for the next run: {clean_line(made.told())}")
        if made.whole:
            self._changed()

    def _with_method(self, values: Mapping[str, Any]) -> RunConfig:
        """The config with another method: as the preset has it, where that is the preset's. Raises ConfigError."""
        if self._bridge.busy:
            raise ConfigError(f"{fields.METHOD}: the method is chosen between runs")
        method, original = values[fields.METHOD], self.original
        own: dict[str, Any] = {}
        if original is not None and original.algorithm.kind == method:
            shared = {item.path for item in fields.settings(self.config)}
            own = {item.path: fields.value_at(original, item.path) for item in fields.settings(original)
                   if item.section == "algorithm" and item.path not in shared}
        return fields.replace(self.config, {**own, **values})

    def reset(self, values: Mapping[str, Any]) -> None:
        """As `change`, for values that were the preset's."""
        self.change(values)
        self._changed()

    def replace(self, config: RunConfig) -> None:
        """Take a config of another shape (a reward more, or fewer) for the next run; one undo takes that back."""
        self.undo_stack.note(step_between(self.config, config))
        self.config = config

    def replace_by_text(self, config: RunConfig) -> None:
        """Take a config that was written as text."""
        if same_rewards(self.config, config):
            self.change({path: new for path, (_, new) in fields.changed_settings(self.config, config).items()})
        elif self._bridge.busy:
            self._say("nothing was changed: rewards are added and taken out between runs", "warning")
        else:
            self.replace(config)
            self._say("for the next run: settings as written, with other rewards")
        self._changed()

    def undo(self) -> None:
        """Take the newest change back."""
        self._walk(self.undo_stack.undo, "undone", self.undo_stack.undid, self.undo_stack.drop_undo)

    def redo(self) -> None:
        """Make again what was taken back last."""
        self._walk(self.undo_stack.redo, "redone", self.undo_stack.redid, self.undo_stack.drop_redo)

    def _walk(self, step: Step | None, word: str, done: Callable[[], None], drop: Callable[[], None]) -> None:
        if self.read_only():
            return
        if step is None:
            self._say(f"there is no change that could be {word}")
        elif fixed := self._fixed(step):
            self._say(f"not {word}: {clean_line(fixed)} was changed before the run began and is fixed until it ends")
        else:
            try:
                self._make(step)
            except RlhfError as error:
                drop()
                self._say(f"not {word}: {clean_line(str(error))}", "warning")
                return
            done()
            if step.name:
                self.preset = step.name[1]
            self._changed()
            self._say(f"{word}: {clean_line(step.told())}")

    def _fixed(self, step: Step) -> str:
        """The setting of `step` that may not change now; empty when all may."""
        if not self._bridge.busy:
            return ""
        if step.name or step.whole:
            return "the preset" if step.name else "the list of rewards"
        live = {item.path: item.live for item in fields.settings(self.config)}
        return next((path for path in step.changes if not live.get(path)), "")

    def _make(self, step: Step) -> None:
        """Take `step` into the config, and tell the engine. Raises ConfigError."""
        self.config = step.made_to(self.config)
        if not self._bridge.busy:
            return
        for path, (_, value) in step.changes.items():
            if fields.setting_at(self.config, path).live:
                self._bridge.ask(Edit(path, value))
            else:
                self._say(f"{path} takes effect with the next start: it cannot change while training")

    # --- what a run says ---

    def begun(self, event: RunStarted, *, resumed: bool) -> None:
        """A run has begun, or (`resumed`) the one on the screen was resumed."""
        if not resumed or self.start is None:
            self.start = event.config
        if self._bridge.view.has_own_settings:
            self.adopt()
        else:
            self._changed()

    def revert(self, path: str) -> None:
        """Show what the engine uses at `path`, since it refused what was asked for."""
        self.undo_stack.forget(path)
        running = self._bridge.view.config
        if running is not None:
            try:
                self.config = fields.replace(self.config, {path: fields.value_at(running, path)})
            except (RlhfError, LookupError, AttributeError):
                return
            self._changed()

    def adopt(self) -> None:
        """Take the config that a run came with: one that is driven elsewhere, or that was resumed or forked here."""
        if self._bridge.view.has_own_settings and self._bridge.view.config is not None:
            self.config, self.preset = self._bridge.view.config, self._bridge.view.preset
            self.undo_stack.clear()
            self._changed()

    # --- presets ---

    def load_preset(self, name: str) -> None:
        """Take the settings of a preset for the next run."""
        try:
            config = presets.load(name)
        except RlhfError as error:
            self._say(str(error), "warning")
            return
        self._original = (name, config)
        self.load(config, name)
        self._say(f"preset {name} loaded: F5 starts it")

    def load(self, config: RunConfig, preset: str) -> None:
        """Take a config that came from a preset for the next run; one undo takes that back."""
        self.undo_stack.note(step_between(self.config, config, (self.preset, preset)))
        self.config, self.preset = config, preset
        self._changed()

    def saved(self, name: str) -> None:
        """The config was kept as the preset `name`, which is the open one from now on."""
        self.preset, self._original = name, (name, self.config)
        self._changed()


def _preset_or_none(name: str) -> RunConfig | None:
    try:
        return presets.load(name) if name else None
    except RlhfError:
        return None
