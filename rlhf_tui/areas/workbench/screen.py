"""The workbench: four panes, or one at a time where the terminal is small; status on top, alarm and keys below."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from textual import events as textual_events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget

from rlhf_engine.events import (
    Alarm,
    CheckpointSaved,
    EditApplied,
    EditRefused,
    Event,
    Notice,
    PastRead,
    Probed,
    RolledBack,
    RunStarted,
    RunState,
    Sample,
    StateChanged,
    StepFinished,
)
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import OUTPUT
from rlhf_tui.areas.charts.charts import Charts
from rlhf_tui.areas.charts.overlays import LOOK_SECONDS, Overlays
from rlhf_tui.areas.rewards.word_editor import WordEditor
from rlhf_tui.areas.rewards.word_lists import WordListsPane
from rlhf_tui.areas.samples.samples import SampleList
from rlhf_tui.areas.samples.samples_pane import SamplesPane
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.reset import ask_reset
from rlhf_tui.areas.workbench.keys import PANES, TITLES, TabLine, keys
from rlhf_tui.background import run_in_background
from rlhf_tui.editing.change_text import applied_text, edit_text
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.event_ring import StepsMissed
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.engine.metrics_file import read_history
from rlhf_tui.engine.metrics_history import MetricsHistory
from rlhf_tui.widgets.panes import has_room_for_all, is_tiny
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, KeyBar, Meter, StatusLine


class WorkbenchScreen(BaseScreen[None]):
    """Shows the run and edits its settings. Layouts: `-wide` (four panes), `-tabs` (one), `-tiny` (one, no frills)."""

    AUTO_FOCUS = "#hyperparameters"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"pane('{pane}')", TITLES[pane], tooltip=f"Go to {TITLES[pane].lower()}",
                  id=f"pane.{pane}") for number, pane in enumerate(PANES, 1)),
        Binding("tab", "next_pane(1)", "Next pane", id="pane.next", show=False),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", id="pane.previous", show=False),
        Binding("z", "zoom", "Zoom", tooltip="Give the whole screen to this pane, or back", id="pane.zoom"),
        Binding("slash", "filter", "Filter", tooltip="Show only samples with some words", id="samples.filter"),
        Binding("i", "inspect", "Inspect", tooltip="The selected sample token by token: how the update changes each",
                id="samples.inspect"),
        Binding("h", "history", "History", tooltip="The same prompt through time: what changed from step to step",
                id="samples.history"),
        Binding("K", "over_optimization", "Over-optimization", id="run.over_optimization",
                tooltip="Score and gold against √KL: whether the run went too far, and the step to go back to; of a "
                        "reward model its calibration"),
        Binding("escape", "leave_field", "Back", id="pane.back", show=False),
        Binding("u", "undo", "Undo", tooltip="Undo the newest change of a setting", id="settings.undo"),
        Binding("U", "redo", "Redo", tooltip="Redo what was undone", id="settings.redo"),
        Binding("g", "app.generate", "Generate", tooltip="Write a prompt, see both models respond", id="app.generate"),
        Binding("c", "app.compare", "Compare", tooltip="Reference against tuned, with 95 % CI", id="app.compare"),
        Binding("r", "app.runs", "Runs", tooltip="All runs: open, resume, fork, compare, tidy up", id="app.runs"),
        Binding("w", "app.reward_lab", "Reward lab", tooltip="Rewards, how often their words are said, a text to try",
                id="app.reward_lab"),
        Binding("p", "app.presets", "Presets", tooltip="Load a preset for the next run", id="app.presets"),
        Binding("P", "app.prompts", "Prompts", tooltip="All prompts: look through, add, change, take out",
                id="app.prompts"),
        Binding("E", "app.own_editor", "Own editor", id="app.own_editor",
                tooltip="All settings as TOML in your own editor ($VISUAL, $EDITOR)"),
        Binding("f2", "app.save_preset", "Save preset", tooltip="Save these settings", id="app.save_preset"),
    ]

    def __init__(self, bridge: EngineBridge, edited: EditedConfig, meter: Meter | None = None) -> None:
        super().__init__()
        self._bridge, self._edited = bridge, edited
        self._status = StatusLine(bridge.view, meter, id="status")
        self._tabs = TabLine(id="tabs")
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")
        self.hyperparameters = HyperparametersPane(id="hyperparameters", classes="pane")
        self.words = WordListsPane(id="words", classes="pane")
        self.charts = Charts(holds_out=self._holds_out, id="charts", classes="pane")
        self.samples = SamplesPane(id="samples", classes="pane")
        edited.follow(self._show_settings)
        self._panes: dict[str, Widget] = {
            "hyperparameters": self.hyperparameters, "charts": self.charts, "words": self.words,
            "samples": self.samples,
        }  # fmt: skip
        for number, (name, widget) in enumerate(self._panes.items(), 1):
            widget.border_title = Content(f"{number} {TITLES[name]}")
        self._left = Vertical(self.hyperparameters, self.words, id="left")
        self._right = Vertical(self.charts, self.samples, id="right")
        self._pane = PANES[0]
        self._zoomed = self._one_chart = False
        self._shown_run = ""
        self.overlays = Overlays(self, self.charts.curves, self._shown_path, self._say_anywhere)
        self._read_up_to, self._read_from = 0, Path()

    def on_screen_resume(self, event: textual_events.ScreenResume) -> None:
        """Opened, or come back to. For the first frame the styles were found while the panes were built: to find them
        again is half of that work."""
        event.refresh_styles = event.refresh_styles and self._has_begun

    def compose(self) -> ComposeResult:
        # laid out and filled before they are mounted: each change afterwards costs styles, layout and drawing again
        self._lay_out()
        self._load_panes()
        yield self._status
        yield self._tabs
        yield Horizontal(self._left, self._right, id="panes")
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        self.set_interval(LOOK_SECONDS, self.overlays.look)
        self.show_run()
        self.say("reading the run…" if self._bridge.viewing
                 else "F5 starts a run with these settings · p loads a preset · ? shows all keys")

    # --- layout ---

    @property
    def place(self) -> tuple[str, bool]:
        """The pane in use, and whether it has the whole screen."""
        return self._pane, self._zoomed

    def open_at(self, pane: str, *, zoomed: bool) -> None:
        """Begin in `pane`; asked before the screen is shown."""
        self._pane, self._zoomed = pane, zoomed
        self.AUTO_FOCUS = "#samples SampleList" if pane == "samples" else f"#{pane}"  # type: ignore[misc]

    def on_resize(self, _: textual_events.Resize) -> None:
        self._lay_out()

    def _lay_out(self) -> None:
        wide, tiny = has_room_for_all(self.app.size), is_tiny(self.app.size)
        single = not wide or self._zoomed
        self.update_classes({"-wide": wide, "-tiny": tiny, "-tabs": not wide and not tiny, "-single": single})
        for name, widget in self._panes.items():
            widget.set_class(name == self._pane, "-current")
        self._left.set_class(self._pane in ("hyperparameters", "words"), "-current")
        self._right.set_class(self._pane in ("charts", "samples"), "-current")
        self._status.with_metrics = not wide
        self._tabs.current = self._pane
        self._tabs.refresh()
        self.charts.one_at_a_time = not wide or (self._one_chart and self._zoomed and self._pane == "charts")
        self._show_keys()

    def on_descendant_focus(self, event: textual_events.DescendantFocus) -> None:
        for node in event.widget.ancestors_with_self:
            if node.id in PANES:
                if node.id != self._pane:
                    self._pane = node.id
                    self._lay_out()
                else:
                    self._show_keys()
                return

    def action_pane(self, pane: str) -> None:
        """Go to a pane."""
        self._pane = pane
        self._lay_out()
        target: Widget = self.samples.samples if pane == "samples" else self.query_one(f"#{pane}")
        target.focus()

    def action_next_pane(self, by: int) -> None:
        """Go round the panes."""
        self.action_pane(PANES[(PANES.index(self._pane) + by) % len(PANES)])

    def action_zoom(self) -> None:
        """The whole screen for this pane, or back."""
        self._zoomed, self._one_chart = not self._zoomed, False
        self._lay_out()

    def on_charts_alone_asked(self, _: Charts.AloneAsked) -> None:
        """One chart on the whole screen, or back to all panes."""
        self._one_chart = not (self._one_chart and self._zoomed)
        self._zoomed = self._one_chart
        self._lay_out()

    def action_filter(self) -> None:
        """Type words; only samples that hold them are listed."""
        self._pane = "samples"
        self._lay_out()
        self.samples.open_filter()

    def action_leave_field(self) -> None:
        """Out of a field, else out of zoom."""
        if self._zoomed:
            self.action_zoom()
        else:
            self.action_pane(self._pane)

    def _show_keys(self) -> None:
        self._keys.show(keys(self._pane, self._bridge, one_chart=self.charts.one_at_a_time))

    # --- the run ---

    def on_engine_events(self, message: EngineEvents) -> None:
        samples: list[Sample] = []
        for event in message.events:
            if isinstance(event, RunStarted | RolledBack):  # they may take back what came before
                self.samples.samples.add(samples)
                samples = []
            self._take(event)
            if isinstance(event, StepFinished | StepsMissed | PastRead):
                samples += event.samples
        self.samples.samples.add(samples)  # at once: the list of thousands is made anew
        self.show_run()

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                goes_on = event.first_step > 0 and event.name == self._shown_run
                if not goes_on:
                    self.charts.curves.clear()
                    self.samples.clear(event.name)
                    self._mark_fork()
                self._shown_run = event.name
                if not goes_on:
                    self._read_up_to = 0  # that was another run's
                    if event.first_step and self._bridge.run_path is not None and not self._bridge.viewing:
                        self._show_history(event.first_step, self._bridge.run_path)
                self.overlays.look()
                self.say(f"run {event.name}: {event.path}")
                self._edited.begun(event, resumed=goes_on)
            case StepFinished():
                self.charts.curves.add(event.step, event.metrics, event.seconds)
            case PastRead():
                self.charts.curves.take_past(event.past.history)
            case StepsMissed():
                self._show_history(event.step, event.run)
            case Probed():
                self.samples.probes.add(event.sample)
            case StateChanged(state=state, message=text):
                if text:
                    self.say(text + self._way_on(state), "warning" if state.went_wrong else "info")
                if state.ended or state is RunState.LOADING:
                    self._load_panes()
            case EditApplied():
                self.charts.curves.mark(event.step, edit_text(event.path, event.old, event.new))
                self.say(applied_text(event))
                if self._bridge.viewing:  # what is typed here is in the settings already, and may be ahead
                    self._edited.adopt()
            case EditRefused():
                self._edited.revert(event.path)
                self.say(event.text, "warning")
            case CheckpointSaved():
                self.say(f"checkpoint of step {event.step} saved")
            case Notice():
                self.say(event.text, event.level)
            case Alarm():
                self.say(f"step {event.step}: {event.text}", "warning")
            case RolledBack():
                self.charts.curves.cut(event.step)
                self.samples.cut(event.step)
                if event.step < self._read_up_to:
                    self._show_history(event.step, self._read_from)

    def _way_on(self, state: RunState) -> str:
        """What can be done with a run that has come to this state."""
        run = self._bridge.watched or self._bridge.run_path
        if state.went_wrong and run is not None and (run / OUTPUT).exists() and (run / OUTPUT).stat().st_size:
            return " · L shows what was printed"
        if self._bridge.viewing:
            way = "t resumes it" if state is not RunState.FINISHED else (
                "t resumes it, or loads it to generate and compare")
            return f" · {way}" if state.ended and not self._bridge.taking_over else ""
        if state is not RunState.FINISHED:
            return ""
        config = self._bridge.view.config
        use = ("H trains a policy on what it says" if config and config.algorithm.scores_texts
               else "c compares it with the reference")
        return f" · t resumes it with more steps, {use}"

    def _show_history(self, last: int, run: Path) -> None:
        """The curves up to step `last` of a run that goes on here, and of which no event told, or one was missed."""
        self._read_up_to, self._read_from = last, run
        run_in_background(
            self, partial(read_history, RunDir(run), last), partial(self._curves_read, self._shown_run, last),
            lambda why: self.say(f"the curves so far are not shown: {why}", "warning"), "history")

    def _curves_read(self, run: str, last: int, history: MetricsHistory) -> None:
        """Draw them before the steps taken since, unless another run, or an earlier step, is shown by now."""
        if (run, last) == (self._shown_run, self._read_up_to):
            self._read_up_to = 0
            self.charts.curves.take_past(history)

    def _shown_path(self) -> Path | None:
        """Where the run lies that the charts show."""
        return self._bridge.watched or (self._bridge.run_path if self._shown_run else None)

    def _say_anywhere(self, text: str, level: str) -> None:
        self.app.notify(text, severity="information" if level == "info" else "warning")

    def _mark_fork(self) -> None:
        """Where the run left the one it is a fork of, and under which other settings."""
        path = self._bridge.watched or self._bridge.run_path
        parent = RunDir(path).parent if path is not None else None
        if parent is not None:
            at = 1 if parent.anew else max(1, parent.step)
            self.charts.curves.mark(at, f"fork of {parent.run}@{parent.step}")
            for changed, old, new in parent.changes:
                self.charts.curves.mark(at, edit_text(changed, old, new))

    def show_run(self) -> None:
        """Bring status and keys up to date."""
        view = self._bridge.view
        config = view.config or self._edited.config
        self.charts.curves.show_target(config.kl.target)
        self.charts.use_method(config.algorithm)
        self.charts.responses_per_step = config.algorithm.learned_per_step
        preset = self._edited.preset
        self._status.next_preset = preset if preset != view.preset else ""
        # once the list is drawn: a frame that changes both it and the first line draws all that lies between, too
        self.samples.samples.call_after_refresh(self._status.refresh)
        self._show_keys()

    def _holds_out(self) -> bool:
        return (self._bridge.view.config or self._edited.config).data.holds_out

    def say(self, text: str, level: str = "info") -> None:
        """One sentence on the alarm line."""
        self._alarm.say(text, level)

    def show_unread(self, count: int) -> None:
        """How many warnings nobody has read."""
        self._alarm.show_unread(count)

    # --- settings ---

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        self._edited.edit(event.path, event.value)

    def on_hyperparameters_pane_reset_asked(self, event: HyperparametersPane.ResetAsked) -> None:
        ask_reset(self.app, self._edited, event.values, [row.path for row in event.fixed], training=self._bridge.busy)

    def on_word_editor_edited(self, event: WordEditor.Edited) -> None:
        self._edited.edit(event.path, event.value)

    def action_undo(self) -> None:
        """Take the newest change back."""
        self._edited.undo()

    def action_redo(self) -> None:
        """Make it again."""
        self._edited.redo()

    def _load_panes(self) -> None:
        config, viewing = self._edited.config, self._bridge.viewing
        training = self._bridge.busy or viewing
        self.hyperparameters.load(config, training=training, viewing=viewing, preset=self._edited.original,
                                  start=self._edited.start)
        self.words.load(config, training=training, viewing=viewing)

    def _show_settings(self) -> None:
        self._load_panes()
        self.show_run()

    def follow_lab(self, _: None) -> None:
        """Show what was edited in the reward lab; what is written here but not allowed stays."""
        self.hyperparameters.follow(self._edited.config)
        self.words.follow(self._edited.config)

    # --- samples ---

    def on_sample_list_opened(self, event: SampleList.Opened) -> None:
        from rlhf_tui.areas.samples.sample import SampleScreen

        self.app.push_screen(SampleScreen(event.sample))

    def action_inspect(self) -> None:
        """The sample under the cursor, token by token."""
        from rlhf_tui.areas.inspect.screen import InspectScreen

        samples = self.samples.samples
        if samples.selected is None:
            self.say("no sample to inspect yet: each step brings some")
        else:
            self.app.push_screen(InspectScreen(self._bridge, self._edited.method, samples.shown, samples.cursor))

    def action_over_optimization(self) -> None:
        """Score and gold against √KL; of a reward model its calibration."""
        from rlhf_tui.areas.over_optimization.screen import OverOptimizationScreen

        if (run := self._shown_path()) is None:
            self.say("no run to look at yet: F5 starts one")
        else:
            self.app.push_screen(OverOptimizationScreen(self._bridge, run))

    def action_history(self) -> None:
        """The answers to the probe."""
        from rlhf_tui.areas.samples.answers_screen import AnswersScreen

        self.app.push_screen(AnswersScreen(self._bridge, self.samples.probes, lambda: self.charts.scene.run))

    def newest_samples(self) -> list[Sample]:
        """All samples of the run that are kept, newest first."""
        return self.samples.samples.newest()

    def on_sample_list_said(self, event: SampleList.Said) -> None:
        self.say(event.text, event.level)

    def on_sample_list_copied(self, event: SampleList.Copied) -> None:
        from rlhf_tui.terminal.clipboard import copy

        self.say(copy(self.app, event.sample.response))
