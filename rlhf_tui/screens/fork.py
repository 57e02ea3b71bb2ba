"""A fork: which checkpoint, which settings change, what the run is called. The engine says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, HorizontalGroup, Vertical
from textual.content import Content
from textual.widgets import Input, Static, TextArea
from textual.widgets.option_list import Option

from rlhf_engine import presets
from rlhf_engine.checkpoint_list import config_at, missing, steps
from rlhf_engine.disk import NAME, NAME_RULE
from rlhf_engine.errors import CheckpointError, ConfigError, RlhfError
from rlhf_engine.fields import changed_settings, show
from rlhf_engine.run_dir import RunDir
from rlhf_engine.run_list import RunSummary
from rlhf_engine.run_settings import fork_settings
from rlhf_tui.clean_text import clean_line, clean_text
from rlhf_tui.screens.base import BaseDialog
from rlhf_tui.screens.run_dialogs import TextBox
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.inputs import TextField

_HINT = "one change a line, such as  kl.coef = 0.2   train.steps = 200"


class Begin(Protocol):
    """Starts the fork; raises RlhfError."""

    def __call__(self, step: int, changes: Mapping[str, Any], name: str | None) -> None: ...


class ForkScreen(BaseDialog[bool]):
    """Dismisses with True once the fork has begun."""

    CSS_PATH = "runs.tcss"
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#changes"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "begin", "Start the fork", tooltip="A new run with these settings", id="fork.begin",
                priority=True),
        Binding("escape", "back", "Back", id="fork.back", priority=True),
    ]

    def __init__(self, run: RunSummary, begin: Begin) -> None:
        """Raises RlhfError if the run has no checkpoint."""
        super().__init__()
        self._run, self._begin = run, begin
        self._dir = RunDir.open(run.path)
        self._steps = steps(self._dir)
        if not self._steps:
            raise CheckpointError(missing(self._dir, None))
        self._sure = False
        self._called = TextField(placeholder="made up if left empty", id="name", max_length=64)
        self._list = ChoiceList(*(Option(f"step {step}") for step in self._steps), id="steps", markup=False,
                                compact=True)
        # a run that took all its steps has none left for a fork
        over = run.total_steps and self._steps[0] >= run.total_steps
        self._proposed = f"train.steps = {2 * run.total_steps}\n" if over else ""
        self._changes = TextBox(self._proposed, id="changes")
        self._said = Static("", id="said", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Fork of {self._run.name}")
            box.border_subtitle = Content("F5 start · Tab next · Esc back")
            with HorizontalGroup(id="name-row"):
                yield Static("name", classes="name", markup=False)
                yield self._called
            with Horizontal(id="middle"):
                yield self._list
                yield self._changes
            yield self._said
            yield Static(_HINT, id="hint", markup=False)

    def on_mount(self) -> None:
        self._list.highlighted = 0
        self._changes.move_cursor(self._changes.document.end)
        self._check()

    @property
    def _step(self) -> int:
        return self._steps[self._list.highlighted or 0]

    def on_option_list_option_highlighted(self) -> None:
        """Another checkpoint has other settings."""
        self._check()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Check as one types."""
        event.stop()
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check the name too."""
        event.stop()
        self._check()

    def _read(self) -> tuple[dict[str, Any], str]:
        """The changes, and a sentence about them. Raises RlhfError."""
        if self._called.value and not NAME.fullmatch(self._called.value):
            raise ConfigError(f"name: {NAME_RULE}")
        before = config_at(self._dir, self._step)
        lines = [line.strip() for line in self._changes.text.splitlines()]
        try:
            changes = presets.parse_overrides(before, [line for line in lines if line and not line.startswith("#")])
        except ConfigError as error:
            raise ConfigError([problem.removeprefix("--set ") for problem in error.problems]) from None
        after = fork_settings(before, self._step, changes)
        changed = [f"{path} {show(old)} → {show(new)}" for path, (old, new) in changed_settings(before, after).items()]
        return changes, "; ".join(changed) or "the same settings: the fork then takes the same course"

    def _check(self) -> None:
        self._sure = False
        try:
            said = self._read()[1]
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self._say(f"from step {self._step}: {said}", "$text-muted")

    def action_begin(self) -> None:
        """Start, unless something is wrong; then everything stays as typed."""
        try:
            changes, _ = self._read()
            self._begin(self._step, changes, self._called.value or None)
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
        else:
            self.dismiss(True)

    def action_back(self) -> None:
        """Leave; what was typed is dropped only when told twice."""
        typed = self._changes.text.strip()
        if typed not in ("", self._proposed.strip()) and not self._sure:
            self._sure = True
            self._say("⚠ Esc once more drops what was typed; F5 starts the fork", "$text-warning bold")
        else:
            self.dismiss(False)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled("\n".join(clean_line(line) for line in clean_text(text).split("\n")), style))
