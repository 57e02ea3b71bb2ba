"""All runs in a folder: looked through, opened, gone on with, forked, compared, named, noted and deleted."""

from __future__ import annotations

import time
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Input, Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import CheckpointSaved, RunStarted, StateChanged
from rlhf_engine.requests import Side
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import RunSummary, parents
from rlhf_engine.runs.run_settings import settings_now
from rlhf_tui.areas.charts.overlays import MOST_OVERLAYS, Overlays
from rlhf_tui.areas.runs.run_control import RunControl
from rlhf_tui.areas.runs.run_details import run_details
from rlhf_tui.areas.runs.run_export import ask_export
from rlhf_tui.areas.runs.run_keys import KEYS, OF_SWEEP
from rlhf_tui.areas.runs.run_opening import RunOpening
from rlhf_tui.areas.runs.run_order import RunOrder
from rlhf_tui.areas.runs.run_reader import RunReader
from rlhf_tui.areas.runs.run_rows import listed
from rlhf_tui.areas.runs.run_selection import RunSelection
from rlhf_tui.areas.runs.run_sweeps import RunSweeps
from rlhf_tui.areas.runs.run_table import RunTable
from rlhf_tui.areas.runs.run_tidying import RunTidying
from rlhf_tui.areas.sweep.groups import details
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.panes import has_room_for_all, is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, StatusLine

TALL = 18
READ_SECONDS = 5.0


