"""The keys that act on every screen that does not use them otherwise, in the order in which help lists them."""

from __future__ import annotations

from textual.binding import Binding, BindingType

KEYS: list[BindingType] = [
    Binding("comma,f3", "settings", "Preferences", tooltip="Theme, charts, notifications", id="app.settings",
            key_display=","),
    Binding("a", "alarms", "Alarms", tooltip="All warnings and notices so far", id="app.alarms"),
    Binding("l", "label", "Label", tooltip="Two responses side by side: say which is better", id="app.label"),
    Binding("H", "loop", "Human feedback", id="app.loop",
            tooltip="From judged pairs to a reward model and the tuned policy: how far, and what is missing"),
    Binding("L", "output", "Log", tooltip="What reward functions and libraries printed, and tracebacks",
            id="app.output"),
    Binding("f4", "system", "System", tooltip="Processor, memory, disk, GPUs, and the engine's speed",
            id="app.system"),
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
