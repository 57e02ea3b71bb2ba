"""What the hyperparameter form knows and decides, without a screen: rows, cursor, search, drafts, what is changed.

Lines of the form are named by keys: a setting's path, or `heading(group)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Any

from rlhf_engine.config.fields import replace, show, value_at
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_tui.areas.settings_form.setting_rows import (
    LOCKED_REASON,
    VIEWED_LOCKED_REASON,
    VIEWED_REASON,
    Row,
    form_rows,
    read,
)
from rlhf_tui.editing.undo_stack import same_rewards
from rlhf_tui.terminal.clean_text import clean_line

Edits = list[tuple[str, Any]]
"""(path, value) of changes that were made, in their order"""


def heading(group: str) -> str:
    """The key of a group's heading; no path holds a blank."""
    return f"# {group}"


@dataclass
class SettingForm:
    """The form over `config`.

    preset: the settings to compare with, and to go back to. start: what the run on the screen began with.
    drafts: path -> (what is written, why it is not allowed). viewing: the run is driven elsewhere, or by nobody.
    """

    config: RunConfig | None = None
    preset: RunConfig | None = None
    start: RunConfig | None = None
    training: bool = False
    viewing: bool = False
    focused: bool = False
    cursor: str = ""
    wanted: str = ""
    rows_of: Callable[[RunConfig], list[Row]] = form_rows
    """Which settings of a config are shown, in order."""
    rows: list[Row] = field(default_factory=list)
    drafts: dict[str, tuple[str, str]] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)

    def load(self, config: RunConfig, *, training: bool, preset: RunConfig | None, start: RunConfig | None,
             viewing: bool = False, typing: str | None = None) -> None:
        """Show other settings. Drafts outlive that, unless they belong to another preset; `typing` always does."""
        if preset is None:
            preset = self.preset or config
        if preset != self.preset:
            self.drafts = {path: draft for path, draft in self.drafts.items() if path == typing}
        self.config, self.preset, self.start = config, preset, start
        self.training, self.viewing = training, viewing
        self.rows = self.rows_of(config)
        self._keep_cursor()

    def follow(self, config: RunConfig) -> None:
        """Take in what was changed elsewhere in the same settings; drafts stay, but for those of other rewards."""
        if self.config is not None and config != self.config:
            if not same_rewards(self.config, config):
                # the places of rewards mean other rewards now
                self.drafts = {path: draft for path, draft in self.drafts.items() if not path.startswith("rewards.")}
            self.config, self.rows = config, self.rows_of(config)
            self._keep_cursor()

    # --- lines and the cursor ---

    @property
    def found(self) -> list[Row]:
        """The rows that hold every word that is searched for."""
        words = self.wanted.lower().split()
        return [row for row in self.rows if all(word in row.searched for word in words)]

    def groups(self) -> list[tuple[str, list[Row]]]:
        """The rows to list under each heading; a search opens every group."""
        return [(group, list(rows)) for group, rows in groupby(self.found, attrgetter("group"))]

    def shut(self, group: str) -> bool:
        """True when the rows of `group` are folded away."""
        return group in self.folded and not self.wanted.strip()

    def stops(self) -> list[str]:
        """The keys of the lines where the cursor may stand, from top to bottom."""
        return [key for group, rows in self.groups()
                for key in (heading(group), *(() if self.shut(group) else (row.path for row in rows)))]

    @property
    def row(self) -> Row | None:
        """The setting under the cursor; None on a heading."""
        return self.row_at(self.cursor)

    def row_at(self, path: str) -> Row | None:
        """The row of a setting, listed or not."""
        return next((row for row in self.rows if row.path == path), None)

    @property
    def group(self) -> str:
        """The group whose heading is under the cursor; empty on a setting."""
        return self.cursor.removeprefix("# ") if self.cursor.startswith("# ") else ""

    def move(self, by: int) -> None:
        """Move the cursor by some lines."""
        stops = self.stops()
        if stops:
            at = stops.index(self.cursor) if self.cursor in stops else 0
            self.cursor = stops[max(0, min(len(stops) - 1, at + by))]

    def go_to(self, path: str) -> None:
        """Move the cursor to a setting, opening its group and dropping a search that hides it."""
        row = self.row_at(path)
        if row is not None:
            self.folded.discard(row.group)
            if row not in self.found:
                self.wanted = ""
        self.cursor = path

    def find(self, words: str) -> None:
        """List only the rows that hold `words`, the cursor on the first of them."""
        self.wanted = words
        self._keep_cursor()

    def fold(self, group: str, shut: bool | None = None) -> None:
        """Fold a group away, or open it; None turns it round."""
        shut = group not in self.folded if shut is None else shut
        (self.folded.add if shut else self.folded.discard)(group)

    def fold_all(self, shut: bool) -> None:
        """Fold every group away, or open all; the cursor stays in its group."""
        row = self.row
        self.folded = {row.group for row in self.rows} if shut else set()
        if shut and row is not None and not self.wanted.strip():
            self.cursor = heading(row.group)

    def _keep_cursor(self) -> None:
        stops = self.stops()
        if self.cursor not in stops:
            self.cursor = next((key for key in stops if not key.startswith("# ")), stops[0] if stops else "")

    # --- what a row is ---

    def locked(self, row: Row) -> bool:
        """True when a run that goes on forbids a change."""
        return self.training and not row.setting.live

    def refusal(self, row: Row) -> str:
        """Why a setting cannot be changed now; empty when it can."""
        if self.viewing:
            return VIEWED_LOCKED_REASON if self.locked(row) else VIEWED_REASON
        return LOCKED_REASON if self.locked(row) else ""

    def changed(self, row: Row) -> bool:
        """True when the value is not the one that the run on the screen began with."""
        return self._differs(self.start, row)

    def off_preset(self, row: Row) -> bool:
        """True when the value is not the preset's."""
        return self._differs(self.preset, row)

    def default(self, row: Row) -> str:
        """The value of a setting that a preset leaves out, as one would type it; empty where there is none."""
        setting = row.setting
        return "" if setting.default is None and not setting.optional else show(setting.default)

    def shown(self, row: Row) -> str:
        """The value as one would type it, or the draft in its place."""
        assert self.config is not None
        draft = self.drafts.get(row.path)
        return draft[0] if draft else clean_line(show(value_at(self.config, row.path)))

    def _differs(self, other: RunConfig | None, row: Row) -> bool:
        if self.config is None or other is None:
            return False
        try:
            return bool(value_at(other, row.path) != value_at(self.config, row.path))
        except (AttributeError, IndexError):
            return False  # another kind of reward stands there: nothing to compare

    @property
    def problem(self) -> str:
        """One sentence about the first setting that holds something not allowed, listed or not; empty when all is well.
        """
        return next((f"{row.label}: {self.drafts[row.path][1]}" for row in self.rows if row.path in self.drafts), "")

    # --- changes ---

    def check(self, row: Row, text: str) -> None:
        """Note in the drafts what is wrong with `text`, if anything is."""
        assert self.config is not None
        _, _, wrong = read(self.config, row.setting, text)
        if wrong:
            self.drafts[row.path] = (text, clean_line(wrong))
        else:
            self.drafts.pop(row.path, None)

    def commit(self, row: Row, text: str) -> Edits:
        """Make the change if it is one and is allowed, and those waiting that have become possible by it."""
        assert self.config is not None
        self.check(row, text)
        # shown numbers are rounded: an untouched text must not round the value
        if row.path in self.drafts or text.strip() == clean_line(show(value_at(self.config, row.path))):
            return []
        config, value, _ = read(self.config, row.setting, text)
        if config is None or config == self.config:
            return []
        method, self.config = self.config.algorithm.kind, config
        if config.algorithm.kind != method:
            self.rows = self.rows_of(config)
        return [(row.path, value), *self._retry()]

    def reset(self, row: Row) -> Edits:
        """Go back to the preset's value; where others forbid that for now, it waits as a draft."""
        assert self.config is not None
        self.drafts.pop(row.path, None)
        if not self.off_preset(row):
            return []
        value = value_at(self.preset, row.path)  # type: ignore[arg-type]
        try:
            self.config = replace(self.config, {row.path: value})
        except ConfigError:
            self.check(row, show(value))
            return []
        return [(row.path, value), *self._retry()]

    def _retry(self) -> Edits:
        edits: Edits = []
        for row in [row for row in self.rows if row.path in self.drafts]:
            if row.path in self.drafts:
                edits += self.commit(row, self.drafts[row.path][0])
        return edits

    def turn(self, row: Row, step: int) -> Edits:
        """Take the next or previous of a setting's choices; of one that is not allowed yet, what comes behind it."""
        assert self.config is not None
        choices = [*row.setting.choices] or ["false", "true"]
        choices += ["none"] if row.setting.optional else []
        now, (waiting, _) = show(value_at(self.config, row.path)), self.drafts.get(row.path, ("", ""))
        now = waiting if waiting in choices else now
        return self.commit(row, choices[(choices.index(now) + step) % len(choices)])

    def resets(self) -> tuple[dict[str, Any], list[Row]]:
        """What going back to the preset would change now (path -> value), and the rows that must stay as they are."""
        away = [row for row in self.rows if self.off_preset(row)]
        values = {row.path: value_at(self.preset, row.path) for row in away if not self.locked(row)}  # type: ignore[arg-type]
        return values, [row for row in away if self.locked(row)]
