"""The workbench: four panes, or one at a time where the terminal is small; status on top, alarm and keys below."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, cast

from textual import events as textual_events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widget import Widget

from rlhf_engine import fields, presets
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import (
    Alarm,
    CheckpointSaved,
    EditApplied,
    EditRefused,
    Event,
    Notice,
    RolledBack,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
)
from rlhf_tui.bridge import EngineBridge
from rlhf_tui.clean_text import clean_line
from rlhf_tui.messages import EngineEvents
from rlhf_tui.widgets.charts import Charts
from rlhf_tui.widgets.hyperparameters import HyperparametersPane
from rlhf_tui.widgets.readout import edit_text
from rlhf_tui.widgets.samples import SampleList, SamplesPane
from rlhf_tui.widgets.status import AlarmLine, ClickLine, KeyBar, Meter, StatusLine
from rlhf_tui.widgets.word_lists import WordListsPane

if TYPE_CHECKING:
    from rlhf_tui.app import WorkbenchApp

WIDE, TALL = 100, 30
ROOMY_WIDTH, ROOMY_HEIGHT = 60, 16
PANES = ("hyperparameters", "charts", "words", "samples")
TITLES = {"hyperparameters": "Hyperparameters", "charts": "Charts", "words": "Reward words", "samples": "Samples"}


class TabLine(ClickLine):
    """The names of the panes, the open one marked, where only one fits; where names do not fit, their numbers."""

    DEFAULT_CSS = "TabLine { height: 1; padding: 0 1; display: none; }"
    current = ""

    def render(self) -> Content:
        tabs = [self._tab(number, pane, named=True) for number, pane in enumerate(PANES, 1)]
        if sum(tab.cell_length + 1 for tab, _ in tabs) > self.size.width:
            tabs = [self._tab(number, pane, named=pane == self.current) for number, pane in enumerate(PANES, 1)]
        return self.words(tabs, " ")

    def _tab(self, number: int, pane: str, *, named: bool) -> tuple[Content, str]:
        style = "$primary bold reverse" if pane == self.current else "$text-muted"
        return Content.styled(f" {number} {TITLES[pane]} " if named else f" {number} ", style), f"screen.pane('{pane}')"


class WorkbenchScreen(Screen[None]):
    """Shows the run and edits its settings. Layouts: `-wide` (four panes), `-tabs` (one), `-tiny` (one, no frills)."""

    CSS_PATH = "workbench.tcss"
    AUTO_FOCUS = "#hyperparameters"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(str(number), f"pane('{pane}')", TITLES[pane], tooltip=f"Go to {TITLES[pane].lower()}",
                  id=f"pane.{pane}") for number, pane in enumerate(PANES, 1)),
        Binding("tab", "next_pane(1)", "Next pane", id="pane.next", show=False),
        Binding("shift+tab", "next_pane(-1)", "Previous pane", id="pane.previous", show=False),
        Binding("z", "zoom", "Zoom", tooltip="Give the whole screen to this pane, or back", id="pane.zoom"),
        Binding("slash", "filter", "Filter", tooltip="Show only samples with some words", id="samples.filter"),
        Binding("escape", "leave_field", "Back", id="pane.back", show=False),
        Binding("g", "app.generate", "Generate", tooltip="Write a prompt, see both models answer", id="app.generate"),
        Binding("c", "app.compare", "Compare", tooltip="Reference against tuned, with intervals", id="app.compare"),
        Binding("p", "app.presets", "Presets", tooltip="Load a preset for the next run", id="app.presets"),
        Binding("f2", "app.save_preset", "Save preset", tooltip="Keep these settings", id="app.save_preset"),
    ]

    def __init__(self, bridge: EngineBridge, meter: Meter | None = None) -> None:
        super().__init__()
        self._bridge = bridge
        self._status = StatusLine(bridge.view, meter, id="status")
        self._tabs = TabLine(id="tabs")
        self._alarm = AlarmLine(id="alarm")
        self._keys = KeyBar(id="keys")
        self.hyperparameters = HyperparametersPane(id="hyperparameters", classes="pane")
        self.words = WordListsPane(id="words", classes="pane")
        self.charts = Charts(id="charts", classes="pane")
        self.samples = SamplesPane(id="samples", classes="pane")
        self._pane = PANES[0]
        self._zoomed = False
        self._shown_run = ""

    @property
    def _workbench(self) -> WorkbenchApp:
        return cast("WorkbenchApp", self.app)

    def compose(self) -> ComposeResult:
        yield self._status
        yield self._tabs
        with Horizontal(id="panes"):
            with Vertical(id="left"):
                yield self.hyperparameters
                yield self.words
            with Vertical(id="right"):
                yield self.charts
                yield self.samples
        yield self._alarm
        yield self._keys

    def on_mount(self) -> None:
        for number, pane in enumerate(PANES, 1):
            self.query_one(f"#{pane}").border_title = Content(f"{number} {TITLES[pane]}")
        self._load_panes()
        self._lay_out()
        self.say("F5 starts a run with these settings · p loads a preset · ? shows all keys")

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
        width, height = self.app.size
        tiny = width < ROOMY_WIDTH or height < ROOMY_HEIGHT
        wide = width >= WIDE and height >= TALL
        self.set_class(wide, "-wide")
        self.set_class(tiny, "-tiny")
        self.set_class(not wide and not tiny, "-tabs")
        single = not wide or self._zoomed
        self.set_class(single, "-single")
        for pane in PANES:
            self.query_one(f"#{pane}").set_class(pane == self._pane, "-current")
        self.query_one("#left").set_class(self._pane in ("hyperparameters", "words"), "-current")
        self.query_one("#right").set_class(self._pane in ("charts", "samples"), "-current")
        self._status.with_metrics = not wide
        self._tabs.current = self._pane
        self._tabs.refresh()
        self.charts.one_at_a_time = not wide
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
        self._zoomed = not self._zoomed
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
        busy, viewing = self._bridge.busy, self._bridge.viewing
        common = [("?", "Help", "app.help")]
        common += [("t", "Take over", "app.take_over") if viewing
                   else ("F5", "Stop" if busy else "Start", "app.toggle_run")]
        if busy:
            paused = self._bridge.state is RunState.PAUSED or self._bridge.view.wanted == "pausing"
            common.append(("Space", "Resume" if paused else "Pause", "app.toggle_pause"))
        here = {
            "charts": [("m", "Metric", ""), ("e", "Explain", ""), ("s", "Smooth", ""), (",.", "Read off", ""),
                       ("x", "Axis", ""), ("Y", "Log", ""), ("+−", "Zoom", ""), ("0", "Reset", ""),
                       ("←→", "Chart" if self.charts.one_at_a_time else "Pan", "")],
            "samples": [("Enter", "Open", ""), ("/", "Filter", "screen.filter"), ("f", "Follow", ""),
                        ("y", "Copy", "")],
        }.get(self._pane, [])
        own = [("g", "Generate", "app.generate"), ("c", "Compare", "app.compare"), ("p", "Presets", "app.presets")]
        more = [("1-4", "Pane", ""), ("q", "Quit", "app.quit"), *(() if viewing else own), ("z", "Zoom", "screen.zoom"),
                ("^p", "Commands", "app.command_palette"), ("F2", "Save preset", "app.save_preset"),
                *(() if viewing else [("F9", "Checkpoint", "app.checkpoint")]),
                *([("d", "Detach", "app.detach")] if busy else [])]
        self._keys.show([*common, *here, *more])

    # --- the run ---

    def on_engine_events(self, message: EngineEvents) -> None:
        for event in message.events:
            self._take(event)
        self.show_run()

    def _take(self, event: Event) -> None:
        match event:
            case RunStarted():
                if not (event.first_step and event.name == self._shown_run):
                    self.charts.clear()
                    self.samples.samples.clear()
                self._shown_run = event.name
                self.say(f"run {event.name}: {event.path}")
                self._adopt()
            case StepFinished():
                self.charts.add(event.step, event.metrics, event.seconds)
                self.samples.samples.add(event.samples)
            case StateChanged(state=state, message=text):
                if text:
                    watched = self._bridge.viewing and not self._bridge.taking_over
                    hint = " · t resumes it" if watched and state.ended else ""
                    self.say(text + hint, "warning" if state in (RunState.FAILED, RunState.DIVERGED) else "info")
                if state.ended or state is RunState.LOADING:
                    self._load_panes()
            case EditApplied():
                self.charts.mark(event.step, edit_text(event.path, event.old, event.new))
                self.say(f"from step {event.step}: {event.path} {fields.show(event.old)} → {fields.show(event.new)}")
                self._adopt()
            case EditRefused():
                self._revert(event.path)
                self.say(f"{event.path} was not changed: {event.reason}", "warning")
            case CheckpointSaved():
                self.say(f"checkpoint of step {event.step} saved")
            case Notice():
                self.say(event.text, event.level)
            case Alarm():
                self.say(f"step {event.step}: {event.text}", "warning")
            case RolledBack():
                self.charts.cut(event.step)
                self.samples.samples.cut(event.step)

    def show_run(self) -> None:
        """Bring status and keys up to date."""
        view = self._bridge.view
        config = view.config or self._workbench.config
        self.charts.show_target(config.kl.target)
        self.charts.responses_per_step = config.ppo.responses_per_step
        self._status.refresh()
        self._show_keys()

    def say(self, text: str, level: str = "info") -> None:
        """One sentence on the alarm line."""
        self._alarm.say(text, level)

    def show_unread(self, count: int) -> None:
        """How many warnings nobody has read."""
        self._alarm.show_unread(count)

    # --- settings ---

    def on_hyperparameters_pane_edited(self, event: HyperparametersPane.Edited) -> None:
        self._edit(event.path, event.value)

    def on_word_lists_pane_edited(self, event: WordListsPane.Edited) -> None:
        self._edit(event.path, event.value)

    def _adopt(self) -> None:
        """Show the settings of a run that is driven elsewhere."""
        if self._bridge.viewing and self._bridge.view.config is not None:
            self._workbench.config = self._bridge.view.config
            self._load_panes()

    def _edit(self, path: str, value: object) -> None:
        app = self._workbench
        if app.read_only():
            self._load_panes()
            return
        try:
            app.config = fields.replace(app.config, {path: value})
        except RlhfError as error:
            self.say(clean_line(str(error)), "warning")
            return
        if not self._bridge.busy:
            return
        if fields.setting_at(app.config, path).live:
            self._bridge.edit(path, value)
        else:
            self.say(f"{path} takes effect with the next start: it cannot change while training")

    def _revert(self, path: str) -> None:
        running = self._bridge.view.config
        if running is not None:
            app = self._workbench
            try:
                app.config = fields.replace(app.config, {path: fields.value_at(running, path)})
            except (RlhfError, LookupError, AttributeError):
                return
            self._load_panes()

    def _load_panes(self) -> None:
        config, training = self._workbench.config, self._bridge.busy or self._bridge.viewing
        self.hyperparameters.load(config, training=training)
        self.words.load(config, training=training)

    def load_preset(self, name: str | None) -> None:
        """What the preset picker chose."""
        if name is None:
            return
        try:
            self._workbench.config = presets.load(name)
        except RlhfError as error:
            self.say(str(error), "warning")
            return
        self._workbench.preset = name
        self._load_panes()
        self.say(f"preset {name} loaded: F5 starts it")

    # --- samples ---

    def on_sample_list_opened(self, event: SampleList.Opened) -> None:
        from rlhf_tui.screens.sample import SampleScreen

        self.app.push_screen(SampleScreen(event.sample))

    def on_sample_list_copied(self, event: SampleList.Copied) -> None:
        from rlhf_tui.clipboard import copy

        self.say(copy(self.app, event.sample.response))
