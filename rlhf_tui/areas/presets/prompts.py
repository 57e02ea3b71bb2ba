"""All prompts of the run: looked through, and between runs added, changed, held out and taken out; or the rows of a
source of data, which stay as they are."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.fields import replace
from rlhf_engine.data.preview import lists_of_source
from rlhf_engine.data.rows import load_data
from rlhf_engine.errors import ConfigError, RlhfError
from rlhf_tui.areas.presets.prompt_lines import (
    PromptLine,
    held_out,
    lines_of_lists,
    lines_of_rows,
    of_source,
    removed,
    rewritten,
    trained_on,
)
from rlhf_tui.areas.presets.prompts_in_editor import prompts_from_editor
from rlhf_tui.areas.presets.source_rows import SourceRows
from rlhf_tui.background import run_in_background
from rlhf_tui.editing.edited_config import EditedConfig
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.terminal.clean_text import clean_line, clean_text
from rlhf_tui.widgets.choice_list import ChoiceList
from rlhf_tui.widgets.dialogs import DIALOG_STYLES
from rlhf_tui.widgets.inputs import EditField, TextField
from rlhf_tui.widgets.screen import BaseDialog

_LETTERS = 2_000  # of a prompt that are shown
_ROWS = "rows of data.source stay as they are: i takes prompts into the settings, s names another source"


class PromptsScreen(BaseDialog[None]):
    """A list and one field, which holds what is being written. Every change is one undo."""

    CSS_PATH = DIALOG_STYLES
    VERTICAL_BREAKPOINTS = [(0, "-tight"), (14, "-tall")]  # noqa: RUF012 (so the base class declares it)
    AUTO_FOCUS = "#prompts"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "add", "Add prompt", tooltip="Write another prompt", id="prompts.add"),
        Binding("x,delete", "remove", "Remove prompt", tooltip="Take the prompt out; u brings it back",
                id="prompts.remove"),
        Binding("h", "hold_out", "Hold out", id="prompts.hold_out",
                tooltip="Never train on the prompt, only answer it now and then; or train on it again"),
        Binding("s", "source", "Source", tooltip="Name a file, a folder or a dataset that prompts come from",
                id="prompts.source"),
        Binding("i", "inline", "In settings", id="prompts.inline",
                tooltip="Take prompts from the settings again; where there are none, take in the rows of the source"),
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
        self._facts = Static("", id="facts", markup=False)
        self._said = Static("", id="said", markup=False)
        self._rows = SourceRows(self, self._rows_read)
        self._lines: list[PromptLine] = []
        self._lines_of: object = None
        """What the lines were made of."""
        self._shown: list[int] = []
        """The places of the listed lines among all."""
        self._writing: PromptLine | Literal["source"] | None = None
        """What stands in the field; a line whose place is behind the last is a new one."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield self._facts
            yield self._list
            yield self._search
            yield self._field
            yield self._said

    def on_mount(self) -> None:
        self._search.display = self._field.display = False
        self._fill()
        order = "shuffled order" if self._data.shuffle else "this order"
        self._say(self._refusal() or ("rows stay as they are in their file" if self._data.source else
                                      f"each step draws from these in {order}, again and again"))

    def on_resize(self) -> None:
        self._show_keys()

    def _show_keys(self) -> None:
        own = ["i in settings"] if self._data.source else ["a add", "x remove", "E editor"]
        keys = ["Enter edit", *own, "h hold out", "s source", "/ search", "u undo"]
        text, room = " · ".join([*keys, "Esc back"]), min(120, self.app.size.width * 92 // 100) - 6  # of the box's edge
        while len(text) > room and keys:
            keys.pop()
            text = " · ".join([*keys, "Ctrl+P more", "Esc back"])
        self.query_one("#box").border_subtitle = Content(text)

    @property
    def _data(self) -> DataConfig:
        return self._edited.config.data

    @property
    def _prompts(self) -> list[str]:
        return self._data.prompts

    def _rows_read(self) -> None:
        self._lines_of = None
        self._fill()
        if warning := self._rows.warning(self._data):
            self._say(f"✗ {warning}" if self._rows.problem else f"⚠ {warning}", "$text-warning")

    def _look(self) -> None:
        """Take the lines from the settings, and the source as far as it has been read."""
        config = self._edited.config
        if self._data.source is not None:
            self._rows.read(config)
        if self._lines_of is not self._data:
            rows = self._rows.preview.first if self._rows.preview else ()
            self._lines = lines_of_lists(config) if self._data.source is None else lines_of_rows(rows, self._data)
            self._lines_of = self._data

    def _fill(self, at: int | None = None) -> None:
        """List what holds the words that are looked for, the cursor on line `at`, or where it was."""
        self._look()
        words = self._search.value.lower().split()
        line = self._list.highlighted or 0
        self._shown = [place for place, prompt in enumerate(self._lines)
                       if all(word in prompt.text.lower() for word in words)]
        width = len(str(len(self._lines)))
        self._list.clear_options()
        self._list.add_options([Option(_option(self._lines[place], width)) for place in self._shown])
        if self._shown:
            line = self._shown.index(at) if at in self._shown else line
            self._list.highlighted = max(0, min(len(self._shown) - 1, line))
        self.query_one("#box").border_title = Content(self._title(bool(words)))
        self._facts.display = self._data.source is not None
        self._facts.update(Content(clean_line(self._rows.facts(self._data))))
        self._show_keys()

    def _title(self, searching: bool) -> str:
        if self._data.source is None:
            count, out = len(self._prompts), sum(bool(line.held_out) for line in self._lines)
        elif self._rows.preview is not None:
            count, out = self._rows.preview.rows, self._rows.preview.held_out
        else:
            return "Prompts"
        found = f"{len(self._shown)} of {len(self._lines)}" if searching else f"{count:,}"
        return f"Prompts · {found}{f' · {out:,} held out' if out else ''}"

    def _refusal(self) -> str:
        """Why nothing can be changed now; empty when it can."""
        if self._bridge.viewing:
            return "viewing only: these are the prompts that the run began with"
        return "a run is in progress: its prompts are fixed until it ends" if self._bridge.busy else ""

    def _refuses(self, *, rows: bool = False) -> bool:
        """True, and said, when nothing can be changed now. rows: nor where prompts are rows of a source."""
        refusal = self._refusal() or (_ROWS if rows and self._data.source is not None else "")
        if refusal:
            self._say(refusal, "$text-warning")
        return bool(refusal)

    def _change(self, changes: dict[str, Any], at: int | None = None, said: str = "") -> bool:
        """Make these changes, if they are allowed; one undo takes all of them back."""
        if self._refuses():
            return False
        try:
            config = replace(self._edited.config, changes)
            if config.data.source is None and config.data.holds_out:
                load_data(config)  # something must be left to learn from
        except RlhfError as error:
            self._say(f"✗ {error}", "$text-error")
            return False
        self._edited.change(changes)
        self._fill(at)
        self._say(f"{said or f'{len(self._prompts)} prompts for the next run'} · u takes that back")
        return True

    def _line(self) -> PromptLine | None:
        at = self._list.highlighted
        return self._lines[self._shown[at]] if at is not None and at < len(self._shown) else None

    # --- changes ---

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Enter, or a click: write it anew."""
        event.stop()
        line = self._line()
        if line is None or self._refuses(rows=line.place is not None):
            return
        if "\n" in line.text:
            first = "h takes it among the prompts, then " if line.place is None else ""
            self._say(f"a prompt of several lines: {first}E opens your editor for it", "$text-warning")
        else:
            self._write(line, line.text)

    def action_add(self) -> None:
        """Write another one."""
        if not self._refuses(rows=True):
            self._write(PromptLine("", len(self._prompts)), "")

    def action_source(self) -> None:
        """Write where rows come from."""
        if not self._refuses():
            self._write("source", self._data.source or "")
            self._say("a file, a folder or a dataset, and Enter; empty takes the prompts in the settings")

    def _write(self, what: PromptLine | Literal["source"], text: str) -> None:
        self._writing, self._field.value, self._field.display = what, text, True
        self._field.focus()
        self._say("Enter keeps it, Esc does not")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep what was written."""
        event.stop()
        text = self._field.value
        if event.input is self._search:
            self._list.focus()
        elif self._writing == "source":
            if not text.strip():
                self._close()
                self.action_inline()
            elif self._change(of_source(self._data, text.strip()), 0, "rows come from there"):
                self._rows.read(self._edited.config, again=True)
                self._close()
        elif self._writing is not None and self._change(rewritten(self._data, self._writing, text),
                                                        self._writing.place):
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
        line = self._line()
        if line is not None and not self._refuses(rows=line.place is not None):
            self._change(removed(self._data, line))

    def action_hold_out(self) -> None:
        """Hold the prompt out, or train on it again."""
        line = self._line()
        if line is None or self._refuses():
            return
        at = self._lines.index(line)
        if line.held_out == "share":
            self._say("data.held_out_share holds it out: Hyperparameters change that", "$text-warning")
        elif line.held_out:
            gone = line.place is None and self._data.source is not None
            self._change(trained_on(self._data, line), at, "held out no more" if gone else "trained on")
        else:
            self._change(held_out(self._data, line), at, "held out: never trained on, and answered every "
                                                         "data.evaluate_every steps")

    def action_inline(self) -> None:
        """Take the prompts of the settings again; where there are none, the rows of the source."""
        data = self._data
        if self._refuses():
            return
        if data.source is None:
            self._say("the prompts stand in the settings already: s names a source in their place")
        elif data.prompts or data.texts:
            self._change(of_source(data, None))
        else:
            self._say("reading all rows…")
            run_in_background(self, partial(lists_of_source, self._edited.config),
                              lambda lists: self._change(of_source(data, None) | lists),
                              lambda why: self._say(f"✗ {why}", "$text-error"), "lists")

    def action_undo(self) -> None:
        """Take the newest change of a setting back."""
        if not self._refuses():
            self._edited.undo()
            self._fill()
            self._say("undone" if self._data.source else f"{len(self._prompts)} prompts")

    def action_editor(self) -> None:
        """All of them in the user's editor: a line each, or as JSON lines where one has several."""
        if self._refuses(rows=True):
            return
        try:
            prompts = prompts_from_editor(self.app, self._prompts)
        except ConfigError as error:
            self._say(f"✗ {error}", "$text-error")
            return
        if prompts == self._prompts:
            self._say("nothing was changed")
        else:
            self._change({"data.prompts": prompts})

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


def _option(line: PromptLine, width: int) -> Content:
    number = f"{'·' if line.place is None else line.place + 1:>{width}}  "
    mark = {"": "", "listed": "held out  ", "share": "held out (share)  "}[line.held_out]
    return Content.assemble((number, "$text-muted"), (mark, "$accent"), clean_line(line.text[:_LETTERS]))
