"""Which settings were changed, newest last, so that changes can be taken back and made again. Pure values."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.editing.change_text import edit_text

LIMIT = 500

Changes = Mapping[str, tuple[Any, Any]]
"""path -> (before, after)"""


@dataclass(frozen=True)
class Step:
    """What one press of undo takes back: some settings, or (`whole`: before, after) a config of another shape.

    `name` is the preset that was loaded before and after, where that changed.
    """

    changes: Changes = field(default_factory=dict)
    whole: tuple[RunConfig, RunConfig] | None = None
    name: tuple[str, str] | None = None

    def reversed(self) -> Step:
        """The step that takes this one back."""
        return Step(
            {path: (after, before) for path, (before, after) in self.changes.items()},
            self.whole[::-1] if self.whole else None,
            self.name[::-1] if self.name else None,
        )

    def made_to(self, config: RunConfig) -> RunConfig:
        """`config` with this step made. Raises ConfigError where it no longer fits."""
        if self.whole:
            return self.whole[1]
        return fields.replace(config, {path: after for path, (_, after) in self.changes.items()})

    def without(self, path: str) -> Step:
        """This step less what it does to `path`."""
        return replace(self, changes={name: pair for name, pair in self.changes.items() if name != path})

    @property
    def empty(self) -> bool:
        """True when nothing is left of it."""
        return not self.changes and not self.whole

    def told(self) -> str:
        """What it does, on one line: "kl.coef 0.1 → 0.2", "3 settings", "preset animals"."""
        if self.name:
            return f"preset {self.name[1] or 'none'}"
        if self.whole and self.whole[0].algorithm.kind != self.whole[1].algorithm.kind:
            before, after = (config.algorithm.kind for config in self.whole)
            return edit_text(fields.METHOD, before, after, arrow=" → ")
        if len(self.changes) == 1:
            ((path, pair),) = self.changes.items()
            return edit_text(path, *pair, arrow=" → ")
        return f"{len(self.changes)} settings"


class UndoStack:
    """Two stacks of steps: those that can be taken back, and those that were and can be made again."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._done: deque[Step] = deque(maxlen=limit)
        self._undone: list[Step] = []

    def note(self, step: Step) -> None:
        """A step was made; what was taken back before it cannot be made again."""
        if not step.empty:
            self._done.append(step)
            self._undone.clear()

    @property
    def undo(self) -> Step | None:
        """The step that takes back the newest one."""
        return self._done[-1].reversed() if self._done else None

    @property
    def redo(self) -> Step | None:
        """The step that was last taken back."""
        return self._undone[-1] if self._undone else None

    def undid(self) -> None:
        """`undo` was made."""
        self._undone.append(self._done.pop())

    def redid(self) -> None:
        """`redo` was made."""
        self._done.append(self._undone.pop())

    def drop_undo(self) -> None:
        """`undo` cannot be made any more: the settings around it are others now."""
        self._done.pop()

    def drop_redo(self) -> None:
        """`redo` cannot be made any more."""
        self._undone.pop()

    def forget(self, path: str) -> None:
        """A change of `path` was refused: what is known of its earlier values no longer holds."""
        done = [step.without(path) for step in self._done]
        undone = [step.without(path) for step in self._undone]
        self._done = deque((step for step in done if not step.empty), self._done.maxlen)
        self._undone = [step for step in undone if not step.empty]

    def clear(self) -> None:
        """Other settings were taken over whole."""
        self._done.clear()
        self._undone.clear()


def step_between(before: RunConfig, after: RunConfig, name: tuple[str, str] | None = None) -> Step:
    """The step from one config to another. Methods or rewards of other kinds cannot be compared setting by setting."""
    kinds = [(config.algorithm.kind, [reward.kind for reward in config.rewards]) for config in (before, after)]
    if kinds[0] != kinds[1]:
        return Step(whole=(before, after), name=name)
    return Step(fields.changed_settings(before, after), name=name)


def same_rewards(before: RunConfig, after: RunConfig) -> bool:
    """True when a path like `rewards.1.weight` means the same reward in both."""
    names = [[(reward.kind, reward.name) for reward in config.rewards] for config in (before, after)]
    return names[0] == names[1]
