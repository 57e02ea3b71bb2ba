"""Fields to type into and choose from, that never blink. What is pasted comes in by `pasted`, as if it was typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.actions import SkipAction
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Input, TextArea

from rlhf_tui.terminal.clean_text import clean_text, pasted
from rlhf_tui.terminal.clipboard import copy
from rlhf_tui.widgets.word_entries import parse_words


class TextField(Input):
    """One line to type into: no border, no blinking cursor (which would write to the terminal for ever)."""

    def __init__(self, value: str = "", **options: Any) -> None:
        super().__init__(compact=True, **options)
        self.cursor_blink = False
        self.value = without_breaks(value)
        self.takes_list = False
        """True while the field holds a list: what is pasted then gets commas between its entries."""

    def action_copy(self) -> None:
        """Copy what is selected, and say where it went; with nothing selected the key means what it means elsewhere."""
        copy_selected(self, self.selected_text)

    def action_cut(self) -> None:
        """Copy what is selected, and take it out."""
        if self.selected_text:
            self.action_copy()
            self.delete_selection()

    def on_paste(self, event: events.Paste) -> None:
        # Input keeps only the first line, and as it came; here all lines are kept, cleaned, as one.
        event.stop()
        event.prevent_default()
        start, end = sorted(self.selection)
        if text := _entries(event.text, self.value[:start]) if self.takes_list else _joined(event.text):
            self.replace(text, start, end)


class EditField(TextField):
    """A field inside a list: tells its owner by which key it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave('escape')", "Back", show=False),
        Binding("tab,down", "leave('next')", "Next", show=False),
        Binding("shift+tab,up", "leave('previous')", "Previous", show=False),
        Binding("f5", "leave('start')", "Start", show=False),
    ]

    @dataclass
    class Left(Message):
        """The field was left by `how`: "escape", "next", "previous" or "start" (the key that starts a run)."""

        how: str

    def action_leave(self, how: str) -> None:
        """Tell the owner, which decides what becomes of the text."""
        self.post_message(self.Left(how))


class NumberField(TextField):
    """A number that ↑ and ↓ move by `step`, staying within `low` and `high`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(1)", "More", show=False),
        Binding("down", "move(-1)", "Less", show=False),
    ]

    def __init__(self, value: float, *, whole: bool, step: float, low: float, high: float, **options: Any) -> None:
        self.whole, self.step, self.low, self.high = whole, step, low, high
        super().__init__(self._shown(value), max_length=20, **options)

    @property
    def number(self) -> float | None:
        """What is typed, or None when that is no number within the bounds."""
        try:
            value = int(self.value) if self.whole else float(self.value)
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None

    @property
    def allowed(self) -> str:
        """What may be typed, in words."""
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self._shown(self.low)} to {self._shown(self.high)}"

    def action_move(self, direction: int) -> None:
        """One step up or down."""
        if self.number is not None:
            moved = min(self.high, max(self.low, self.number + direction * self.step))
            self.value = self._shown(moved)
            self.cursor_position = len(self.value)

    def _shown(self, value: float) -> str:
        return str(int(value)) if self.whole else f"{value:.6g}"


class Choice(Widget, can_focus=True):
    """One of a few words; ← → (or Enter, Space) change it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,enter,space", "turn(1)", "Next", show=False),
        Binding("left", "turn(-1)", "Previous", show=False),
    ]
    DEFAULT_CSS = """
    Choice { height: 1; width: auto; }
    Choice:focus { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
    """
    value = reactive("", layout=True)

    @dataclass
    class Changed(Message):
        """Another word was chosen."""

        choice: Choice
        value: str

    def __init__(self, choices: Sequence[str], value: str, **options: Any) -> None:
        super().__init__(**options)
        self.choices = list(choices)
        self.set_reactive(Choice.value, value)

    def render(self) -> Content:
        """The chosen word between arrows."""
        return Content(f"‹ {self.value} ›")

    def action_turn(self, step: int) -> None:
        """The next or previous word, round and round."""
        at = self.choices.index(self.value) if self.value in self.choices else 0
        self.value = self.choices[(at + step) % len(self.choices)]
        self.post_message(self.Changed(self, self.value))


class WordsArea(TextArea):
    """Several lines of words with commas between; Enter and Tab leave it. A pasted list is read on its own."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "leave('enter')", "Apply", show=False, priority=True),
        Binding("tab", "leave('next')", "Next", show=False, priority=True),
        Binding("shift+tab", "leave('previous')", "Previous", show=False, priority=True),
        Binding("escape", "leave('escape')", "Back", show=False, priority=True),
        Binding("f5", "leave('start')", "Start", show=False),
    ]

    @dataclass
    class Left(Message):
        """The area was left by `how`: "enter", "next", "previous", "escape" or "start" (the key that starts a run)."""

        how: str

    def __init__(self, **options: Any) -> None:
        super().__init__(compact=True, highlight_cursor_line=False, **options)
        self.cursor_blink = False

    def action_leave(self, how: str) -> None:
        """Tell the owner, which decides what becomes of the text."""
        self.post_message(self.Left(how))

    def action_copy(self) -> None:
        """Copy what is selected, and say where it went."""
        copy_selected(self, self.selected_text)

    async def on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        if self.read_only:
            return
        start, end = sorted(self.selection)
        text = _entries(event.text, self.get_text_range((0, 0), start))
        self.move_cursor(self.replace(text, start, end).end_location)

    def put(self, text: str) -> None:
        """Set the text so that undo (Ctrl+Z) can bring back what was there."""
        if text != self.text:
            self.replace(text, self.document.start, self.document.end)
        self.move_cursor(self.document.end)


class TextBox(TextArea):
    """Several lines to type any text into; Tab leaves it. Never blinks."""

    def __init__(self, text: str = "", **options: Any) -> None:
        super().__init__(clean_text(text), compact=True, highlight_cursor_line=False, **options)
        self.cursor_blink = False

    def action_copy(self) -> None:
        """Copy what is selected, and say where it went."""
        copy_selected(self, self.selected_text)

    async def on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        if not self.read_only:
            self.move_cursor(self.replace(pasted(event.text), *sorted(self.selection)).end_location)


def copy_selected(widget: Widget, text: str) -> None:
    """Copy `text` and say where it went; with none the key is left to others."""
    if not text:
        raise SkipAction
    widget.app.notify(copy(widget.app, text), markup=False)


def _joined(text: str) -> str:
    """The lines of what was pasted that hold anything, in one, a space between."""
    lines = [line for line in pasted(text).split("\n") if line.strip()]
    return lines[0] if len(lines) == 1 else " ".join(line.strip() for line in lines)


def _entries(text: str, before: str) -> str:
    """The entries of a pasted list, commas between, to go behind the text `before`."""
    # columns of a table are entries as lines are
    words, before = parse_words(pasted(text, tab="\n")), before.rstrip(" ")
    if len(words) > 1 and before and before[-1] not in ",;\n":
        words.insert(0, "")
    return ", ".join(words)


def without_breaks(text: str) -> str:
    """Clean text with its line breaks turned into spaces, as a field holds it."""
    return clean_text(text).replace("\n", " ")
