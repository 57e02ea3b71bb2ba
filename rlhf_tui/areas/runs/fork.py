"""A fork: from which checkpoint, by which method and other settings, and what it is called. The engine says what is
wrong, and what another method takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, HorizontalGroup, Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.config.fields import METHOD, changed_settings, replace, settings
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RlhfError
from rlhf_engine.files.disk import NAME, NAME_RULE
from rlhf_engine.runs.checkpoint_list import config_at, missing, steps
from rlhf_engine.runs.method_change import settings_under, taken_over
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary
from rlhf_engine.runs.run_settings import fork_settings
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.setting_rows import fork_rows
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.editing.change_text import edit_text
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.screen import BaseDialog

_MOST_STEPS = 200  # a run keeps some forty at the most


class Begin(Protocol):
    """Starts the fork; raises RlhfError."""

    def __call__(self, step: int, changes: Mapping[str, Any], name: str | None) -> None: ...


@dataclass(frozen=True)
class Forkable:
    """What a run can be forked from: the steps of its checkpoints, the newest first, and the settings in each, or why
    they cannot be read."""

    steps: list[int]
    settings: dict[int, RunConfig | str]


def forkable(run: RunDir) -> Forkable:
    """Reads that: not for the screen's thread. Raises CheckpointError if the run has no checkpoint."""
    there = steps(RunDir.open(run.path))[:_MOST_STEPS]
    if not there:
        raise CheckpointError(missing(run, None))
    found: dict[int, RunConfig | str] = {}
    for step in there:
        try:
            found[step] = config_at(run, step)
        except CheckpointError as error:
            found[step] = str(error)
    return Forkable(there, found)


class ForkSettings(HyperparametersPane):
    """The settings that a fork may have otherwise."""

    rows_of = staticmethod(fork_rows)


