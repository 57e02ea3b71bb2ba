"""The settings of every reward as a form: that of the hyperparameters with other rows, and a key that removes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message

from rlhf_tui.widgets.hyperparameters import HyperparametersPane
from rlhf_tui.widgets.setting_rows import Row, reward_index, reward_rows


class RewardForm(HyperparametersPane):
    """Posts `Edited`, `Chosen` when the cursor enters another reward, and `Removing` for a reward to be removed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("x,delete", "remove", "Remove reward", tooltip="Take the reward under the cursor out of the run",
                id="rewards.remove"),
    ]
    rows_of = staticmethod(reward_rows)

    _asked_at = ""
    """The setting on which the cursor stood when a removal was asked for."""

    @dataclass
    class Chosen(Message):
        """The cursor stands in the reward at `index`."""

        index: int

    @dataclass
    class Removing(Message):
        """A person wants the reward at `index` gone; sure: asked again, with nothing done in between."""

        index: int
        sure: bool

    def begin_as(self, other: HyperparametersPane) -> None:
        """Take over from another form what counts as changed."""
        self.state.config, self.state.baseline = other.state.config, other.state.baseline
        self.state.training = other.state.training

    @property
    def index(self) -> int:
        """The reward in which the cursor stands."""
        return reward_index(self.state.cursor) if self.state.cursor else 0

    def show_path(self, path: str) -> None:
        before, self._asked_at = self.index, ""
        super().show_path(path)
        if self.index != before:
            self.post_message(self.Chosen(self.index))

    def action_remove(self) -> None:
        """Ask for the reward under the cursor to be removed."""
        sure, self._asked_at = self._asked_at == self.state.cursor, self.state.cursor
        self.post_message(self.Removing(self.index, sure))

    def _set_rows(self) -> None:
        self._asked_at = ""
        super()._set_rows()

    def _open(self, row: Row) -> None:
        self._asked_at = ""
        super()._open(row)
