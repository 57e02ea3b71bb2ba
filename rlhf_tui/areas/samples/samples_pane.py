"""The pane of samples: the list with its heading and filter field, and the answers to the probe."""

from __future__ import annotations

from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.reactive import reactive
from textual.widgets import Input

from rlhf_tui.areas.samples.answer_history import ProbeLog
from rlhf_tui.areas.samples.samples import Columns, SampleList
from rlhf_tui.engine.sample_store import ORDERS
from rlhf_tui.widgets.inputs import TextField


class SamplesPane(Vertical):
    """The list, its heading and its filter field."""

    DEFAULT_CSS = """
    SamplesPane .heading { height: 1; color: $text-muted; }
    SamplesPane Input { display: none; height: 1; border: none; padding: 0 1; background: $surface; }
    SamplesPane Input.-open { display: block; }
    SamplesPane.-short .heading { display: none; }
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.probes = ProbeLog()
        self.samples = SampleList(id="sample-list")
        self.field = TextField(placeholder="words to look for", id="sample-filter")
        self._heading = Heading(classes="heading")

    def compose(self) -> ComposeResult:
        yield self._heading
        yield self.samples
        yield self.field

    def clear(self, run: str) -> None:
        """Begin with the samples of another run."""
        self.samples.run = run
        self.samples.clear()
        self.probes.clear()

    def cut(self, step: int) -> None:
        """Forget what came after `step`."""
        self.samples.cut(step)
        self.probes.cut(step)

    def open_filter(self) -> None:
        """Let the user type words."""
        self.field.add_class("-open")
        # at once: `focus()` waits for the next message, and a letter typed until then would be a key of the list
        self.screen.set_focus(self.field)

    def close_filter(self) -> None:
        """Esc: show all again."""
        self.field.value = ""
        self.field.remove_class("-open")
        self.samples.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self.samples.filter(event.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value.strip():
            self.close_filter()
        self.samples.focus()

    def on_key(self, event: events.Key) -> None:
        if event.key == "escape" and (self.field.has_focus or self.samples.words):
            event.stop()
            self.close_filter()
        elif event.key == "escape" and self.samples.only_favourites:
            event.stop()
            self.samples.action_favourites()

    def on_sample_list_changed(self) -> None:
        shown = self.samples
        self._heading.columns = shown.columns
        kind = "favourite" if shown.only_favourites else "sample"
        count = f"{len(shown.shown)} {kind}{'' if len(shown.shown) == 1 else 's'}"
        facts = [count if shown.shown or shown.only_favourites else "",
                 "" if shown.order == next(iter(ORDERS)) else shown.order, f"“{shown.words}”" if shown.words else ""]
        if shown.held or shown.cursor > 0:
            facts.append(f"held · {shown.waiting} newer · f follows" if shown.waiting else "held · f follows")
        self.border_subtitle = Content(" · ".join(filter(None, facts)))


class Heading(Vertical):
    """Names of the columns."""

    DEFAULT_CSS = "Heading { height: 1; }"
    columns: reactive[Columns] = reactive(Columns())

    def render(self) -> Content:
        return Content(self.columns.heading).truncate(self.size.width)
