"""Choosing one of many: type to filter, ↑ ↓ to look, Enter or a click to take, Esc empties the filter, then leaves."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ScreenResultType
from textual.widgets import Input, OptionList, Static

from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.inputs import TextField
from rlhf_tui.widgets.screen import BaseDialog


class Picker(BaseDialog[ScreenResultType | None]):
    """A filter over a list. Who inherits fills the list, says what an option stands for, and binds Enter to `take`.

    Dismisses with what was taken, or None.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Back", tooltip="Empty the filter, or back", id="picker.back"),
        Binding("up", "look(-1)", "Up", show=False),
        Binding("down", "look(1)", "Down", show=False),
    ]
    title_text = ""

    def __init__(self) -> None:
        super().__init__()
        self._filter = TextField(placeholder="type to filter", id="filter")
        self._list = ChoiceList(id="names", markup=False, compact=True)
        self._list.can_focus = False

    def on_mount(self) -> None:
        self._fill()
        self._filter.focus()

    def _fill(self) -> None:
        """List what matches the filter, the cursor where one would begin."""
        raise NotImplementedError

    def _meant(self, index: int) -> ScreenResultType | None:
        """What the option at `index` stands for."""
        raise NotImplementedError

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as one types."""
        event.stop()
        self._fill()

    def on_option_list_option_selected(self, _: OptionList.OptionSelected) -> None:
        """A click takes it."""
        self.action_take()

    def action_look(self, step: int) -> None:
        """Another one."""
        if self._list.option_count:
            at = self._list.highlighted or 0
            self._list.highlighted = max(0, min(self._list.option_count - 1, at + step))

    def action_take(self) -> None:
        """Dismiss with the one under the cursor."""
        if self._list.highlighted is not None and self._list.option_count:
            self.dismiss(self._meant(self._list.highlighted))

    def action_back(self) -> None:
        """Empty the filter first."""
        if self._filter.value:
            self._filter.value = ""
        else:
            self.dismiss(None)


class DetailsPicker(Picker[str]):
    """Beside the list stands what there is to say of the option under the cursor; options are taken by their id."""

    keys_text = "Enter take · ↑↓ look · PgUp PgDn details · Esc back"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "scroll(-1)", "Details up", show=False),
        Binding("pagedown", "scroll(1)", "Details down", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._details = Static("", id="details", markup=False)

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_title = Content(self.title_text)
            box.border_subtitle = Content(self.keys_text)
            yield self._filter
            with Horizontal():
                yield self._list
                with VerticalScroll(can_focus=False):
                    yield self._details

    def _meant(self, index: int) -> str | None:
        return self._list.get_option_at_index(index).id

    def action_scroll(self, pages: int) -> None:
        """Scroll the details."""
        details = self.query_one(VerticalScroll)
        details.scroll_relative(y=pages * max(1, details.size.height - 1), animate=False)
