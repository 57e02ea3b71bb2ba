"""A fork: from which checkpoint, under which other settings, and what it is called. The engine says what is wrong."""

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

from rlhf_engine.config.fields import changed_settings, replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import CheckpointError, ConfigError, RlhfError
from rlhf_engine.files.disk import NAME, NAME_RULE
from rlhf_engine.runs.checkpoint_list import config_at, missing, steps
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
        self._before: RunConfig | None = None
        self._sure = False
        self._called = TextField(placeholder="made up if left empty", id="name", max_length=64)
        self._list = ChoiceList(*(Option(f"step {step}") for step in self._steps), id="steps", markup=False,
                                compact=True)
        self._settings = ForkSettings(id="changes")
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Fork of {self._run.name}")
            box.border_subtitle = Content("F5 start · Tab next · / find setting · Esc back")
            with Horizontal(id="middle"):
                self._list.border_title = Content("from")
                yield self._list
                self._settings.border_title = Content("under these settings")
                yield self._settings
            with HorizontalGroup(id="name-row"):
                yield Static("name of the fork", classes="name", markup=False)
                yield self._called
            yield self._said

    def on_mount(self) -> None:
        self._list.highlighted = 0

    @property
    def _step(self) -> int:
        return self._steps[self._list.highlighted or 0]

    @property
    def _changes(self) -> dict[str, Any]:
        """What was changed, path -> value."""
        if self._before is None or self._settings.config is None:
            return {}
        return {path: new for path, (_, new) in changed_settings(self._before, self._settings.config).items()}

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Another checkpoint may have other settings; what was changed is changed there, too."""
        event.stop()
        before = self._found.settings[self._step]
        if isinstance(before, str):
            self._say(f"✗ {before}", "$text-error")
            return
        try:
            after = replace(before, self._proposed(before) if self._before is None else self._changes)
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
            return
        self._before = before
        self._settings.load(after, training=False, preset=before, start=before)
        self._check()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """A checkpoint is chosen: on to its settings."""
        event.stop()
        self._settings.focus()

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        """Say what differs now."""
        event.stop()
        self._check()

    def on_hyperparameters_pane_reset_asked(self, event: HyperparametersPane.ResetAsked) -> None:
        """All as in the checkpoint."""
        event.stop()
        if self._before is not None:
            self._settings.load(self._before, training=False, preset=self._before, start=self._before)
            self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the name as one types."""
        event.stop()
        self._check()

    def _proposed(self, before: RunConfig) -> dict[str, Any]:
        """A run that took all its steps has none left for a fork: as many again."""
        over = self._step >= before.train.steps
        return {"train.steps": before.train.steps + self._step} if over else {}

    def _read(self) -> str:
        """What the fork would be, in one sentence. Raises RlhfError."""
        if self._called.value and not NAME.fullmatch(self._called.value):
            raise ConfigError(f"name of the fork: {NAME_RULE}")
        if self._before is None:
            raise ConfigError(f"the checkpoint of step {self._step} cannot be forked from")
        if self._settings.problem:
            raise ConfigError(self._settings.problem)
        after = fork_settings(self._before, self._step, self._changes)
        changed = [edit_text(path, old, new) for path, (old, new) in changed_settings(self._before, after).items()]
        return "; ".join(changed) or "the same settings: the fork will train the same way"

    def _check(self) -> None:
        self._sure = False
        try:
            said = self._read()
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._say(f"from step {self._step}: {said}", "$text-muted")

    def action_begin(self) -> None:
        """Start, unless something is wrong; then everything stays as typed."""
        self._settings.finish()
        try:
            self._read()
            assert self._before is not None, "it was read"
            config = fork_settings(self._before, self._step, self._changes)
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
        before = self._before
        changed = bool(self._called.value) or (before is not None and self._changes != self._proposed(before))
        if changed and not self._sure:
            self._sure = True
            self._say("⚠ Esc once more drops what was changed; F5 starts the fork", "$text-warning bold")
        else:
            self.dismiss(False)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled("\n".join(clean_line(line) for line in clean_text(text).split("\n")), style))
