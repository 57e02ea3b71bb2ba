"""The app: themes, keys that act everywhere, and which object does what. Screens, panes and those objects do the rest.
"""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import events
from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.command import Provider
from textual.driver import Driver
from textual.filter import LineFilter, Monochrome
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input, TextArea

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import short
from rlhf_engine.events import Event, ModelLoaded, RunStarted
from rlhf_engine.system.streams import on_descriptor
from rlhf_tui.app_keys import KEYS
from rlhf_tui.areas.leaving.leaving import Leaving
from rlhf_tui.areas.preferences.preferences import Preferences, preset_to_keep
from rlhf_tui.areas.rewards.lab_memory import LabMemory
from rlhf_tui.areas.runs.run_control import RunControl
from rlhf_tui.areas.samples.sample import SampleScreen
from rlhf_tui.areas.trust.code_questions import CodeQuestions
from rlhf_tui.areas.workbench.screen import WorkbenchScreen
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.alarm_log import AlarmLog
from rlhf_tui.engine.bridge import TICK_SECONDS, EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.ascii_only import AsciiOnly, terminal_has_unicode
from rlhf_tui.terminal.clean_text import clean_line, clean_text, pasted
from rlhf_tui.terminal.clipboard import save_picture
from rlhf_tui.terminal.crash_log import write_crash_log
from rlhf_tui.terminal.input import BackgroundTold
from rlhf_tui.terminal.input_order import InputOrder
from rlhf_tui.terminal.no_color import Plain
from rlhf_tui.terminal.notifications import RunWatch, tell
from rlhf_tui.terminal.signals import install_signal_handlers
from rlhf_tui.terminal.textual_private import driver_of
from rlhf_tui.terminal.theme import AUTO, THEMES, is_light
from rlhf_tui.terminal.vi_keys import translate_vi_key
from rlhf_tui.widgets.hint import FirstHint
from rlhf_tui.widgets.inputs import TextBox, TextField, WordsArea
from rlhf_tui.widgets.screen import BaseScreen
from rlhf_tui.widgets.status import AlarmLine, Meter

if TYPE_CHECKING:  # drawn later than the first frame
    from rlhf_tui.areas.inspect.screen import InspectScreen
    from rlhf_tui.areas.label.label_start import LabelStart


def _commands() -> type[Provider]:
    from rlhf_tui.areas.help.commands import WorkbenchCommands

    return WorkbenchCommands


