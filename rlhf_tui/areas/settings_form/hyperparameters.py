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
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.settings_form.setting_form import Edits, SettingForm
from rlhf_tui.areas.settings_form.setting_help import heading_help, setting_help
from rlhf_tui.areas.settings_form.setting_list import SettingList
from rlhf_tui.areas.settings_form.setting_rows import Row, form_rows
from rlhf_tui.widgets.inputs import EditField, TextField


class HyperparametersPane(Widget, can_focus=True):
    """A form over `config`. Posts `Edited` for each valid change; `config` holds all of them."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "move(-10)", "Page up", show=False),
        Binding("pagedown", "move(10)", "Page down", show=False),
        Binding("home", "move(-10000)", "First", show=False),
        Binding("end", "move(10000)", "Last", show=False),
        Binding("enter", "edit", "Edit setting", id="settings.edit",
                tooltip="Open the setting or group under the cursor; a choice moves on"),
        Binding("left", "turn(-1)", "Previous choice", tooltip="Another of a setting's choices; on a heading: fold it",
                id="settings.left"),
        Binding("right", "turn(1)", "Next choice", tooltip="Another of a setting's choices; on a heading: open it",
                id="settings.right"),
        Binding("minus", "fold_all(True)", "Fold groups", tooltip="Show only the headings of the settings",
                id="settings.fold"),
        Binding("plus", "fold_all(False)", "Open groups", tooltip="Show all settings", id="settings.open"),
        Binding("slash", "filter", "Find setting", tooltip="Show only settings with some words in name, help or unit",
                id="settings.find"),
        Binding("delete,backspace", "reset", "Reset setting", tooltip="Back to the preset's value",
                id="settings.reset"),
        Binding("R", "reset_all", "Reset all", tooltip="All of these settings back to the preset's; asks first",
                id="settings.reset_all"),
        Binding("escape", "restore", "Restore setting", tooltip="Drop what is not allowed, or the search",
                id="settings.restore"),
    ]
    DEFAULT_CSS = """
    HyperparametersPane { layout: vertical; }
    HyperparametersPane #find { display: none; }
    HyperparametersPane #help { height: 6; color: $text-muted; border-top: solid $panel; }
    HyperparametersPane.-short #help { display: none; }
    """

    rows_of = staticmethod(form_rows)
    """Which settings of a config are shown, in order."""

    @dataclass
    class Edited(Message):
        """A person changed the setting at `path` to `value`, which is allowed."""

        path: str
        value: Any

    @dataclass
    class ResetAsked(Message):
        """A person wants these settings (path -> value) as the preset has them; `fixed` cannot change now."""

        values: dict[str, Any]
        fixed: list[Row]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.form = SettingForm(rows_of=self.rows_of)
        self._list = SettingList(self.form, id="rows")
        self._find = TextField(id="find", placeholder="find a setting")
        self._help = Static(id="help", markup=False)
        self._editing: str | None = None

    # --- what the workbench calls ---

    @property
    def config(self) -> RunConfig | None:
        """The config with every valid edit made; None before the first `load`."""
        return self.form.config

    @property
    def problem(self) -> str:
        """One sentence about the first field that holds something not allowed; empty when all is well."""
        return self.form.problem

    def load(self, config: RunConfig, *, training: bool, viewing: bool = False, preset: RunConfig | None = None,
             start: RunConfig | None = None) -> None:
        """Show `config`, with marks where it differs from `preset` (None: from what it was first) and from `start`.

        start: what the run on the screen began with; viewing: that is not driven from here. What is being typed stays.
        """
        self.form.load(
            config, training=training, viewing=viewing, preset=preset, start=start, typing=self._editing)
        self._redraw()

    def follow(self, config: RunConfig) -> None:
        """Take in what another pane changed in the same settings; what is marked and written here stays."""
        self.form.follow(config)
        self._redraw()

    def finish(self) -> None:
        """What is being typed counts, if it is allowed, and is a problem if not."""
        if self._editing is not None:
            self._close(commit=True)
            self.focus()

    def show_path(self, path: str) -> None:
        """Move the cursor to the setting at `path`."""
        self.form.go_to(path)
        if not self.form.wanted:
            self._find.value, self._find.display = "", False
        self._redraw()
        self._list.scroll_to_cursor()

    # --- drawing ---

    def compose(self) -> ComposeResult:
        yield self._list
        yield self._find
        yield self._help

    def on_resize(self, event: events.Resize) -> None:
        self.set_class(event.size.height < 10, "-short")
        self._redraw()

    def on_focus(self) -> None:
        # Textual sets has_focus only after this handler
        self.call_later(self._redraw)
        self.call_later(self._list.scroll_to_cursor)

    def on_blur(self) -> None:
        self.call_later(self._redraw)

    def _redraw(self) -> None:
        if not self.size or self.form.config is None:
            return  # drawn once there is room
        self.form.focused = self.has_focus or self.has_focus_within
        # the scrollbar's column is always kept free, or its coming and going would draw everything twice
        self._list.draw(max(1, self.size.width - 1), self._editing)
        row = self.form.row
        about = setting_help(row, self.form, self._editing is not None) if row else heading_help(self.form)
        self._help.update(about, layout=False)
        found = f"{len(self.form.found)} of {len(self.form.rows)}"
        self.border_subtitle = Content(found if self.form.wanted.strip() else "")

    # --- moving ---

    def action_move(self, by: int) -> None:
        """Move the cursor by some lines."""
        self.form.move(by)
        self._redraw()
        self._list.scroll_to_cursor()

    def on_click(self, event: events.Click) -> None:
        if self.screen.selections:
            return  # the end of a drag that selects text
        offset = event.get_content_offset(self._list)
        key = self._list.key_at(offset.y) if offset is not None else None
        if key is not None:
            self._close(commit=True)
            self.show_path(key)
            self.action_edit()

    def action_fold_all(self, shut: bool) -> None:
        """Only the headings, or everything."""
        self.form.fold_all(shut)
        self._redraw()
        self._list.scroll_to_cursor()

    # --- editing ---

    def _tell(self, edits: Edits) -> None:
        for path, value in edits:
            self.post_message(self.Edited(path, value))
        self._redraw()

    def _may_change(self, row: Row) -> bool:
        if refusal := self.form.refusal(row):
            self.app.notify(f"{row.label}: {refusal}", markup=False)
        return not refusal

    def action_edit(self) -> None:
        """Open the field or the group under the cursor; a choice moves on to its next value."""
        row = self.form.row
        if self.form.group:
            self.form.fold(self.form.group)
            self._redraw()
        elif row is not None and self._may_change(row):
            if row.setting.kind in ("choice", "bool"):
                self.action_turn(1)
            else:
                self._open(row)

    def action_turn(self, step: int) -> None:
        """The next or previous of a setting's choices; a heading is opened or folded."""
        row = self.form.row
        if self.form.group:
            self.form.fold(self.form.group, step < 0)
            self._redraw()
        elif row is not None and row.setting.kind in ("choice", "bool") and self._may_change(row):
            self._tell(self.form.turn(row, step))

    def action_reset(self) -> None:
        """The setting under the cursor as the preset has it."""
        row = self.form.row
        if row is not None and self._may_change(row):
            self._tell(self.form.reset(row))

    def action_reset_all(self) -> None:
        """Every setting of the form as the preset has it."""
        self.post_message(self.ResetAsked(*self.form.resets()))

    def _open(self, row: Row) -> None:
        self._editing = row.path
        self._list.field.takes_list = row.setting.kind == "list"
        with self.prevent(EditField.Changed):
            self._list.field.value = self.form.shown(row)
        self._redraw()
        self._list.field.focus()

    def _close(self, *, commit: bool) -> None:
        if self._editing is None or self.form.config is None:
            return
        path, self._editing = self._editing, None
        row = self.form.row_at(path)
        if row is not None and commit:
            self._tell(self.form.commit(row, self._list.field.value))
        else:
            self.form.drafts.pop(path, None)
            self._redraw()

    def on_input_changed(self, event: TextField.Changed) -> None:
        """Check what is typed while it is typed."""
        event.stop()
        row = self.form.row_at(self._editing or "")
        if event.input is self._find:
            self.form.find(event.value)
        elif row is not None:
            self.form.check(row, event.value)
        else:
            return
        self._redraw()
        self._list.scroll_to_cursor()

    def on_input_submitted(self, event: TextField.Submitted) -> None:
        """Enter commits what is valid and stays with what is not."""
        event.stop()
        if event.input is self._find:
            self.focus()
        elif self._editing not in self.form.drafts:
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
        if event.input is self._find:
            event.input.display = bool(event.input.value)
        elif self.app.app_focus and self.screen.focused is not event.input:
            self._close(commit=True)

    def action_restore(self) -> None:
        """Drop what is written but not allowed, on this line, then the search."""
        if self.form.drafts.pop(self.form.cursor, None) is None:
            self._find.value, self._find.display = "", False
        self.focus()
        self._redraw()

    def action_filter(self) -> None:
        """Type to show only some settings."""
        self._find.display = True
        self._find.focus()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Esc belongs to this pane only while it has something to give up."""
        if action == "restore":
            return self.form.cursor in self.form.drafts or self._find.display
        return True
