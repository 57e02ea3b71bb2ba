"""All prompts of the run: looked through, and between runs added, changed and taken out."""

from __future__ import annotations

import json
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.config.fields import replace
from rlhf_engine.errors import ConfigError, RlhfError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.system.visible_text import visible
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.terminal.own_editor import edited as text_from_editor
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import EditField, TextField
from rlhf_tui.widgets.screen import BaseDialog


class PromptsScreen(BaseDialog[None]):
    """A list and one field, which searches or holds the prompt that is being written. Every change is one undo."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#prompts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "Add prompt", tooltip="Write another prompt", id="prompts.add"),
        Binding("x,delete", "remove", "Remove prompt", tooltip="Take the prompt out; u brings it back",
                id="prompts.remove"),
        Binding("E", "editor", "Own editor", tooltip="Write all prompts in your own editor ($VISUAL, $EDITOR)",
                id="prompts.editor"),
        Binding("u", "undo", "Undo", tooltip="Undo the newest change", id="prompts.undo"),
        Binding("slash", "search", "Search", tooltip="Show only prompts with some words", id="prompts.search"),
        Binding("escape", "back", "Back", tooltip="Out of the search, or back", id="prompts.back"),
    ]

    def __init__(self, bridge: EngineBridge, edited: EditedConfig) -> None:
        super().__init__()
        self._bridge, self._edited = bridge, edited
        self._list = ChoiceList(id="prompts", markup=False, compact=True)
        self._search = TextField(placeholder="words to look for", id="search")
        self._field = EditField(id="field")
        self._said = Static("", id="said", markup=False)
        self._shown: list[int] = []
        """The places of the listed prompts among all."""
        self._writing: int | None = None
        """The place of the prompt in the field; that behind the last is a new one."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box") as box:
            box.border_subtitle = Content("Enter edit · a add · x remove · E editor · / search · u undo · Esc back")
            yield self._list
            yield self._search
            yield self._field
            yield self._said

    def on_mount(self) -> None:
        self._search.display = self._field.display = False
        self._fill()
        self._say(self._refusal() or "each step draws from these in shuffled order, again and again")

    @property
    def _prompts(self) -> list[str]:
        return self._edited.config.data.prompts

    def _fill(self, at: int | None = None) -> None:
        """List what holds the words that are looked for, the cursor on the prompt at place `at`, or where it was."""
        words = self._search.value.lower().split()
        line = self._list.highlighted or 0
        self._shown = [place for place, prompt in enumerate(self._prompts)
                       if all(word in prompt.lower() for word in words)]
        width = len(str(len(self._prompts)))
        self._list.clear_options()
        self._list.add_options([
            Option(Content.assemble((f"{place + 1:>{width}}  ", "$text-muted"), clean_line(self._prompts[place])))
            for place in self._shown])
        if self._shown:
            line = self._shown.index(at) if at in self._shown else line
            self._list.highlighted = max(0, min(len(self._shown) - 1, line))
        count = f"{len(self._shown)} of {len(self._prompts)}" if words else f"{len(self._prompts)}"
        self.query_one("#box").border_title = Content(f"Prompts · {count}")

    def _refusal(self) -> str:
        """Why nothing can be changed now; empty when it can."""
        if self._bridge.viewing:
            return "viewing only: these are the prompts that the run began with"
        return "a run is in progress: its prompts are fixed until it ends" if self._bridge.busy else ""

    def _change(self, prompts: list[str], at: int | None = None) -> bool:
        """Take these prompts, if they are allowed."""
        if refusal := self._refusal():
            self._say(refusal, "$text-warning")
            return False
        try:
            replace(self._edited.config, {"data.prompts": prompts})
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
            return False
        self._edited.edit("data.prompts", prompts)
        self._fill(at)
        self._say(f"{len(prompts)} prompts for the next run · u takes that back")
        return True

    def _place(self) -> int | None:
        at = self._list.highlighted
        return self._shown[at] if at is not None and at < len(self._shown) else None

    # --- changes ---

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click: write it anew."""
        event.stop()
        place = self._place()
        if place is not None:
            if "\n" in self._prompts[place]:
                self._say("a prompt of several lines: E opens your editor for it", "$text-warning")
            else:
                self._write(place, self._prompts[place])

    def action_add(self) -> None:
        """Write another one."""
        self._write(len(self._prompts), "")

    def _write(self, place: int, text: str) -> None:
        if refusal := self._refusal():
            self._say(refusal, "$text-warning")
            return
        self._writing, self._field.value, self._field.display = place, text, True
        self._field.focus()
        self._say("Enter keeps it, Esc does not")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep what was written."""
        event.stop()
        if event.input is self._search:
            self._list.focus()
        elif self._writing is not None:
            prompts = [*self._prompts]
            prompts[self._writing:self._writing + 1] = [self._field.value]
            if self._change(prompts, self._writing):
                self._close()

    def on_edit_field_left(self, event: EditField.Left) -> None:
        """Esc drops what was written; other keys stay with it."""
        event.stop()
        if event.how == "escape":
            self._close()
            self._say("nothing was changed")

    def _close(self) -> None:
        self._writing, self._field.display = None, False
        self._list.focus()

    def action_remove(self) -> None:
        """Take it out."""
        place = self._place()
        if place is not None:
            self._change([*self._prompts[:place], *self._prompts[place + 1:]])

    def action_undo(self) -> None:
        """Take the newest change of a setting back."""
        if refusal := self._refusal():
            self._say(refusal, "$text-warning")
        else:
            self._edited.undo()
            self._fill()
            self._say(f"{len(self._prompts)} prompts")

    def action_editor(self) -> None:
        """All of them in the user's editor: a line each, or as JSON lines where one has several."""
        if refusal := self._refusal():
            self._say(refusal, "$text-warning")
            return
        # as JSON, too, what an editor, or the terminal below it, would obey
        several = any("\n" in prompt or visible(prompt) != prompt for prompt in self._prompts)
        lines = [to_json(prompt, ascii_only=False) if several else prompt for prompt in self._prompts]
        try:
            text = text_from_editor(self.app, "\n".join(lines) + "\n", "prompts.jsonl" if several else "prompts.txt")
            prompts = [_json(line, at) if several else line
                       for at, line in enumerate(text.split("\n"), 1) if line.strip()]
        except ConfigError as error:
            self._say(f"✗ {error}", "$text-error")
            return
        if prompts == self._prompts:
            self._say("nothing was changed")
        else:
            self._change(prompts)

    # --- looking through ---

    def action_search(self) -> None:
        """Type words."""
        self._search.display = True
        self._search.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Search as one types."""
        event.stop()
        if event.input is self._search:
            self._list.highlighted = 0
            self._fill()

    def action_back(self) -> None:
        """Out of the search, or leave."""
        if self._search.display:
            self._search.value, self._search.display = "", False
            self._fill()
            self._list.focus()
        else:
            self.dismiss(None)

    def _say(self, text: str, style: str = "$text-muted") -> None:
        self._said.update(Content.styled(clean_text(text), style))


def _json(line: str, number: int) -> str:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, str):
        raise ConfigError(f"line {number} is no JSON string: nothing was changed")
    return value
