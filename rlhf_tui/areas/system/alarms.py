"""The log of alarms, warnings and notices, newest first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from rlhf_tui.engine.alarm_log import AlarmLog, Entry
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.screen import BaseDialog
from rlhf_tui.widgets.status import LEVELS

_HINT = "w warnings only · L log · y copy · Esc close"


def moment(at: datetime | None) -> str:
    """A time of day; the word for one that nobody knows."""
    return f"{at:%H:%M:%S}" if at else "earlier"


def lines(entries: Iterable[Entry], width: int) -> Iterator[Content]:
    """Each entry in a column of its own behind time, step and level; the later lines of a long one indented."""
    for entry in entries:
        symbol, style = LEVELS[entry.level]
        head = Content.assemble((f"{moment(entry.at):<8} {f'step {entry.step}':<9} ", "$text-muted"),
                                (f"{symbol} ", style))
        text = Content(entry.text, strip_control_codes=False)
        first, *rest = text.wrap(max(10, width - head.cell_length)) or [Content("")]
        yield head + first
        for line in rest:
            yield Content(" " * head.cell_length) + line


def as_text(entries: Iterable[Entry]) -> str:
    """The log for the clipboard, one entry a line."""
    return "\n".join(f"{moment(entry.at)}\tstep {entry.step}\t{entry.level}\t{entry.text}" for entry in entries)


class AlarmsScreen(BaseDialog[None]):
    """Reads; what comes in while it is open is read as well."""

    DEFAULT_CSS = """
    AlarmsScreen { align: center middle; background: $background 60%; }
    AlarmsScreen > VerticalScroll {
        width: 94%; max-width: 130; height: auto; max-height: 86%; min-height: 5;
        border: round $border; background: $surface; padding: 0 1; scrollbar-size-vertical: 1;
    }
    AlarmsScreen Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,a,enter", "dismiss", "Close", id="alarms.close"),
        Binding("w", "warnings", "Warnings only", tooltip="Leave out what was merely said", id="alarms.warnings"),
        Binding("y", "copy", "Copy", tooltip="Copy the log", id="alarms.copy"),
        Binding("L", "app.output", "Log", tooltip="What reward functions and libraries printed, and tracebacks",
                id="alarms.output"),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, log: AlarmLog) -> None:
        super().__init__()
        self._log = log
        self._warnings = False
        self._text = Static("", markup=False)

    def compose(self) -> ComposeResult:
        with VerticalScroll() as box:
            box.border_title = Content("Alarms and notices, newest first")
            box.border_subtitle = Content(_HINT)
            yield self._text

    def on_resize(self, _: events.Resize) -> None:
        self.call_after_refresh(self._show)

    def on_engine_events(self, _: EngineEvents) -> None:
        """Something may have been added."""
        if self._log.unread:
            self._show()

    @property
    def _shown(self) -> list[Entry]:
        return [entry for entry in reversed(self._log.entries) if entry.level != "info" or not self._warnings]

    def _show(self) -> None:
        self._log.unread = 0
        width = self.query_one(VerticalScroll).scrollable_content_region.width
        nothing = "no warning so far" if self._warnings else "nothing to tell so far"
        self._text.update(Content("\n").join(lines(self._shown, width)) if self._shown else Content(nothing))

    def action_warnings(self) -> None:
        """All, or warnings only."""
        self._warnings = not self._warnings
        self._show()

    def action_copy(self) -> None:
        """Copy what is shown."""
        self.query_one(VerticalScroll).border_subtitle = Content(copy(self.app, as_text(self._shown)))
