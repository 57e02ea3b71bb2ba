"""From the list onto the workbench: view a run, resume it, fork it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from textual.screen import Screen

from rlhf_engine.errors import RlhfError, RunError
from rlhf_engine.requests import Fork
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary
from rlhf_tui.areas.runs.run_control import RunControl
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_selection import RunSelection
from rlhf_tui.areas.trust.changed_base import with_base
from rlhf_tui.areas.trust.changed_data import with_data
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.viewer import Opened, open_run

_BUSY = "a run is in progress here: F5 stops it first"


class RunOpening:
    """Works on one run of the list of `screen`; `leave` closes that screen once the workbench shows the run."""

    def __init__(
        self, screen: Screen[None], bridge: EngineBridge, control: RunControl, questions: CodeQuestions,
        reader: RunReader, selection: RunSelection, leave: Callable[[], object],
    ) -> None:
        self._screen, self._bridge, self._control, self._questions = screen, bridge, control, questions
        self._reader, self._selection, self._leave = reader, selection, leave

    def view(self, run: RunSummary) -> None:
        """Show it on the workbench without driving it."""
        if self._selection.is_shown(run):
            self._leave()
        elif self._bridge.busy:
            self._selection.say(f"{_BUSY}, then others can be opened")
        else:
            self._selection.in_background(lambda: open_run(RunDir(run.path)), self._viewed)

    def _viewed(self, opened: Opened) -> None:
        if self._control.view(opened):
            self._leave()

    def leave_view(self) -> None:
        """Stop viewing."""
        if self._bridge.viewing:
            self._control.leave_view()
            self._selection.done("nothing is viewed any more: F5 starts a run with the settings on the workbench")
        else:
            self._selection.say("no run is viewed")

    def resume(self, run: RunSummary) -> None:
        """Resume it here, from its newest checkpoint."""
        if problem := self.no_resume(run):
            self._selection.say(problem)
        else:
            try:
                self._control.resume(RunDir.open(run.path), lambda: self._resumed(run))
            except RlhfError as error:
                self._selection.done(str(error), "warning")

    def no_resume(self, run: RunSummary) -> str:
        """Why the run cannot be resumed here; empty if it can."""
        if self._bridge.busy:
            return _BUSY
        if run.driven:
            return f"{run.name} is driven by another process: Enter shows it, then t takes it over"
        known = self._reader.figures.get(run.path)
        if known is not None and not known.checkpoints:
            return f"{run.name} has no checkpoint to resume from"
        return ""

    def _resumed(self, run: RunSummary) -> None:
        self._screen.app.notify(f"resuming {run.name} from its newest checkpoint")
        self._leave()

    def fork(self, run: RunSummary) -> None:
        """Choose a checkpoint and what is to change."""
        from rlhf_tui.areas.runs.fork import Forkable, ForkScreen, forkable

        if self._bridge.busy:
            self._selection.say(_BUSY)
            return

        def choose(accept_data: bool, accept_base: bool) -> None:
            def ask(found: Forkable) -> None:
                begin = partial(self._fork, run, accept_data, accept_base)
                self._screen.app.push_screen(ForkScreen(run, found, self._questions, begin), self._forked)

            self._selection.in_background(partial(forkable, RunDir(run.path)), ask)

        app, run_dir = self._screen.app, RunDir(run.path)
        with_data(app, run_dir, lambda accept_data: with_base(app, run_dir, partial(choose, accept_data)))

    def _fork(
        self, run: RunSummary, accept_data: bool, accept_base: bool, step: int, changes: Mapping[str, Any],
        name: str | None,
    ) -> None:
        if name is not None and (self._bridge.runs_root / name).exists():
            raise RunError(f"There is already a run named {name}; choose another name.")
        if accept_data:  # the fork writes down what it is now
            changes = {"data.sha256": None, **changes}
        self._bridge.ask(Fork(run.path, self._bridge.runs_root, changes, step, name, accept_base))
        self._screen.app.notify(f"forking {run.name} at step {step}: the libraries and the model load first")

    def _forked(self, done: bool | None) -> None:
        if done:
            self._control.show_run()
            self._leave()