class RunsScreen(BaseScreen[None]):
    """Reads the runs in a thread, every few seconds anew; draws only what has changed."""

    CSS_PATH = "screen.tcss"
    AUTO_FOCUS = "#table"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("t", "resume", "Resume", id="runs.resume",
                tooltip="Resume the run here, from its newest checkpoint; go on with a sweep, or stop it"),
        Binding("f", "fork", "Fork", tooltip="A new run from a checkpoint of this one, with other settings",
                id="runs.fork"),
        Binding("slash", "search", "Search", tooltip="Show only runs with some words", id="runs.search"),
        Binding("s", "sort", "Sort", tooltip="By last change, name, score, step or state", id="runs.sort"),
        Binding("S", "sort_by_metric", "Sort by metric", tooltip="By the newest value of any metric, shown beside",
                id="runs.sort_by_metric"),
        Binding("N", "new_sweep", "New sweep", tooltip="Train a grid of runs from the settings on the workbench",
                id="runs.new_sweep"),
        Binding("m", "mark", "Mark", tooltip="Mark the run, or all of a sweep, for what takes two or more",
                id="runs.mark"),
        Binding("i", "settings", "Settings", tooltip="The settings of two runs side by side, only what differs",
                id="runs.settings"),
        Binding("c", "compare", "Compare", tooltip="Compare two runs, with 95 % CI", id="runs.compare"),
        Binding("K", "over_optimization", "Over-optimization", id="runs.over_optimization",
                tooltip="Score and gold against √KL: whether the run went too far, and the step to go back to; of a "
                        "reward model its calibration"),
        Binding("o", "overlay", "Overlay", tooltip="Draw the curves of the marked runs, or of a sweep, into the charts",
                id="runs.overlay"),
        Binding("O", "clear_overlays", "Clear overlays", tooltip="Take other runs' curves out of the charts",
                id="runs.clear_overlays"),
        Binding("n", "note", "Note", tooltip="Write about the run", id="runs.note"),
        Binding("E", "note_in_editor", "Own editor", id="runs.editor",
                tooltip="Write about the run in your own editor ($VISUAL, $EDITOR)"),
        Binding("e", "export", "Export", tooltip="Write the run's adapter, or the merged model, for other programs",
                id="runs.export"),
        Binding("R", "rename", "Rename", tooltip="Give the run another name", id="runs.rename"),
        Binding("x", "delete", "Delete", tooltip="Delete the run, or the marked ones: into the trash",
                id="runs.delete"),
        Binding("T", "trash", "Trash", tooltip="Restore deleted runs from the trash, or empty it", id="runs.trash"),
        Binding("v", "leave_view", "Leave view", tooltip="Stop viewing a run; its settings stay for the next one",
                id="runs.leave_view"),
        Binding("escape", "back", "Back", tooltip="Out of the search, or back", id="runs.back"),
    ]

    def __init__(
        self, bridge: EngineBridge, control: RunControl, questions: CodeQuestions, overlays: Overlays,
        edited: EditedConfig,
    ) -> None:
        super().__init__()
        self._bridge, self._questions, self._overlays = bridge, questions, overlays
        self._reader = RunReader(self, bridge.runs_root)
        self._table = RunTable(id="table")
        self._alarm = AlarmLine(id="alarm")
        self._selection = RunSelection(self, self._reader, self._table, self._alarm.say)
        self._opening = RunOpening(self, bridge, control, questions, self._reader, self._selection, self.dismiss)
        self._tidying = RunTidying(self, bridge, self._reader, self._selection)
        self._sweeps = RunSweeps(self, self._reader, self._selection, edited, questions, bridge.runs_root, self._show)
        self._order = RunOrder(self._sorted, self._alarm.say)
        self._details = Static("", id="details", markup=False)
        self._search = TextField(placeholder="words to look for", id="search")
        self._keys = KeyBar(id="keys")
        self._detailed: object = None

    def compose(self) -> ComposeResult:
        yield StatusLine(self._bridge.view, id="status")
        with Widget(id="panes"):
            yield self._table
            with VerticalScroll(id="about", can_focus=False) as about:
                about.border_title = Content("Details")
                yield self._details
        yield self._search
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self._table.empty_text = " reading…"
        self._show_keys()
        self._lay_out()
        self._reader.read()
        self.set_interval(READ_SECONDS, self._read_when_due)

    def on_resize(self, _: events.Resize) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        self.set_class(has_room_for_all(self.app.size, height=TALL), "-wide")
        self.set_class(self.app.size.height < TALL, "-flat")
        self.set_class(is_tiny(self.app.size, height=12), "-tiny")

    # --- reading ---

    def _read_again(self) -> None:
        if self.is_current:
            self._reader.read()

    def _read_when_due(self) -> None:
        if self._reader.due:
            self._read_again()

    def on_screen_resume(self) -> None:
        """What other screens did shows at once."""
        if self._reader.has_read:
            self._reader.read()

    def on_engine_events(self, message: EngineEvents) -> None:
        self.query_one(StatusLine).refresh()
        if any(isinstance(event, RunStarted | StateChanged | CheckpointSaved) for event in message.events):
            self._read_again()

    def on_run_reader_changed(self, _: RunReader.Changed) -> None:
        """The reader knows more."""
        self._show()

    def on_run_reader_failed(self, event: RunReader.Failed) -> None:
        """It knows nothing."""
        self._table.empty_text = " the runs could not be read"
        self._table.redraw()
        self._alarm.say(event.why, "warning")

    def _show(self) -> None:
        runs, figures = self._reader.runs, self._reader.figures
        there = {run.path for run in runs}
        self._table.marked = [path for path in self._table.marked if path in there]
        self._table.shown_run = self._bridge.watched or (self._bridge.run_path if self._bridge.busy else None)
        self._table.folds, self._table.short = self._sweeps.marks, self._sweeps.short
        self._table.metric = self._order.metric
        rows = listed(runs, figures, sort=self._order.by, words=self._search.value, sweeps=self._reader.sweeps,
                      folded=self._sweeps.folded)
        self._table.empty_text = " no run holds these words; Esc clears the search" if runs else \
            " no runs yet: F5 on the workbench starts one"
        self._table.show(rows, figures)
        sweeps = len(self._reader.sweeps)
        count = f"{len(rows)} of {len(runs)}" if self._search.value.strip() else f"{len(runs)}" + (
            f" · {sweeps} sweep{'s' * (sweeps != 1)}" if sweeps else "")
        marked = f" · {len(self._table.marked)} marked" if self._table.marked else ""
        self._table.border_title = Content(f"Runs · {count}{marked}")
        self._table.border_subtitle = Content(f"by {self._order.title}")

    def on_run_table_moved(self, _: RunTable.Moved) -> None:
        """Tell about the run under the cursor."""
        run, figures = self._table.selected, self._reader.figures
        minute = int(time.time() // 60)
        parent = parents(self._reader.runs).get(run.name) if run and run.parent else None
        self._show_keys()
        sweep = self._selection.sweep
        about = (run, figures.get(run.path) if run else None, parent, minute, sweep)
        if about == self._detailed:
            return
        self._detailed = about
        if sweep:
            self._details.update(details(sweep, self._selection.members(sweep)))
        else:
            self._details.update(run_details(run, figures.get(run.path), parent, now=time.time()) if run else "")

    def _show_keys(self) -> None:
        """What can be done with the run, or the sweep, under the cursor."""
        if sweep := self._selection.sweep:
            self._keys.show(OF_SWEEP[sweep.driven])
            return
        run = self._table.selected
        resumes = run is not None and not self._opening.no_resume(run)
        self._keys.show([key for key in KEYS if resumes or key[2] != "screen.resume"])

    # --- with the run under the cursor ---

    def on_run_table_opened(self, event: RunTable.Opened) -> None:
        if sweep := self._selection.sweep:
            self._sweeps.turn(sweep)
        else:
            self._opening.view(event.run)

    def action_open(self) -> None:
        """What Enter does."""
        self._table.action_open()

    def action_resume(self) -> None:
        """Resume it here; go on with a sweep, or stop it."""
        if sweep := self._selection.sweep:
            self._sweeps.go_on_or_stop(sweep)
        elif run := self._selection.here:
            self._opening.resume(run)

    def action_fork(self) -> None:
        """Fork it."""
        if run := self._selection.one():
            self._opening.fork(run)

    def action_leave_view(self) -> None:
        """Stop viewing."""
        self._opening.leave_view()

    def action_over_optimization(self) -> None:
        """Score and gold against √KL; of a reward model its calibration."""
        from rlhf_tui.areas.over_optimization.screen import OverOptimizationScreen

        if run := self._selection.one():
            self.app.push_screen(OverOptimizationScreen(self._bridge, run.path))

    def action_export(self) -> None:
        """Write it for other programs."""
        if run := self._selection.one():
            ask_export(self.app, run, self._selection)

    def action_rename(self) -> None:
        """Give it another name."""
        if run := self._selection.one():
            self._tidying.rename(run)

    def action_note(self) -> None:
        """Write about it."""
        if run := self._selection.one():
            self._tidying.write_note(run)

    def action_note_in_editor(self) -> None:
        """Write about it elsewhere."""
        if run := self._selection.one():
            self._tidying.write_note(run, in_editor=True)

    def action_trash(self) -> None:
        """What was deleted."""
        self._tidying.show_trash()

    # --- with those that are marked ---

    def action_delete(self) -> None:
        """Into the trash; a sweep is forgotten, and its runs stay."""
        if self._selection.sweep and not self._table.marked:
            self._sweeps.forget(self._selection.sweep)
            return
        self._tidying.delete(self._selection.chosen())

    def action_settings(self) -> None:
        """What differs between the settings of two runs."""
        from rlhf_tui.areas.runs.differences import DifferencesScreen

        if two := self._selection.two():
            names = (two[0].name, two[1].name)
            self._selection.in_background(lambda: (_config_of(two[0]), _config_of(two[1])),
                                       lambda found: self.app.push_screen(DifferencesScreen(names, found)))

    def action_compare(self) -> None:
        """What the newest checkpoints of two runs answer."""
        from rlhf_tui.areas.compare.screen import CompareScreen

        if two := self._selection.two():
            sides = (Side("checkpoint", two[0].path), Side("checkpoint", two[1].path))
            self._selection.in_background(lambda: _config_of(two[0]), lambda config: self.app.push_screen(
                CompareScreen(self._bridge, self._questions, config, sides)))

    def action_overlay(self) -> None:
        """Read the curves of the chosen runs for the charts, of many the first in the order of the list."""
        places = {run.path: at for at, (_, run) in enumerate(listed(
            self._reader.runs, self._reader.figures, sort=self._order.by, words=""))}
        chosen = sorted(self._selection.chosen(), key=lambda run: places[run.path])
        for run in chosen[:MOST_OVERLAYS]:
            self._overlays.lay(RunDir(run.path))
        if len(chosen) > MOST_OVERLAYS:
            self._alarm.say(f"the charts have room for {MOST_OVERLAYS} runs: these are the first of {len(chosen)} by "
                            f"{self._order.title}; m marks others")

    def action_clear_overlays(self) -> None:
        """Only the workbench's own curves again."""
        self._overlays.clear()
        self._alarm.say("the charts show the workbench's run alone")

    # --- looking through ---

    def action_search(self) -> None:
        """Type words."""
        self._search.add_class("-open")
        self.set_focus(self._search)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as one types."""
        event.stop()
        self._show()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Back to the list, with what was found."""
        event.stop()
        self._table.focus()

    def action_sort(self) -> None:
        """The next order."""
        self._order.turn()

    def _sorted(self) -> None:
        self._show()
        self._table.go(0)
        self._alarm.say(self._order.told)

    def action_sort_by_metric(self) -> None:
        """Choose a metric that runs have in their last step."""
        self._order.ask_metric(self.app, self._reader.figures)

    def action_new_sweep(self) -> None:
        """A grid of runs."""
        self._sweeps.new()

    def action_mark(self) -> None:
        """Mark the run, or all of a sweep, or not, and go to the next."""
        marked, sweep = self._table.marked, self._selection.sweep
        paths = list(sweep.runs) if sweep else [self._table.selected.path] if self._table.selected else []
        if paths:
            others = [path for path in marked if path not in paths]
            self._table.marked = others if {*paths} <= {*marked} else [*others, *paths]
            self._show()
            self._table.action_move(1)

    def action_back(self) -> None:
        """Out of the search, out of what it found, or leave."""
        if self._search.value:
            self._search.value = ""
            self._search.remove_class("-open")
            self._table.focus()
        elif self._search.has_focus:
            self._search.remove_class("-open")
            self._table.focus()
        else:
            self.dismiss()


def _config_of(run: RunSummary) -> RunConfig:
    return settings_now(RunDir.open(run.path))
