"""A sweep to begin: settings with their values, seeds, how many at once. The engine says what is wrong, and what it
will be."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import HorizontalGroup, Vertical
from textual.content import Content
from textual.widgets import Input, Static, TextArea

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.runs.sweep_dir import MOST_JOBS
from rlhf_engine.sweeping.apart import begin_apart
from rlhf_engine.sweeping.prepare import Prepared, SweepRequest, prepare
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.background import run_in_background
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.editing.undo_stack import same_rewards
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import NumberField, TextBox, TextField
from rlhf_tui.widgets.screen import BaseDialog

_HINT = "one setting a line: kl.target=2,4,8 is run with each, train.steps=40 holds for all"


class SweepScreen(BaseDialog[str]):
    """Dismisses with the name of the sweep once its process has begun; with None where nothing did."""

    CSS_PATH = [DIALOG_STYLES, "screen.tcss"]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#settings"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "begin", "Start the sweep", tooltip="Train all these runs, in a process of their own",
                id="sweep.begin", priority=True),
        Binding("escape", "back", "Back", id="sweep.back"),
    ]

    def __init__(self, edited: EditedConfig, questions: CodeQuestions, root: Path) -> None:
        super().__init__()
        self._edited, self._questions, self._root = edited, questions, root
        self._first = "".join(f"{line}\n" for line in differing(edited.original, edited.config))
        self._settings = TextBox(self._first, id="settings")
        self._seeds = TextField("3", id="seeds", max_length=200)
        self._jobs = NumberField(1, whole=True, step=1, low=1, high=MOST_JOBS, id="jobs")
        self._called = TextField(placeholder="after the preset and what varies if left empty", id="name", max_length=64)
        self._said = Static("", id="said", markup=False)
        self._ready: tuple[tuple[object, ...], Prepared] | None = None
        self._sure = self._beginning = False

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(f"Sweep of {clean_line(self._edited.preset)}")
            box.border_subtitle = Content("F5 start · Tab next · Esc back")
            yield Static(_HINT, id="hint", markup=False)
            yield self._settings
            for name, field in (("seeds", self._seeds), ("at once", self._jobs), ("name", self._called)):
                with HorizontalGroup(classes="row"):
                    yield Static(f"{name:<8}", classes="name", markup=False)
                    yield field
            yield self._said

    def on_mount(self) -> None:
        self._settings.move_cursor(self._settings.document.end)
        self._check()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        """Check as one types."""
        event.stop()
        self._check()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Check as one types."""
        event.stop()
        self._check()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter in a field is no start: that may take hours."""
        event.stop()
        self.focus_next()

    # --- checking ---

    def _asked(self) -> tuple[SweepRequest, int]:
        settings = tuple(line.strip() for line in self._settings.text.splitlines() if line.strip())
        name = self._called.value.strip() or None
        request = SweepRequest(self._edited.preset, settings, self._seeds.value.strip(), name)
        return request, int(self._jobs.number or 0)

    def _check(self, then: Callable[[Prepared], object] = lambda prepared: None) -> None:
        """Say what it would be, or what is wrong; files are looked at for that, beside the screen's thread."""
        self._sure = False
        request, jobs = self._asked()
        if not jobs:
            self._say(f"✗ at once: {self._jobs.allowed}", "$text-error")
            return
        if problem := self._edited_problem():
            self._say(f"✗ {problem}", "$text-error")
            return

        def checked(prepared: Prepared) -> None:
            if not self._sure:  # else a question stands there by now
                self._say(told(prepared), "$text-muted")
            then(prepared)

        def refused(why: str) -> None:
            self._beginning = False
            if not self._sure:
                self._say(f"✗ {why}", "$text-error")

        run_in_background(self, partial(_prepared, request, self._root, jobs), checked, refused, "check sweep")

    def _edited_problem(self) -> str:
        if not self._edited.preset:
            return "a sweep is of a preset: F2 on the workbench saves these settings as one"
        original = self._edited.original
        if original is None or not same_rewards(original, self._edited.config):
            return (f"the rewards on the workbench are not those of {self._edited.preset}: F2 there saves them as a "
                    "preset")
        return ""

    # --- beginning ---

    def action_begin(self) -> None:
        """Start, unless something is wrong."""
        if self._beginning:
            return
        self._beginning = True
        self._questions.settle(self._edited.config, lambda _: self._check(self._begin), refused=self._not_trusted)

    def _not_trusted(self, why: str) -> None:
        self._beginning = False
        self._say(f"✗ {why}", "$text-error")

    def _begin(self, prepared: Prepared) -> None:
        def start() -> str:
            begin_apart(prepared.keep(self._root))
            return prepared.name

        run_in_background(self, start, self.dismiss, self._not_trusted, "begin sweep")

    def action_back(self) -> None:
        """Leave; what was typed is dropped only when told twice."""
        if self._settings.text != self._first and not self._sure:
            self._sure = True
            self._say("⚠ Esc once more drops what was typed; F5 starts the sweep", "$text-warning bold")
        else:
            self.dismiss(None)

    def _say(self, text: str, style: str) -> None:
        self._said.update(Content.styled("\n".join(clean_line(line) for line in clean_text(text).split("\n")), style))


def told(prepared: Prepared) -> str:
    """What a sweep will be, in a sentence."""
    plan = prepared.plan
    axes = " × ".join(str(len(axis.values)) for axis in plan.grid.axes)
    seeds = len(plan.grid.seeds)
    what = f"{axes} × {seeds} seed{'s' * (seeds != 1)}" if axes else f"{seeds} seed{'s' * (seeds != 1)}"
    again = "goes on with" if prepared.sweep else "will be"
    threads = f", each with {plan.threads} CPU thread{'s' * (plan.threads != 1)}" if plan.threads else ""
    runs = f"{len(plan.cells)} run{'s' * (len(plan.cells) != 1)}"
    notes = "".join(f"\n{note}" for note in plan.grid.notes())
    return f"{runs} ({what}), {plan.jobs} at once{threads}; {again} {prepared.name}{notes}"


def differing(original: RunConfig | None, config: RunConfig) -> list[str]:
    """What differs from the preset, as `--set` takes it."""
    if original is None or not same_rewards(original, config):
        return []
    changed: dict[str, Any] = {path: new for path, (_, new) in fields.changed_settings(original, config).items()}
    if original.algorithm.kind != config.algorithm.kind:
        shared = fields.replace(original, {fields.METHOD: config.algorithm.kind})
        changed |= {path: new for path, (_, new) in fields.changed_settings(shared, config).items()}
        changed[fields.METHOD] = config.algorithm.kind
    return [f"{path}={_typed(value)}" for path, value in changed.items() if path != "description"]


def _typed(value: Any) -> str:
    if isinstance(value, list):
        return to_json(value, ascii_only=False)
    if isinstance(value, str) and "," in value:
        return f'"{value}"'
    return repr(value) if isinstance(value, float) else fields.show(value)


def _prepared(request: SweepRequest, root: Path, jobs: int) -> Prepared:
    try:
        return prepare(request, root, jobs)
    except ConfigError as error:
        raise ConfigError("; ".join(problem.removeprefix("--set ") for problem in error.problems)) from None
