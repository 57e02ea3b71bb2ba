"""What surrounds the runs: themes, remembered settings, the log of alarms, notifications, the hint of the first start.

The app proper, with its runs and screens, stands on this (`app.WorkbenchApp`).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual import events
from textual.app import App
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, Monochrome
from textual.theme import Theme

from rlhf_engine.events import Event, RunStarted
from rlhf_tui.areas.preferences.preferences import Preferences, preset_to_keep
from rlhf_tui.engine.alarm_log import AlarmLog
from rlhf_tui.terminal.ascii_only import AsciiOnly, terminal_has_unicode
from rlhf_tui.terminal.clean_text import clean_text, pasted
from rlhf_tui.terminal.crash_log import write_crash_log
from rlhf_tui.terminal.input import BackgroundTold
from rlhf_tui.terminal.input_order import InputOrder
from rlhf_tui.terminal.no_color import Plain
from rlhf_tui.terminal.notifications import RunWatch, tell
from rlhf_tui.terminal.theme import AUTO, THEMES, is_light
from rlhf_tui.terminal.vi_keys import translate_vi_key
from rlhf_tui.widgets.hint import FirstHint
from rlhf_tui.widgets.inputs import TextBox, TextField, WordsArea
from rlhf_tui.widgets.status import AlarmLine

if TYPE_CHECKING:
    from rlhf_tui.areas.workbench.screen import WorkbenchScreen
    from rlhf_tui.engine.bridge import EngineBridge


class Desk(App[None]):
    """An app that remembers. `workbench`, `bridge` and `preset` are the app's own, there once it is mounted."""

    # else Textual takes the terminal's own background, on which our text may not be readable, and gives a field a
    # cursor that is black on black
    CSS = """
    Screen:ansi { background: $background; color: $foreground; }
    Input:ansi > .input--cursor { background: ansi_black; color: ansi_white; text-style: reverse; }
    CommandPalette:ansi > .command-palette--help-text { text-style: not bold not dim; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("comma,f3", "settings", "Preferences", tooltip="Theme, charts, notifications", id="app.settings",
                key_display=","),
        Binding("a", "alarms", "Alarms", tooltip="All warnings and notices so far", id="app.alarms"),
        Binding("l", "output", "Log", tooltip="What reward functions and libraries printed, and tracebacks",
                id="app.output"),
        Binding("f4", "system", "System", tooltip="Processor, memory, disk, GPUs, and the engine's speed",
                id="app.system"),
    ]
    workbench: WorkbenchScreen
    bridge: EngineBridge
    preset: str

    def __init__(self, preferences: Preferences | None = None) -> None:
        super().__init__()
        self.preferences = preferences or Preferences()
        self.greeting = ""
        """What to say first."""
        self.alarm_log = AlarmLog()
        self._ascii_only = [] if terminal_has_unicode() else [AsciiOnly()]
        self._watch = RunWatch()
        self._input_order = InputOrder(self)
        self._greeted = False
        for theme in THEMES:
            self.register_theme(theme)
        self.theme = self.preferences.theme(self.available_themes, self.console.color_system)

    def on_mount(self) -> None:
        self.call_after_refresh(self._greet)

    def _greet(self) -> None:
        self._greeted = True
        self.theme_changed_signal.subscribe(self.workbench, self._theme_changed)
        if not self.preferences.now.hint_seen:
            self.workbench.mount(FirstHint())
        if self.greeting:
            self.workbench.say(self.greeting)
        if self.preferences.trouble:
            self.workbench.say(self.preferences.trouble, "warning")
            self.alarm_log.note(self.preferences.trouble, "warning")
            self.preferences.trouble = ""

    def get_line_filters(self) -> Sequence[LineFilter]:
        filters = [*super().get_line_filters(), *self._ascii_only]
        if not (self.no_color and self.native_ansi_color):
            return filters
        return [Plain() if isinstance(filter, Monochrome) else filter for filter in filters]

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

    def on_unmount(self) -> None:
        if not self._greeted:  # the start failed
            return
        pane, zoomed = self.workbench.place
        self.preferences.note(pane=pane, zoomed=zoomed)
        self.preferences.note_charts(self.workbench.charts)
        if self.preset and not self.bridge.viewing:
            self.preferences.note(last_preset=preset_to_keep(self.preset))
        self.preferences.keep()

    @property
    def asks_for_background(self) -> bool:
        """Whether the theme depends on what the terminal draws on."""
        return self.preferences.now.theme == AUTO

    def on_background_told(self, event: BackgroundTold) -> None:
        """A light terminal gets the light theme, where nobody chose one."""
        self.preferences.light = is_light(event.red, event.green, event.blue)
        if self.asks_for_background:
            self.theme = self.preferences.theme(self.available_themes, self.console.color_system)

    def _theme_changed(self, theme: Theme) -> None:
        # by the palette too; what stands for "auto" stays that
        if theme.name != self.preferences.theme(self.available_themes, self.console.color_system):
            self.preferences.note(theme=theme.name)

    def take(self, events: list[Event]) -> None:
        """Keep what the engine says, and tell a person elsewhere when a run has ended."""
        # a run that is opened to be viewed tells all its past at once
        earlier = self.bridge.viewing and any(isinstance(event, RunStarted) for event in events)
        self.alarm_log.take(events, earlier=earlier)
        self.workbench.show_unread(self.alarm_log.unread)
        if told := self._watch.take(events, self.bridge.view.name):
            tell(self, self.preferences.now.notifications, told)

    def on_alarm_line_cut(self, event: AlarmLine.Cut) -> None:
        """What has no room on the screen can be read in the log."""
        self.alarm_log.note_if_new(event.text, event.level)
        self.workbench.show_unread(self.alarm_log.unread)

    def action_alarms(self) -> None:
        from rlhf_tui.areas.system.alarms import AlarmsScreen

        self.workbench.show_unread(0)
        self.push_screen(AlarmsScreen(self.alarm_log), lambda _: self.workbench.show_unread(self.alarm_log.unread))

    def action_output(self) -> None:
        from rlhf_engine.runs.run_dir import OUTPUT
        from rlhf_tui.areas.system.output import OutputScreen
        from rlhf_tui.terminal.crash_log import output_log

        run = self.bridge.watched or self.bridge.run_path
        self.push_screen(OutputScreen(run / OUTPUT, self.bridge.view.name) if run else OutputScreen(output_log(), ""))

    def action_system(self) -> None:
        from rlhf_tui.areas.system.machine import Probe
        from rlhf_tui.areas.system.screen import SystemScreen

        self.push_screen(SystemScreen(self.bridge.view, partial(Probe, self.bridge.runs_root)))

    def action_settings(self) -> None:
        from rlhf_tui.areas.preferences.screen import SettingsScreen

        self.preferences.note_charts(self.workbench.charts)
        self.push_screen(SettingsScreen(self.preferences), self._settings_closed)

    def _settings_closed(self, said: str | None) -> None:
        self.preferences.show_charts(self.workbench.charts)
        if said:
            self.workbench.say(said)
