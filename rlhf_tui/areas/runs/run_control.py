"""What keys do with the run on the screen: start, stop, pause, save, take over, resume, fork, view."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from textual.app import App

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import RunState
from rlhf_engine.requests import Edit, Pause, Resume, SaveCheckpoint, Start, Stop, Unpause
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.read_only import Say, read_only
from rlhf_tui.engine.viewer import Opened


class RunControl:
    """Asks a person what has to be asked, then the engine. `show_run` shows another run, or state, before the engine
    has said so."""

    def __init__(
        self, app: App[Any], bridge: EngineBridge, edited: EditedConfig, questions: CodeQuestions, *, say: Say,
        show_run: Callable[[], object],
    ) -> None:
        self._app, self._bridge, self._edited, self._questions = app, bridge, edited, questions
        self._say, self.show_run = say, show_run

    def read_only(self) -> bool:
        """True, and said, while the run on the screen is not driven from here."""
        return read_only(self._bridge, self._say)

    # --- the run that is driven from here ---

    def start_or_stop(self) -> None:
        """Start a run with the edited config, or stop the one that trains after its step."""
        if self.read_only():
            return
        if self._bridge.busy:
            self._bridge.ask(Stop())
            self._say(f"stopping after step {self._bridge.view.step + 1}, with a checkpoint")
            return
        self.start()

    def start(self, name: str | None = None) -> None:
        """Start a run with the edited config, called `name`."""
        forms = [form for screen in self._app.screen_stack for form in screen.query(HyperparametersPane)]
        if problem := next(filter(None, (form.problem for form in forms)), ""):
            self._say(f"not started: {problem}", "warning")
            return
        config, preset = self._edited.config, self._edited.preset
        self._questions.settle(config, lambda _: self._start(config, preset, name))

    def _start(self, config: RunConfig, preset: str, name: str | None) -> None:
        try:
            self._bridge.ask(Start(config, self._bridge.runs_root, name, preset))
            self._say("starting: the first step waits for the libraries and the model to load")
        except RlhfError as error:
            self._say(str(error), "warning")
        self.show_run()

    def pause_or_resume(self) -> None:
        """Pause after this step, or end the pause."""
        if self.read_only():
            return
        if not self._bridge.busy:
            self._say("nothing is running: F5 starts")
            return
        held = self._bridge.state is RunState.PAUSED or self._bridge.view.pending_state == "pausing"
        self._bridge.ask(Unpause() if held else Pause())
        self.show_run()

    def save_checkpoint(self) -> None:
        """Save after this step."""
        if self.read_only():
            return
        if self._bridge.busy:
            self._bridge.ask(SaveCheckpoint())
            self._say("saving a checkpoint after this step")
        else:
            self._say("nothing is running: there is nothing new to save")

    # --- a run that is driven elsewhere, or by nobody ---

    def take_over(self) -> None:
        """Drive the viewed run from here, or resume the one on the screen that has ended."""
        run = self._bridge.watched or (self._bridge.run_path if self._bridge.state else None)
        if self._bridge.busy:
            self._say("the run is driven from here: there is nothing to take over")
        elif run is None:
            self._say("there is no run to resume yet: F5 starts one, r shows those there are")
        elif self._bridge.lost:
            self._say(self._bridge.lost, "warning")
        elif self._bridge.taking_over:
            self._say("taking over: that process has not left yet")
        else:
            ended = self._bridge.state is not None and self._bridge.state.ended
            said = "resuming: the model loads first" if ended else (
                "taking over: the process that drives the run finishes its step, saves and leaves")
            self.resume(RunDir(run), lambda: self._say(said))

    def resume(self, run_dir: RunDir, then: Callable[[], object]) -> None:
        """Resume here a run that is viewed, or that nobody drives, then do `then`.

        Asks first: how much longer, where it has finished; whether to, where its reward's code, its data or its base
        have changed.
        """
        from rlhf_tui.areas.runs.more_steps import MoreStepsScreen

        status = run_dir.status()
        if status is None or not 0 < status.total_steps <= status.step:
            self._resume(run_dir, None, then)
            return
        total = status.total_steps

        def after(more: int | None) -> None:
            if more is not None:
                self._resume(run_dir, total + more if more else None, then)

        self._app.push_screen(MoreStepsScreen(run_dir.name, total), after)

    def _resume(self, run_dir: RunDir, steps: int | None, then: Callable[[], object]) -> None:
        from rlhf_tui.areas.trust.changed_base import with_base
        from rlhf_tui.areas.trust.changed_data import with_data

        shown = self._bridge.watched

        def take(accept_code: bool, accept_data: bool, accept_base: bool) -> None:
            if self._bridge.busy or self._bridge.watched != shown:  # looking at a large model takes a while
                return
            try:
                if shown != run_dir.path:
                    self._bridge.watch(run_dir)
            except RlhfError as error:
                self._say(str(error), "warning")
                return
            longer = [] if steps is None else [Edit("train.steps", steps)]
            self._bridge.take_over(Resume(run_dir.path, accept_code, accept_base, accept_data), *longer)
            self.show_run()
            then()

        def look(accept_code: bool) -> None:
            with_data(self._app, run_dir, lambda accept_data: with_base(
                self._app, run_dir, partial(take, accept_code, accept_data)))

        try:
            config = settings_now(run_dir)
        except RlhfError:
            look(False)  # what is wrong with the run is told when it is resumed
        else:
            self._questions.settle(config, look, goes_on=True, of=run_dir)

    def view(self, opened: Opened) -> bool:
        """Show a run without driving it; False where one was started meanwhile."""
        if self._bridge.busy:
            opened.follower.close()
            return False
        self._bridge.watch(opened)
        self.show_run()
        return True

    def leave_view(self) -> None:
        """Show the viewed run no more."""
        self._bridge.unwatch()
        self.show_run()
