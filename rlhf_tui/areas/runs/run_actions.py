"""What can be done with the runs of the runs screen, one method a deed. Whatever is refused is said in one sentence."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from textual.screen import Screen

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError, RunError
from rlhf_engine.exporting.export_process import Wanted, export_apart
from rlhf_engine.files.disk import NAME, NAME_RULE
from rlhf_engine.requests import Fork, Side
from rlhf_engine.runs.checkpoint_list import steps
from rlhf_engine.runs.run_care import move_to_trash, rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary, parents
from rlhf_engine.runs.run_settings import settings_now
from rlhf_engine.system.units import format_bytes
from rlhf_tui.areas.runs.run_dialogs import NameScreen, NoteScreen
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_table import RunTable
from rlhf_tui.areas.trust.changed_base import with_base
from rlhf_tui.background import run_in_background
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.viewer import Opened, open_run
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.dialogs import SureScreen
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine

if TYPE_CHECKING:
    from rlhf_tui.app import WorkbenchApp

T = TypeVar("T")

_BUSY = "a run is in progress here: F5 stops it first"
_NAMED = 6


class RunActions(BaseScreen[None]):
    """Works on the run under the cursor, or on those that are marked."""

    def __init__(self, bridge: EngineBridge) -> None:
        super().__init__()
        self._bridge = bridge
        self._reader = RunReader(self, bridge.runs_root)
        self._table = RunTable(id="table")
        self._alarm = AlarmLine(id="alarm")

    @property
    def _workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    @property
    def _marked(self) -> list[RunSummary]:
        """The marked runs, in the order in which they were marked."""
        by_path = {run.path: run for run in self._reader.runs}
        return [by_path[path] for path in self._table.marked if path in by_path]

    def _chosen(self) -> list[RunSummary]:
        """The marked runs, or else the one under the cursor."""
        return self._marked or ([self._table.selected] if self._table.selected else [])

    def _two(self) -> tuple[RunSummary, RunSummary] | None:
        """Two runs: both marked, or one and that under the cursor, or a fork and where it came from; else it says how.
        """
        marked, here = self._marked, self._table.selected
        if len(marked) == 1 and here is not None and here.path != marked[0].path:
            return marked[0], here
        if len(marked) == 2:
            return marked[0], marked[1]
        parent = parents(self._reader.runs).get(here.name) if here and not marked else None
        if here and parent:
            return parent, here
        self._alarm.say("m marks runs: this takes two of them" if len(marked) < 3 else
                        f"{len(marked)} runs are marked: this takes two of them")
        return None

    def _done(self, text: str, level: str = "info") -> None:
        self._alarm.say(text, level)
        self._reader.read()

    def _in_background(self, job: Callable[[], T], then: Callable[[T], object]) -> None:
        """Do `job` in a thread, for it reads a disk, then `then` here; what is wrong is said, and the list read again.
        """
        run_in_background(self, job, then, lambda why: self._done(why, "warning"), "runs")

    # --- onto the workbench ---

    def on_run_table_opened(self, event: RunTable.Opened) -> None:
        """Show a run there without driving it."""
        run = event.run
        if run.path == self._table.shown_run:
            self.dismiss()
        elif self._bridge.busy:
            self._alarm.say(f"{_BUSY}, then others can be opened")
        else:
            self._in_background(lambda: open_run(RunDir(run.path)), self._watch)

    def action_open(self) -> None:
        """What Enter does."""
        self._table.action_open()

    def action_resume(self) -> None:
        """Go on with the run under the cursor."""
        run = self._table.selected
        if run is None:
            return
        if problem := self._no_resume(run):
            self._alarm.say(problem)
        else:
            try:
                self._workbench.go_on(RunDir.open(run.path), lambda: self._resumed(run))
            except RlhfError as error:
                self._done(str(error), "warning")

    def _no_resume(self, run: RunSummary) -> str:
        """Why the run cannot be gone on with here; empty if it can."""
        if self._bridge.busy:
            return _BUSY
        if run.driven:
            return f"{run.name} is driven by another process: Enter shows it, then t takes it over"
        known = self._reader.figures.get(run.path)
        if known is not None and not known.checkpoints:
            return f"{run.name} has no checkpoint to resume from"
        return ""

    def _resumed(self, run: RunSummary) -> None:
        self._workbench.say(f"resuming {run.name} from its newest checkpoint")
        self.dismiss()

    def action_leave_view(self) -> None:
        """Stop viewing."""
        if self._bridge.viewing:
            self._bridge.unwatch()
            self._workbench.workbench.show_run()
            self._done("nothing is viewed any more: F5 starts a run with the settings on the workbench")
        else:
            self._alarm.say("no run is viewed")

    def _watch(self, opened: Opened) -> None:
        if self._bridge.busy:  # started meanwhile
            opened.follower.close()
            return
        self._bridge.watch(opened)
        self._workbench.workbench.show_run()
        self.dismiss()

    def action_fork(self) -> None:
        """Choose a checkpoint and what is to change."""
        from rlhf_tui.areas.runs.fork import Forkable, ForkScreen, forkable

        run = self._table.selected
        if run is None:
            return
        if self._bridge.busy:
            self._alarm.say(_BUSY)
            return

        def choose(accept_base: bool) -> None:
            def ask(found: Forkable) -> None:
                self.app.push_screen(ForkScreen(run, found, partial(self._fork, run, accept_base)), self._forked)

            self._in_background(partial(forkable, RunDir(run.path)), ask)

        with_base(self.app, RunDir(run.path), choose)

    def _fork(
        self, run: RunSummary, accept_base: bool, step: int, changes: Mapping[str, Any], name: str | None
    ) -> None:
        if name is not None and (self._bridge.runs_root / name).exists():
            raise RunError(f"There is already a run named {name}; choose another name.")
        self._bridge.ask(Fork(run.path, self._bridge.runs_root, changes, step, name, accept_base))
        self._workbench.say(f"forking {run.name} at step {step}: the libraries and the model load first")

    def _forked(self, done: bool | None) -> None:
        if done:
            self._workbench.workbench.show_run()
            self.dismiss()

    def action_export(self) -> None:
        """Ask which checkpoint goes where."""
        from rlhf_tui.areas.runs.export import ExportScreen

        run = self._table.selected
        if run is None:
            return

        def ask(saved: list[int]) -> None:
            if saved:
                self.app.push_screen(ExportScreen(run, saved, self._export))
            else:
                self._alarm.say(f"{run.name} has no checkpoint to export yet")

        self._in_background(partial(steps, RunDir(run.path)), ask)

    def _export(self, wanted: Wanted) -> None:
        def go_on(accept_base: bool) -> None:
            # no worker, which would have to end before the app could: the process ends its export by itself
            arguments = (self._workbench, replace(wanted, accept_base=accept_base))
            threading.Thread(target=self._export_apart, args=arguments, name="export", daemon=True).start()
            self._workbench.say(f"exporting {wanted.run.name}@{wanted.step}: that loads the model in another process")

        with_base(self._workbench, RunDir(wanted.run), go_on)

    @staticmethod
    def _export_apart(app: WorkbenchApp, wanted: Wanted) -> None:
        try:
            said, level = export_apart(wanted), "info"
        except RlhfError as error:
            said, level = f"not exported: {error}", "warning"
        with suppress(RuntimeError):  # the app has gone; the export is whole all the same
            app.call_from_thread(app.say, clean_line(said), level)

    # --- two or more ---

    def action_settings(self) -> None:
        """What differs between the settings of two runs."""
        from rlhf_tui.areas.runs.differences import DifferencesScreen

        if two := self._two():
            names = (two[0].name, two[1].name)
            self._in_background(lambda: (_settings(two[0]), _settings(two[1])),
                        lambda found: self.app.push_screen(DifferencesScreen(names, found)))

    def action_compare(self) -> None:
        """What the newest checkpoints of two runs answer."""
        from rlhf_tui.areas.compare.screen import CompareScreen

        if two := self._two():
            sides = (Side("checkpoint", two[0].path), Side("checkpoint", two[1].path))
            self._in_background(lambda: _settings(two[0]),
                        lambda config: self.app.push_screen(CompareScreen(self._bridge, config, sides)))

    def action_overlay(self) -> None:
        """Read the curves of the chosen runs for the charts."""
        for run in self._chosen():
            self._workbench.workbench.overlays.lay(RunDir(run.path))

    def action_clear_overlays(self) -> None:
        """Only the workbench's own curves again."""
        self._workbench.workbench.overlays.clear()
        self._alarm.say("the charts show the workbench's run alone")

    # --- names, notes, trash ---

    def action_rename(self) -> None:
        """Ask for another name."""
        run = self._table.selected
        if run is None or self._shown(run):
            return
        taken = {other.path.name for other in self._reader.runs}

        def check(name: str) -> str:
            if not NAME.fullmatch(name):
                return NAME_RULE
            return f"there is a run named {name}" if name in taken and name != run.path.name else ""

        self._ask(NameScreen(run.name, check, lambda name: rename_run(RunDir.open(run.path), name)), "renamed")

    def action_note(self) -> None:
        """Write about the run."""
        run = self._table.selected
        if run is not None:
            self._ask(NoteScreen(run.name, run.note, lambda text: RunDir.open(run.path).write_note(text)), "note kept")

    def action_delete(self) -> None:
        """Ask, then move into the trash."""
        runs = self._chosen()
        if not runs or any(self._shown(run) for run in runs):
            return
        names = ", ".join(run.name for run in runs[:_NAMED]) + (" …" if len(runs) > _NAMED else "")
        found = [self._reader.figures[run.path].bytes for run in runs if run.path in self._reader.figures]
        what = f"the run {names}" if len(runs) == 1 else f"{len(runs)} runs ({names})"
        text = f"Delete {what}, {format_bytes(sum(found))}?\n\nInto the trash: T restores from there, or empties it."
        self._ask(SureScreen("Delete", text, partial(self._delete, runs)), "deleted, into the trash · T restores")

    @staticmethod
    def _delete(runs: Sequence[RunSummary]) -> None:
        problems = []
        for run in runs:
            try:
                move_to_trash(RunDir.open(run.path))
            except RlhfError as error:
                problems.append(str(error))
        if problems:
            raise RunError(" ".join(problems))

    def action_trash(self) -> None:
        """What was deleted."""
        from rlhf_tui.areas.runs.trash import TrashScreen

        self.app.push_screen(TrashScreen(self._bridge.runs_root), lambda _: self._reader.read())

    def _shown(self, run: RunSummary) -> bool:
        """True, and said, for the run that the workbench shows: its files may not go from under it."""
        if run.path == self._table.shown_run:
            how = "v leaves the view first" if self._bridge.viewing else "F5 stops it first"
            self._alarm.say(f"{run.name} is open on the workbench: {how}")
        return run.path == self._table.shown_run

    def _ask(self, dialog: Screen[bool], said: str) -> None:
        def after(done: bool | None) -> None:
            self._done(said) if done else self._reader.read()

        self.app.push_screen(dialog, after)


def _settings(run: RunSummary) -> RunConfig:
    return settings_now(RunDir.open(run.path))
