"""The settings of every reward as a form: that of the hyperparameters with other rows, and a key that removes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.areas.settings_form.hyperparameters import HyperparametersPane
from rlhf_tui.areas.settings_form.setting_rows import Row, reward_index, reward_rows


class RewardForm(HyperparametersPane):
    """Posts `Edited`, `Chosen` when the cursor enters another reward, and `Removing` for a reward to be removed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x", "remove", "Remove reward", tooltip="Take the reward under the cursor out of the run",
                id="rewards.remove"),
    ]
    rows_of = staticmethod(reward_rows)

    _asked_at = ""
    """The setting on which the cursor stood when a removal was asked for."""

    _chosen = 0
    """The reward that was told last."""

    @dataclass
    class Chosen(Message):
        """The cursor stands in the reward at `index`."""

        index: int

    @dataclass
    class Removing(Message):
        """A person wants the reward at `index` gone; sure: asked again, with nothing done in between."""

        index: int
        sure: bool

    @property
    def index(self) -> int:
        """The reward in which the cursor stands."""
        row = self.form.row or next((row for row in self.form.rows if row.group == self.form.group), None)
        return reward_index(row.path) if row else 0

    def action_remove(self) -> None:
        """Ask for the reward under the cursor to be removed."""
        sure, self._asked_at = self._asked_at == self.form.cursor, self.form.cursor
        self.post_message(self.Removing(self.index, sure))

    def _redraw(self) -> None:
        if self._asked_at != self.form.cursor:
            self._asked_at = ""
        super()._redraw()
        if self.index != self._chosen:
            self._chosen = self.index
            self.post_message(self.Chosen(self.index))

    def _open(self, row: Row) -> None:
        self._asked_at = ""
        super()._open(row)

    def follow(self, config: RunConfig) -> None:
        self._asked_at = ""
        super().follow(config)