class ForkScreen(BaseDialog[bool]):
    """Dismisses with True once the fork has begun."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#steps"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "begin", "Start the fork", tooltip="A new run with these settings", id="fork.begin",
                priority=True),
        Binding("escape", "back", "Back", id="fork.back"),
    ]

    def __init__(self, run: RunSummary, found: Forkable, questions: CodeQuestions, begin: Begin) -> None:
        super().__init__()
        self._run, self._found, self._questions, self._begin = run, found, questions, begin
        self._steps = found.steps
        self._kinds = algorithm_kinds()
        self._before: RunConfig | None = None
        self._origin: RunConfig | None = None  # as `before`, by the method that was chosen
        self._refused = ""  # why that cannot be
        self._offered: dict[str, Any] = {}
        self._sure = False
        self._called = TextField(placeholder="made up if left empty", id="name", max_length=64)
        self._list = ChoiceList(*(Option(f"step {step}") for step in self._steps), id="steps", markup=False,
                                compact=True)
        self._methods = ChoiceList(*(Option(method.title) for method in self._kinds.values()), id="methods",
                                   markup=False, compact=True)
        self._settings = ForkSettings(id="changes")
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Fork of {self._run.name}")
            box.border_subtitle = Content("F5 start · Tab next · / find setting · Esc back")
            with Horizontal(id="middle"):
                with Vertical(id="origin"):
                    self._list.border_title = Content("from")
                    yield self._list
                    self._methods.border_title = Content("by")
                    yield self._methods
                self._settings.border_title = Content("under these settings")
                yield self._settings
            with HorizontalGroup(id="name-row"):
                yield Static("name of the fork", classes="name", markup=False)
                yield self._called
            yield self._said

    def on_mount(self) -> None:
        read = (found for found in self._found.settings.values() if not isinstance(found, str))
        kind = next((found.algorithm.kind for found in read), "")
        self._methods.highlighted = list(self._kinds).index(kind) if kind in self._kinds else None
        self._list.highlighted = 0

    @property
    def _step(self) -> int:
        return self._steps[self._list.highlighted or 0]

    @property
    def _changes(self) -> dict[str, Any]:
        """What was changed, path -> value, the method included."""
        if self._before is None or self._origin is None or self._settings.config is None:
            return {}
        kind = self._origin.algorithm.kind
        method = {} if kind == self._before.algorithm.kind else {METHOD: kind}
        changed = changed_settings(self._origin, self._settings.config)
        return method | {path: new for path, (_, new) in changed.items()}

    def _kind(self, before: RunConfig) -> str:
        """The method that is chosen."""
        at = self._methods.highlighted
        return before.algorithm.kind if at is None else list(self._kinds)[at]

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another checkpoint may have other settings, and another method has some of its own; what was changed is
        changed there, too."""
        event.stop()
        before = self._found.settings[self._step]
        if isinstance(before, str):
            self._refused = before
            self._say(f"✗ {before}", "$text-error")
            return
        typed = {path: value for path, value in self._changes.items()
                 if path != METHOD and self._offered.get(path) != value}
        try:
            kind = self._kind(before)
            origin = before if kind == before.algorithm.kind else settings_under(self._run.name, before, {METHOD: kind})
            offered, there = self._proposed(before, kind), {item.path for item in settings(origin)}
            after = replace(origin, offered | {path: value for path, value in typed.items() if path in there})
        except RlhfError as error:
            self._refused = str(error)
            self._say(f"✗ {error}", "$text-error")
            return
        self._before, self._origin, self._offered, self._refused = before, origin, offered, ""
        self._settings.load(after, training=False, preset=origin, start=origin)
        self._check()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A checkpoint, or a method, is chosen: on to its settings."""
        event.stop()
        self._settings.focus()

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        """Say what differs now."""
        event.stop()
        self._check()

    def on_hyperparameters_pane_reset_asked(self, event: HyperparametersPane.ResetAsked) -> None:
        """All as in the checkpoint, by the method that was chosen."""
        event.stop()
        if self._origin is not None:
            self._settings.load(self._origin, training=False, preset=self._origin, start=self._origin)
            self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the name as one types."""
        event.stop()
        self._check()

    def _proposed(self, before: RunConfig, kind: str) -> dict[str, Any]:
        """A run that took all its steps has none left for a fork: as many again. Another method begins at step 0."""
        over = self._step >= before.train.steps and kind == before.algorithm.kind
        return {"train.steps": before.train.steps + self._step} if over else {}

    def _config(self) -> RunConfig:
        """What the fork would train under. Raises RlhfError."""
        if self._called.value and not NAME.fullmatch(self._called.value):
            raise ConfigError(f"name of the fork: {NAME_RULE}")
        if self._refused:
            raise ConfigError(self._refused)
        if self._before is None:
            raise ConfigError(f"the checkpoint of step {self._step} cannot be forked from")
        if self._settings.problem:
            raise ConfigError(self._settings.problem)
        changes = self._changes
        if METHOD in changes:
            return settings_under(self._run.name, self._before, changes)
        return fork_settings(self._before, self._step, changes)

    def _read(self) -> str:
        """What the fork would be, in a sentence or two. Raises RlhfError."""
        after, origin = self._config(), self._origin
        assert origin is not None, "the settings were read"
        changed = [edit_text(path, old, new) for path, (old, new) in changed_settings(origin, after).items()]
        if METHOD in self._changes:
            said = taken_over(self._run.name, self._step, after)
            return f"{said} {'; '.join(changed)}"
        told = "; ".join(changed) or "the same settings: the fork will train the same way"
        return f"from step {self._step}: {told}"

    def _check(self) -> None:
        self._sure = False
        try:
            said = self._read()
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._say(said, "$text-muted")

    def action_begin(self) -> None:
        """Start, unless something is wrong; then everything stays as typed."""
        self._settings.finish()
        try:
            config = self._config()
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
            return
        self._questions.settle(config, lambda _: self._go(), refused=lambda why: self._say(f"✗ {why}", "$text-error"))

    def _go(self) -> None:
        try:
            self._begin(self._step, self._changes, self._called.value or None)
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self.dismiss(True)

    def action_back(self) -> None:
        """Leave; what was changed is dropped only when told twice."""
        changed = bool(self._called.value) or self._changes != self._offered
        if changed and not self._sure:
            self._sure = True
            self._say("⚠ Esc once more drops what was changed; F5 starts the fork", "$text-warning bold")
        else:
            self.dismiss(False)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled("\n".join(clean_line(line) for line in clean_text(text).split("\n")), style))
