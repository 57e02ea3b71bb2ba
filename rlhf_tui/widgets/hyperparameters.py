"""The hyperparameter form: every setting of the run on one line, checked as one types.

The pane itself holds the focus: ↑ ↓ move, Enter opens the field on the cursor's line. Inside the field Enter, Tab and
the arrows commit, Esc restores. A value that cannot be committed yet stays written, marked ✗, and is tried again
whenever another field changes, so that two settings that depend on each other can be changed in either order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.config import RunConfig
from rlhf_engine.fields import show, value_at
from rlhf_tui.clean_text import clean_line
from rlhf_tui.widgets.inputs import EditField, TextField
from rlhf_tui.widgets.setting_help import setting_help
from rlhf_tui.widgets.setting_lines import Drawing, FormState, draw
from rlhf_tui.widgets.setting_rows import LOCKED_REASON, Row, form_rows, read, same_rewards


class HyperparametersPane(Widget, can_focus=True):
    """A form over `config`. Posts `Edited` for each valid change; `config` holds all of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-10000)", "First", show=False),
        Binding("end", "move(10000)", "Last", show=False),
        Binding("enter", "edit", "Edit setting", tooltip="Open the setting under the cursor; a choice moves on",
                id="settings.edit"),
        Binding("left", "turn(-1)", "Previous choice", tooltip="Another of a setting's choices", id="settings.left"),
        Binding("right", "turn(1)", "Next choice", tooltip="Another of a setting's choices", id="settings.right"),
        Binding("slash", "filter", "Find setting", tooltip="Show only settings with some words", id="settings.find"),
        Binding("escape", "restore", "Restore setting", tooltip="Drop what is not allowed, or the search",
                id="settings.restore"),
    ]
    DEFAULT_CSS = """
    HyperparametersPane { layout: vertical; }
    HyperparametersPane #rows { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    HyperparametersPane #lines { height: auto; width: 100%; }
    HyperparametersPane #edit { position: absolute; display: none; }
    HyperparametersPane #edit.-wrong { color: $text-error; }
    HyperparametersPane #find { display: none; }
    HyperparametersPane #help { height: auto; max-height: 5; color: $text-muted; border-top: solid $panel; }
    HyperparametersPane.-short #help { display: none; }
    """

    rows_of = staticmethod(form_rows)
    """Which settings of a config are shown, in order."""

    @dataclass
    class Edited(Message):
        """A person changed the setting at `path` to `value`, which is allowed."""

        path: str
        value: Any

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.state = FormState()
        self._rows: list[Row] = []
        self._drawing = Drawing()
        self._editing: str | None = None

    # --- what the workbench calls ---

    @property
    def config(self) -> RunConfig | None:
        """The config with every valid edit made; None before the first `load`."""
        return self.state.config

    @property
    def problem(self) -> str:
        """One sentence about the first field that holds something not allowed; empty when all is well."""
        for row in self._rows:
            if row.path in self.state.drafts:
                return f"{row.label}: {self.state.drafts[row.path][1]}"
        return ""

    def load(self, config: RunConfig, *, training: bool) -> None:
        """Show `config`. Values that differ from those of the preset, or of the run's start, are marked.

        The marks start afresh when a run starts or, between runs, when another config arrives. What is being typed
        stays.
        """
        other = config != self.state.config
        if self.state.baseline is None or (training and not self.state.training) or (other and not training):
            self.state.baseline = config
        if other:
            self.state.drafts = {path: draft for path, draft in self.state.drafts.items() if path == self._editing}
        self.state.config, self.state.training = config, training
        self._set_rows()

    def follow(self, config: RunConfig) -> None:
        """Take in what another pane changed in the same settings; what is marked and written here stays."""
        before = self.state.config
        if before is not None and config != before:
            if not same_rewards(before, config):
                # the places of rewards mean other rewards now
                for path in [path for path in self.state.drafts if path.startswith("rewards.")]:
                    del self.state.drafts[path]
            self.state.config = config
            self._set_rows()

    def show_path(self, path: str) -> None:
        """Move the cursor to the setting at `path`."""
        self.state.cursor = path
        self._redraw()
        self._scroll_to_cursor()

    # --- drawing ---

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="rows", can_focus=False):
            yield Static(id="lines", markup=False)
            yield EditField(id="edit")
        yield TextField(id="find", placeholder="find a setting")
        yield Static(id="help", markup=False)

    def on_mount(self) -> None:
        self._redraw()

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.height < 10, "-short")
        self._redraw()

    def on_focus(self) -> None:
        # Textual sets has_focus only after this handler
        self.call_later(self._redraw)
        self.call_later(self._scroll_to_cursor)

    def on_blur(self) -> None:
        self.call_later(self._redraw)

    def _set_rows(self) -> None:
        assert self.state.config is not None
        wanted = self.query_one("#find", TextField).value.strip().lower() if self.is_mounted else ""
        rows = self.rows_of(self.state.config)
        found = [row for row in rows if wanted in f"{row.label} {row.path} {row.group} {row.setting.help}".lower()]
        self._rows = found or rows
        if self.state.cursor not in [row.path for row in self._rows]:
            self.state.cursor = self._rows[0].path
        self._redraw()

    def _redraw(self) -> None:
        if not self.is_mounted or self.state.config is None:
            return
        rows = self.query_one("#rows")
        # the scrollbar's column is always kept free, or its coming and going would draw everything twice
        width = max(1, self.size.width - 1)
        self.state.focused = self.has_focus or self.has_focus_within
        self._drawing = draw(self._rows, self.state, width)
        self.query_one("#lines", Static).update(self._drawing.content)
        rows.set_class(self._editing is not None, "-editing")
        self._place_field()
        row = self._row()
        about = setting_help(row, self.state, self._editing is not None) if row else Content("")
        self.query_one("#help", Static).update(about)

    def _place_field(self) -> None:
        field = self.query_one("#edit", EditField)
        field.display = self._editing is not None
        if self._editing is None:
            return
        field.styles.offset = (self._drawing.value_at, self._drawing.line_of.get(self._editing, 0))
        field.styles.width = max(1, self._drawing.value_width)
        field.set_class(self._editing in self.state.drafts, "-wrong")

    def _scroll_to_cursor(self) -> None:
        first = self._drawing.line_of.get(self.state.cursor, 0)
        height = 1 + self._drawing.extra_of.get(self.state.cursor, 0)
        if self._rows and self._rows[0].path == self.state.cursor:
            first, height = 0, height + first
        scroll = self.query_one("#rows")
        self.call_after_refresh(scroll.scroll_to_region, Region(0, first, 1, height), animate=False, force=True)

    # --- moving ---

    def _row(self) -> Row | None:
        return next((row for row in self._rows if row.path == self.state.cursor), None)

    def action_move(self, by: int) -> None:
        """Move the cursor by some lines."""
        paths = [row.path for row in self._rows]
        if paths:
            at = paths.index(self.state.cursor) if self.state.cursor in paths else 0
            self.show_path(paths[max(0, min(len(paths) - 1, at + by))])

    def on_click(self, event: events.Click) -> None:
        rows = self.query_one("#rows")
        offset = event.get_content_offset(rows)
        if offset is None:
            return
        line = offset.y + round(rows.scroll_y)
        for path, first in self._drawing.line_of.items():
            if first <= line <= first + self._drawing.extra_of.get(path, 0):
                self._close(commit=True)
                self.show_path(path)
                self.action_edit()

    # --- editing ---

    def _locked(self, row: Row) -> bool:
        return self.state.training and not row.setting.live

    def action_edit(self) -> None:
        """Open the field under the cursor; a choice moves on to its next value."""
        row = self._row()
        if row is None or self.state.config is None:
            return
        if self._locked(row):
            self.app.notify(f"{row.label}: {LOCKED_REASON}", markup=False)
        elif row.setting.kind in ("choice", "bool"):
            self.action_turn(1)
        else:
            self._open(row)

    def action_turn(self, step: int) -> None:
        """The next or previous of a setting's choices."""
        row = self._row()
        if row is None or self.state.config is None or row.setting.kind not in ("choice", "bool") or self._locked(row):
            return
        choices = list(row.setting.choices) or ["false", "true"]
        now = show(value_at(self.state.config, row.path))
        text = choices[(choices.index(now) + step) % len(choices)]
        self._check(row, text)
        self._commit(row, text)
        self._redraw()

    def _open(self, row: Row) -> None:
        assert self.state.config is not None
        field = self.query_one("#edit", EditField)
        draft = self.state.drafts.get(row.path)
        self._editing = row.path
        with self.prevent(EditField.Changed):
            field.value = draft[0] if draft else clean_line(show(value_at(self.state.config, row.path)))
        self._redraw()
        field.focus()

    def _close(self, *, commit: bool) -> None:
        if self._editing is None or self.state.config is None:
            return
        path, self._editing = self._editing, None
        row = next((row for row in self._rows if row.path == path), None)
        if row is not None and commit:
            self._commit(row, self.query_one("#edit", EditField).value)
        else:
            self.state.drafts.pop(path, None)
        self._redraw()

    def on_input_changed(self, event: TextField.Changed) -> None:
        """Check what is typed while it is typed."""
        event.stop()
        if event.input.id == "find":
            self._set_rows()
            return
        row = self._row()
        if self._editing and row is not None:
            self._check(row, event.value)
            self._redraw()
            self._scroll_to_cursor()

    def on_input_submitted(self, event: TextField.Submitted) -> None:
        """Enter commits what is valid and stays with what is not."""
        event.stop()
        if event.input.id == "find":
            self.focus()
        elif self._editing not in self.state.drafts:
            self._close(commit=True)
            self.focus()

    def on_edit_field_left(self, event: EditField.Left) -> None:
        """Esc restores; Tab and the arrows commit and go to the neighbouring setting."""
        event.stop()
        self._close(commit=event.how != "escape")
        self.focus()
        if event.how == "start":
            # the run shall start with what was just typed, which is still on its way to the workbench
            self.call_after_refresh(self.app.run_action, "app.toggle_run")
        elif event.how != "escape":
            self.action_move(1 if event.how == "next" else -1)

    def on_input_blurred(self, event: TextField.Blurred) -> None:
        """Leaving the field commits, but a terminal window that loses the focus is not a person leaving the field."""
        event.stop()
        if event.input.id == "find":
            event.input.display = bool(event.input.value)
        elif self.app.app_focus and self.screen.focused is not event.input:
            self._close(commit=True)

    def action_restore(self) -> None:
        """Drop what is written but not allowed, on this line, then the filter."""
        find = self.query_one("#find", TextField)
        if self.state.drafts.pop(self.state.cursor, None) is None:
            find.value, find.display = "", False
        self.focus()
        self._redraw()

    def action_filter(self) -> None:
        """Type to show only some settings."""
        find = self.query_one("#find", TextField)
        find.display = True
        find.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to this pane only while it has something to give up."""
        if action == "restore" and self.is_mounted:
            return self.state.cursor in self.state.drafts or self.query_one("#find").display
        return True

    def _check(self, row: Row, text: str) -> None:
        """Note in the drafts what is wrong with `text`, if anything is."""
        assert self.state.config is not None
        _, _, wrong = read(self.state.config, row.setting, text)
        if wrong:
            self.state.drafts[row.path] = (text, clean_line(wrong))
        else:
            self.state.drafts.pop(row.path, None)

    def _commit(self, row: Row, text: str) -> None:
        """Make the change if it is one and is allowed, then see which waiting drafts have become possible."""
        assert self.state.config is not None
        self._check(row, text)
        # shown numbers are rounded: an untouched text must not round the value
        if row.path in self.state.drafts or text.strip() == clean_line(show(value_at(self.state.config, row.path))):
            return
        config, value, _ = read(self.state.config, row.setting, text)
        if config is None or config == self.state.config:
            return
        self.state.config = config
        self.post_message(self.Edited(row.path, value))
        for waiting in [row for row in self._rows if row.path in self.state.drafts]:
            self._commit(waiting, self.state.drafts[waiting.path][0])