class WorkbenchApp(App[None]):
    """The workbench. `edited` holds the config of the next run; `leaving` tells afterwards how it was left."""

    TITLE = "rlhf-tui"
    # that of the default screen; only screens that are pushed bring their own
    CSS_PATH = "areas/workbench/screen.tcss"
    # else Textual takes the terminal's own background, on which our text may not be readable, and gives a field a
    # cursor that is black on black
    CSS = """
    Screen:ansi { background: $background; color: $foreground; }
    Input:ansi > .input--cursor { background: ansi_black; color: ansi_white; text-style: reverse; }
    CommandPalette:ansi > .command-palette--help-text { text-style: not bold not dim; }
    """
    COMMANDS: ClassVar = {_commands}
    BINDINGS: ClassVar[list[BindingType]] = KEYS

    def __init__(
        self, bridge: EngineBridge, config: RunConfig, preset: str = "", *, start: bool = False,
        meter: Meter | None = None, original: RunConfig | None = None, preferences: Preferences | None = None,
        greeting: str = "", label: LabelStart | None = None,
    ) -> None:
        """original: the preset's own config, where `config` differs. greeting: what to say first. label: the label
        screen is open from the start."""
        super().__init__()
        self.bridge = bridge
        self.edited = EditedConfig(bridge, config, preset, original=original, say=self.say)
        self.preferences = preferences or Preferences()
        self.alarm_log = AlarmLog()
        self.lab_memory = LabMemory()
        self.leaving = Leaving(self, bridge)
        self.code_questions = CodeQuestions(self)
        self.run_control = RunControl(self, bridge, self.edited, self.code_questions, say=self.say,
                                      show_run=lambda: self.workbench.show_run())
        self._start, self._meter, self._greeting, self._label = start, meter, greeting, label
        self._greeted = self._libraries_are_there = False
        self._ascii_only = [] if terminal_has_unicode() else [AsciiOnly()]
        self._run_watch = RunWatch()
        self._input_order = InputOrder(self)
        # over a slow line each frame of an animation costs; a spinner is 100 KB a second
        self.animation_level = "none"
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self._preferred_theme()

    # --- beginning and ending ---

    def get_driver_class(self) -> type[Driver]:
        if sys.platform == "win32":
            return super().get_driver_class()
        from rlhf_tui.terminal.driver import TerminalDriver
        return TerminalDriver

    def get_default_screen(self) -> WorkbenchScreen:
        """The workbench itself: an empty screen below it would be laid out and drawn for nothing."""
        self.workbench = WorkbenchScreen(self.bridge, self.edited, self._meter)
        self.workbench.open_at(self.preferences.now.pane, zoomed=self.preferences.now.zoomed)
        self.preferences.show_charts(self.workbench.charts)  # before it is drawn first
        return self.workbench

    def on_mount(self) -> None:
        if not self.is_headless:
            install_signal_handlers(terminated=self.leaving.terminated, hung_up=self.leaving.hung_up)
            self.begin_capture_print(self)
        # the engine thread imports torch when it has work: not before the first frame is drawn
        self.call_after_refresh(self._open_engine)
        self.call_after_refresh(self._greet)

    def _open_engine(self) -> None:
        # what is there now stays: no search for garbage, which a key would have to wait for, needs to look at it again
        gc.freeze()
        gc.enable()
        self.bridge.open()
        self.set_interval(TICK_SECONDS, self._tick)
        if self._start:
            self.action_toggle_run()
        if self._label is not None:
            self.show_label_screen(self._label)

    def _greet(self) -> None:
        self._greeted = True
        self.theme_changed_signal.subscribe(self.workbench, self._theme_changed)
        if not self.preferences.now.hint_seen:
            self.workbench.mount(FirstHint())
        if self._greeting:
            self.workbench.say(self._greeting)
        if self.preferences.trouble:
            self.workbench.say(self.preferences.trouble, "warning")
            self.alarm_log.note(self.preferences.trouble, "warning")
            self.preferences.trouble = ""

    def on_unmount(self) -> None:
        if not self._greeted:  # the start failed
            return
        pane, zoomed = self.workbench.place
        self.preferences.note(pane=pane, zoomed=zoomed)
        self.preferences.note_charts(self.workbench.charts)
        if self.edited.preset and not self.bridge.viewing:
            self.preferences.note(last_preset=preset_to_keep(self.edited.preset))
        self.preferences.keep()

    def terminal_gone(self) -> None:
        """Called by the driver."""
        self.leaving.hung_up()

    def _fatal_error(self) -> None:
        """End with the traceback, and keep it in a log.

        Textual's own also draws what every local held: pages of it, prompts included, and it dies of an object that
        cannot be drawn yet, so that nobody learns what had gone wrong first.
        """
        error = sys.exception()
        assert error is not None, "called while an exception is handled"
        self.bell()
        told = "".join(traceback.format_exception(error)) + f"The screen crashed; details in {write_crash_log(error)}"
        self.panic(Text(clean_text(told)))

    # --- what comes in ---

    async def on_event(self, event: events.Event) -> None:
        if not self._input_order.admits(event):
            return
        if isinstance(event, events.Key) and not event.is_forwarded:
            event = translate_vi_key(self, event)
        elif isinstance(event, events.Paste) and not isinstance(self.focused, TextField | TextBox | WordsArea):
            event.text = pasted(event.text)  # a field of Textual's own takes what comes
        # here, and not in a key handler, since most keys are bindings, which no handler sees
        if isinstance(event, events.Key | events.MouseDown) and not self.preferences.now.hint_seen:
            await self.workbench.query(FirstHint).remove()
            self.preferences.note(hint_seen=True)
            self.preferences.keep()
        await super().on_event(event)

    def on_print(self, event: events.Print) -> None:
        # by a thread of ours, a library's warning say; these descriptors lead into the log while there is a screen
        on_descriptor(2 if event.stderr else 1, event.text)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        # a blinking cursor sends 2.5 KB a second while nothing happens; this reaches the command palette's field too
        if isinstance(event.widget, Input | TextArea):
            event.widget.cursor_blink = False

    def _tick(self) -> None:
        self.show_events(self.bridge.tick())
        self.leaving.exit_when_saved()

    def show_events(self, events: list[Event]) -> None:
        """Hand a batch of events to every open screen, keep what they warn of, and tell a person elsewhere when a run
        has ended."""
        if not self._libraries_are_there and any(isinstance(event, ModelLoaded) for event in events):
            # they came with some 300,000 objects that stay. Once: whatever is frozen is never collected, and at the
            # next model that would be all the screens that were left by then
            self._libraries_are_there = True
            gc.freeze()
        if not events:
            return
        # a run that is opened to be viewed tells all its past at once
        earlier = self.bridge.viewing and any(isinstance(event, RunStarted) for event in events)
        self.alarm_log.take(events, earlier=earlier)
        self.workbench.show_unread(self.alarm_log.unread)
        if told := self._run_watch.take(events, self.bridge.view.name):
            tell(self, self.preferences.now.notifications, told)
        for screen in self.screen_stack:
            screen.post_message(EngineEvents(events))

    # --- what is said ---

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

    def on_alarm_line_cut(self, event: AlarmLine.Cut) -> None:
        """What has no room on the screen can be read in the log."""
        self.alarm_log.note_if_new(event.text, event.level)
        self.workbench.show_unread(self.alarm_log.unread)

    # --- colours ---

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = [*super().get_line_filters(), *self._ascii_only]
        if not (self.no_color and self.native_ansi_color):
            return filters
        return [Plain() if isinstance(filter, Monochrome) else filter for filter in filters]

    def _preferred_theme(self) -> str:
        return self.preferences.theme(self.available_themes, self.console.color_system)

    @property
    def asks_for_background(self) -> bool:
        """Whether the theme depends on what the terminal draws on."""
        return self.preferences.now.theme == AUTO

    def on_background_told(self, event: BackgroundTold) -> None:
        """A light terminal gets the light theme, where nobody chose one."""
        self.preferences.light = is_light(event.red, event.green, event.blue)
        if self.asks_for_background:
            self.theme = self._preferred_theme()

    def _theme_changed(self, theme: Theme) -> None:
        # by the palette too; what stands for "auto" stays that
        if theme.name != self._preferred_theme():
            self.preferences.note(theme=theme.name)

    # --- keys: the run ---

    def action_toggle_run(self) -> None:
        from rlhf_engine.runs.reward_models import missing_reward_model

        starts = not (self.bridge.busy or self.bridge.viewing)
        if starts and (missing := missing_reward_model(self.edited.config)):
            self.show_loop(f"not started: there is no reward model {short(clean_line(missing))!r} yet")
        else:
            self.run_control.start_or_stop()

    def action_toggle_pause(self) -> None:
        self.run_control.pause_or_resume()

    def action_checkpoint(self) -> None:
        self.run_control.save_checkpoint()

    def action_take_over(self) -> None:
        self.run_control.take_over()

    # --- keys: screens ---

    def action_generate(self) -> None:
        from rlhf_tui.areas.generate.screen import GenerateScreen

        if not self.run_control.read_only():
            self.push_screen(GenerateScreen(self.bridge, self.code_questions, self.edited.config))

    def action_compare(self) -> None:
        from rlhf_tui.areas.compare.screen import CompareScreen

        if not self.run_control.read_only():
            self.push_screen(CompareScreen(self.bridge, self.code_questions, self.edited.config))

    def on_sample_screen_inspect_asked(self, event: SampleScreen.InspectAsked) -> None:
        from rlhf_tui.areas.inspect.screen import InspectScreen

        if isinstance(self.screen, SampleScreen):  # not left meanwhile
            self.switch_screen(InspectScreen(self.bridge, self.edited.method, [event.sample]))

    def on_inspect_screen_methods_asked(self, event: InspectScreen.MethodsAsked) -> None:
        from rlhf_tui.areas.inspect.methods import MethodsScreen

        if self.bridge.lost:
            self.say(self.bridge.lost, "warning")
        else:
            # the settings that the sample is of, whatever the next run is to have
            config = self.bridge.view.config or self.edited.config
            self.push_screen(MethodsScreen(self.bridge, self.code_questions, config, event.prompt))

    def action_reward_lab(self) -> None:
        from rlhf_tui.areas.rewards.reward_lab import RewardLabScreen

        lab = RewardLabScreen(self.bridge, self.edited, self.code_questions, self.lab_memory,
                              self.workbench.newest_samples)
        self.push_screen(lab, self.workbench.follow_lab)

    def action_presets(self) -> None:
        from rlhf_tui.areas.presets.screen import PresetScreen

        if self.run_control.read_only():
            return
        held = "a run is in progress: presets are loaded between runs" if self.bridge.busy else ""
        self.push_screen(PresetScreen(held), lambda name: self.edited.load_preset(name) if name is not None else None)

    def action_save_preset(self) -> None:
        from rlhf_tui.areas.presets.screen import SavePresetScreen

        self.push_screen(SavePresetScreen(self.edited.config),
                         lambda name: self.edited.saved(name) if name is not None else None)

    def action_prompts(self) -> None:
        from rlhf_tui.areas.presets.prompts import PromptsScreen
        self.push_screen(PromptsScreen(self.bridge, self.edited))

    def action_own_editor(self) -> None:
        from rlhf_tui.areas.settings_form.as_text import edit_as_text
        edit_as_text(self, self.edited)

    def action_runs(self) -> None:
        from rlhf_tui.areas.runs.screen import RunsScreen
        self.push_screen(RunsScreen(self.bridge, self.run_control, self.code_questions, self.workbench.overlays,
                                    self.edited))

    def action_help(self) -> None:
        from rlhf_tui.areas.help.screen import HelpScreen
        self.push_screen(HelpScreen(self.edited.method))

    def action_alarms(self) -> None:
        from rlhf_tui.areas.system.alarms import AlarmsScreen

        self.workbench.show_unread(0)
        self.push_screen(AlarmsScreen(self.alarm_log), lambda _: self.workbench.show_unread(self.alarm_log.unread))

    def action_output(self) -> None:
        from rlhf_engine.runs.run_files import OUTPUT
        from rlhf_tui.areas.system.output import OutputScreen
        from rlhf_tui.terminal.crash_log import output_log

        run = self.bridge.watched or self.bridge.run_path
        self.push_screen(OutputScreen(run / OUTPUT, self.bridge.view.name) if run else OutputScreen(output_log(), ""))

    def action_label(self) -> None:
        from rlhf_engine.config.preference import labels_to_add_to
        from rlhf_engine.pipelining.loop_list import own_labels_of
        from rlhf_tui.areas.label.label_start import LabelStart, usual_path

        view, root = self.bridge.view, self.bridge.runs_root
        config = view.config or self.edited.config
        path = labels_to_add_to(config.rewards) or own_labels_of(config, root) or usual_path(
            view.preset or self.edited.preset, view.name, root)
        self.show_label_screen(LabelStart(path, seed=self.edited.config.train.seed))

    def action_loop(self) -> None:
        self.show_loop()

    def show_loop(self, said: str = "") -> None:
        """What is missing from the first label to the tuned policy. said: why it is opened, where nobody asked."""
        from rlhf_tui.areas.loop.screen import LoopScreen

        if any(isinstance(screen, LoopScreen) for screen in self.screen_stack):
            self.say(said or "the loop is open below: Esc leads there", "warning" if said else "info")
        else:
            self.push_screen(LoopScreen(self.bridge, self.edited, self.run_control, self.code_questions,
                                        self.show_label_screen, said=said))

    def show_label_screen(self, start: LabelStart, config: RunConfig | None = None) -> None:
        """Let somebody judge, unless that is open already: a label file has one writer. config: what answers are
        sampled by, where that is not what is edited."""
        from rlhf_tui.areas.label.label_start import usual_rater
        from rlhf_tui.areas.label.screen import LabelScreen

        if any(isinstance(screen, LabelScreen) for screen in self.screen_stack):
            self.say("the label screen is open below: Esc leads there")
            return
        start = replace(start, rater=start.rater or usual_rater(self.preferences.now.rater))
        self.push_screen(LabelScreen(self.bridge, self.code_questions, self.preferences,
                                     config or self.edited.config, start))

    def action_system(self) -> None:
        from rlhf_tui.areas.system.machine import Probe
        from rlhf_tui.areas.system.screen import SystemScreen

        self.push_screen(SystemScreen(self.bridge.view, partial(Probe, self.bridge.runs_root)))

    def action_settings(self) -> None:
        from rlhf_tui.areas.preferences.screen import SettingsScreen

        self.preferences.note_charts(self.workbench.charts)
        self.push_screen(SettingsScreen(self.preferences), self._preferences_closed)

    def _preferences_closed(self, said: str | None) -> None:
        self.preferences.show_charts(self.workbench.charts)
        if said:
            self.workbench.say(said)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What has no key. Textual's others are second ways to leave, to zoom or to ask for help."""
        yield SystemCommand("Theme", "Colours for now; , has more", self.action_change_theme)
        # the palette has to be gone first
        yield SystemCommand("Screenshot", "Save a picture (SVG) of the screen",
                            lambda: self.set_timer(0.1, lambda: self.say(save_picture(self))))

    def action_redraw(self) -> None:
        if driver := driver_of(self):
            driver.write("\x1b[2J")
        self.refresh(layout=True)

    # --- keys: leaving ---

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
            self.push_screen(QuitScreen(self.bridge, self.leaving))

    async def action_quit(self) -> None:
        if self.bridge.busy or self.leaving.code is not None:
            self._ask_to_leave()
        else:
            self.exit(return_code=0)

    def action_detach(self) -> None:
        if self.leaving.detach():
            self._ask_to_leave()
