"""The app: what is open, which keys act everywhere, and how it leaves. Panes and screens do the rest."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, ClassVar

from textual import events
from textual.app import SystemCommand
from textual.binding import Binding, BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.widgets import Input, TextArea

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import ModelLoaded, RunState
from rlhf_engine.requests import Edit, Pause, Resume, SaveCheckpoint, Start, Stop, Unpause
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now
from rlhf_engine.system.streams import on_descriptor
from rlhf_tui.areas.preferences.preferences import Preferences
from rlhf_tui.areas.rewards.lab_memory import LabMemory
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.desk import Desk
from rlhf_tui.engine.bridge import TICK_SECONDS, EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.terminal.clipboard import save_picture
from rlhf_tui.terminal.signals import heed_signals
from rlhf_tui.terminal.textual_private import driver_of
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, Meter


def _commands() -> type[Provider]:
    from rlhf_tui.areas.help.commands import WorkbenchCommands

    return WorkbenchCommands


class WorkbenchApp(Desk):
    """The workbench. `config` is what the next start uses, with the edits made so far."""

    TITLE = "rlhf-tui"
    # that of the default screen; only screens that are pushed bring their own
    CSS_PATH = "areas/workbench/screen.tcss"
    COMMANDS: ClassVar = {_commands}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f5", "toggle_run", "Start/Stop", tooltip="Start a run, or stop it after this step", id="run.toggle"),
        Binding("space", "toggle_pause", "Pause", tooltip="Pause after this step, or resume", id="run.pause"),
        Binding("f9", "checkpoint", "Checkpoint", tooltip="Save a checkpoint after this step", id="run.checkpoint"),
        Binding("d", "detach", "Detach", tooltip="Leave the run training in the background", id="run.detach"),
        Binding("t", "take_over", "Take over", id="run.take_over",
                tooltip="Drive the viewed run from here, or resume one that has ended"),
        Binding("question_mark,f1", "help", "Help", tooltip="All keys, metrics and terms", id="app.help"),
        Binding("q", "quit", "Quit", tooltip="Leave; asks while training", id="app.quit"),
        Binding("ctrl+z", "suspend_process", "Suspend", tooltip="Back to the shell; a run is paused until fg",
                id="app.suspend"),
        # Textual's own, which leave from a field too; help tells of q
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
        Binding("ctrl+l", "redraw", "Redraw", tooltip="Draw the whole screen again", show=False, priority=True,
                id="app.redraw"),
        Binding("ctrl+p", "command_palette", "Commands", tooltip="Every action by name", priority=True,
                id="app.commands"),
    ]

    def __init__(
        self, bridge: EngineBridge, config: RunConfig, preset: str = "", *, start: bool = False,
        meter: Meter | None = None, original: RunConfig | None = None, preferences: Preferences | None = None,
    ) -> None:
        super().__init__(preferences)
        self.bridge, self.config, self.preset, self._meter = bridge, config, preset, meter
        self.original = original or config
        """The settings of the preset, without what was changed on the command line."""
        self.lab_memory = LabMemory()
        self.code_questions = CodeQuestions(self)
        self.leave_code: int | None = None
        self.left_at_once = False
        self.hands_over = False
        """True when the run shall go on in a process of its own after this one has left."""
        self._start = start
        self._libraries_are_there = False
        # over a slow line each frame of an animation costs; a spinner is 100 KB a second
        self.animation_level = "none"

    def get_driver_class(self) -> type[Driver]:
        if sys.platform == "win32":
            return super().get_driver_class()
        from rlhf_tui.terminal.driver import TerminalDriver
        return TerminalDriver

    def get_default_screen(self) -> WorkbenchScreen:
        """The workbench itself: an empty screen below it would be laid out and drawn for nothing."""
        self.workbench = WorkbenchScreen(self.bridge, self._meter)
        self.workbench.open_at(self.preferences.now.pane, zoomed=self.preferences.now.zoomed)
        self.preferences.show_charts(self.workbench.charts)  # before it is drawn first
        return self.workbench

    def on_mount(self) -> None:
        if not self.is_headless:
            heed_signals(self)
            self.begin_capture_print(self)
        # the engine thread imports torch when it has work: not before the first frame is drawn
        self.call_after_refresh(self._open_engine)

    def on_print(self, event: events.Print) -> None:
        # by a thread of ours, a library's warning say; these descriptors lead into the log while there is a screen
        on_descriptor(2 if event.stderr else 1, event.text)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        # a blinking cursor sends 2.5 KB a second while nothing happens; this reaches the command palette's field too
        if isinstance(event.widget, Input | TextArea):
            event.widget.cursor_blink = False

    def _open_engine(self) -> None:
        # what is there now stays: no search for garbage, which a key would have to wait for, needs to look at it again
        gc.freeze()
        gc.enable()
        self.bridge.open()
        self.set_interval(TICK_SECONDS, self._tick)
        if self._start:
            self.action_toggle_run()

    def _tick(self) -> None:
        self.show_events(self.bridge.tick())
        if self.leave_code is not None and not self.bridge.alive:
            self.exit(return_code=self.leave_code)

    def show_events(self, events: list[Any]) -> None:
        """Hand a batch of events to every open screen."""
        if not self._libraries_are_there and any(isinstance(event, ModelLoaded) for event in events):
            # they came with some 300,000 objects that stay. Once: whatever is frozen is never collected, and at the
            # next model that would be all the screens that were left by then
            self._libraries_are_there = True
            gc.freeze()
        if events:
            self.take(events)
            for screen in self.screen_stack:
                screen.post_message(EngineEvents(events))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What has no key. Textual's others are second ways to leave, to zoom or to ask for help."""
        yield SystemCommand("Theme", "Colours for now; , has more", self.action_change_theme)
        # the palette has to be gone first
        yield SystemCommand("Screenshot", "Save a picture (SVG) of the screen",
                            lambda: self.set_timer(0.1, lambda: self.say(save_picture(self))))

    def say(self, text: str, level: str = "info") -> None:
        """One sentence on the workbench's alarm line, and on that of the screen before it."""
        self.workbench.say(text, level)
        lines = self.screen.query(AlarmLine)
        for line in lines:
            line.say(text, level)
        if not lines and isinstance(self.screen, BaseScreen):
            self.screen.tell(text, level)

    def notify(
        self, message: str, *, title: str = "", severity: SeverityLevel = "information", timeout: float | None = None,
        markup: bool = True,
    ) -> None:
        """What Textual would show over the screen: on the alarm line. (A mouse button on a toast ends Textual 8.2.)"""
        self.say(clean_line(message), "info" if severity == "information" else "warning")

    # --- the run; what each action does stands in the tooltip of its binding ---

    def read_only(self) -> bool:
        """True, and said, while the run on the screen is not driven from here."""
        if self.bridge.lost:
            self.say(self.bridge.lost, "warning")
        elif self.bridge.viewing:
            state = self.bridge.state
            self.say("viewing a finished run: t resumes it" if state is RunState.FINISHED
                     else "viewing a run that nobody drives: t resumes it" if state is not None and state.ended
                     else "viewing: t takes over")
        return self.bridge.viewing

    def action_toggle_run(self) -> None:
        if self.read_only():
            return
        if self.bridge.busy:
            self.bridge.ask(Stop())
            self.say(f"stopping after step {self.bridge.view.step + 1}, with a checkpoint")
            return
        forms = [form for screen in self.screen_stack for form in screen.query(HyperparametersPane)]
        if problem := next(filter(None, (form.problem for form in forms)), ""):
            self.say(f"not started: {problem}", "warning")
            return
        self.code_questions.settle(self.config, partial(self._start_run, self.config, self.preset))

    def _start_run(self, config: RunConfig, preset: str, _: bool) -> None:
        try:
            self.bridge.ask(Start(config, self.bridge.runs_root, preset=preset))
            self.say("starting: the first step waits for the libraries and the model to load")
        except RlhfError as error:
            self.say(str(error), "warning")
        self.workbench.show_run()

    def action_toggle_pause(self) -> None:
        if self.read_only():
            return
        if not self.bridge.busy:
            self.say("nothing is running: F5 starts")
            return
        held = self.bridge.state is RunState.PAUSED or self.bridge.view.pending_state == "pausing"
        self.bridge.ask(Unpause() if held else Pause())
        self.workbench.show_run()

    def action_checkpoint(self) -> None:
        if self.read_only():
            return
        if self.bridge.busy:
            self.bridge.ask(SaveCheckpoint())
            self.say("saving a checkpoint after this step")
        else:
            self.say("nothing is running: there is nothing new to save")

    def action_take_over(self) -> None:
        run = self.bridge.watched or (self.bridge.run_path if self.bridge.state else None)
        if self.bridge.busy:
            self.say("the run is driven from here: there is nothing to take over")
        elif run is None:
            self.say("there is no run to resume yet: F5 starts one, r shows those there are")
        elif self.bridge.lost:
            self.say(self.bridge.lost, "warning")
        elif self.bridge.taking_over:
            self.say("taking over: that process has not left yet")
        else:
            ended = self.bridge.state is not None and self.bridge.state.ended
            said = "resuming: the model loads first" if ended else (
                "taking over: the process that drives the run finishes its step, saves and leaves")
            self.go_on(RunDir(run), lambda: self.say(said))

    def go_on(self, run_dir: RunDir, taken: Callable[[], object]) -> None:
        """Go on here with a run that is viewed, or that nobody drives, then do `taken`.

        Asks first: how much longer, where it has finished; whether to, where its reward's code or its base has changed.
        """
        from rlhf_tui.areas.runs.more_steps import MoreStepsScreen

        status = run_dir.status()
        if status is None or not 0 < status.total_steps <= status.step:
            self._go_on(run_dir, None, taken)
            return
        total = status.total_steps

        def after(more: int | None) -> None:
            if more is not None:
                self._go_on(run_dir, total + more if more else None, taken)

        self.push_screen(MoreStepsScreen(run_dir.name, total), after)

    def _go_on(self, run_dir: RunDir, steps: int | None, taken: Callable[[], object]) -> None:
        from rlhf_tui.areas.trust.changed_base import with_base

        shown = self.bridge.watched

        def take(accept_code: bool, accept_base: bool) -> None:
            if self.bridge.busy or self.bridge.watched != shown:  # looking at a large model takes a while
                return
            try:
                if shown != run_dir.path:
                    self.bridge.watch(run_dir)
            except RlhfError as error:
                self.say(str(error), "warning")
                return
            longer = [] if steps is None else [Edit("train.steps", steps)]
            self.bridge.take_over(Resume(run_dir.path, accept_code, accept_base), *longer)
            self.workbench.show_run()
            taken()

        def look(accept_code: bool) -> None:
            with_base(self, run_dir, partial(take, accept_code))

        try:
            config = settings_now(run_dir)
        except RlhfError:
            look(False)  # what is wrong with the run is told when it is resumed
        else:
            self.code_questions.settle(config, look, goes_on=True, of=run_dir)

    # --- screens ---

    def action_generate(self) -> None:
        from rlhf_tui.areas.generate.screen import GenerateScreen
        if self.read_only():
            return
        self.push_screen(GenerateScreen(self.bridge, self.config))

    def action_compare(self) -> None:
        from rlhf_tui.areas.compare.screen import CompareScreen
        if self.read_only():
            return
        self.push_screen(CompareScreen(self.bridge, self.config))

    def action_reward_lab(self) -> None:
        from rlhf_tui.areas.rewards.reward_lab import RewardLabScreen
        self.push_screen(RewardLabScreen(self.bridge, self.lab_memory), self.workbench.follow_lab)

    def action_presets(self) -> None:
        from rlhf_tui.areas.presets.screen import PresetScreen

        if self.read_only():
            return
        held = "a run is in progress: presets are loaded between runs" if self.bridge.busy else ""
        self.push_screen(PresetScreen(held), self.workbench.load_preset)

    def action_runs(self) -> None:
        from rlhf_tui.areas.runs.screen import RunsScreen
        self.push_screen(RunsScreen(self.bridge))

    def action_prompts(self) -> None:
        from rlhf_tui.areas.presets.prompts import PromptsScreen
        self.push_screen(PromptsScreen())

    def action_own_editor(self) -> None:
        self.workbench.editing.in_editor()

    def action_save_preset(self) -> None:
        from rlhf_tui.areas.presets.screen import SavePresetScreen

        def saved(name: str | None) -> None:
            if name is not None:
                self.workbench.editing.saved(name)

        self.push_screen(SavePresetScreen(self.config), saved)

    def action_redraw(self) -> None:
        if driver := driver_of(self):
            driver.write("\x1b[2J")
        self.refresh(layout=True)

    def action_help(self) -> None:
        from rlhf_tui.areas.help.screen import HelpScreen
        self.push_screen(HelpScreen())

    # --- leaving ---

    def action_suspend_process(self) -> None:
        from rlhf_tui.terminal.driver import SUSPENDED, TerminalDriver

        driver = driver_of(self)
        if isinstance(driver, TerminalDriver) and not driver.suspend(SUSPENDED):
            self.say("not suspended: there is no shell here to go back to")

    def action_help_quit(self) -> None:
        self.say("q quits; a run in progress is saved first")

    def _ask_to_leave(self) -> None:
        from rlhf_tui.areas.leaving.quit_screen import QuitScreen

        if not isinstance(self.screen, QuitScreen):
            self.push_screen(QuitScreen(self.bridge))

    async def action_quit(self) -> None:
        if self.bridge.busy or self.leave_code is not None:
            self._ask_to_leave()
        else:
            self.exit(return_code=0)

    def action_detach(self) -> None:
        if self.bridge.viewing:
            self.exit(return_code=0)
        elif self.leave_code is not None:
            return
        elif self.bridge.is_training:
            self.hands_over = True
            self.leave()
            self._ask_to_leave()
        elif self.bridge.busy:
            self.say("a paused run cannot be left running: Space resumes it, q saves and quits")
        else:
            self.say("nothing is running: q quits")

    def leave(self, code: int = 0) -> None:
        """Finish the step, save, then exit with `code`."""
        self.leave_code = code
        self.bridge.close()

    def leave_at_once(self) -> None:
        """Exit now. Checkpoints are renamed into place whole, so the last one stays good."""
        self.left_at_once = True
        self.exit(return_code=self.leave_code or 0)
