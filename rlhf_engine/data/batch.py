"""What one step of a method is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to continue. columns: what else a row of the data holds, by name, one entry a prompt; rewards see it."""

    prompts: list[str]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)

    def repeated(self, times: int) -> PromptBatch:
        """Each prompt, and its columns, `times` times in a row."""
        return PromptBatch([prompt for prompt in self.prompts for _ in range(times)],
                           {name: [value for value in column for _ in range(times)]
                            for name, column in self.columns.items()})


@dataclass(frozen=True)
class TextBatch:
    """Texts to learn: responses[i] stands behind prompts[i], which is empty for a whole text."""

    prompts: list[str]
    responses: list[str]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PairBatch:
    """Preferences: to prompts[i], chosen[i] is the better response and rejected[i] the other one."""

    prompts: list[str]
    chosen: list[str]
    rejected: list[str]
    columns: Mapping[str, list[Any]] = field(default_factory=dict)

    @property
    def ended(self) -> tuple[list[bool], list[bool]]:
        """Whether each chosen and each rejected response is all there is of it: not where its row says false in a
        column `chosen_finished` or `rejected_finished`, for it was cut at its longest."""
        chosen, rejected = ([value is not False for value in self.columns.get(name, [None] * len(self.prompts))]
                            for name in ("chosen_finished", "rejected_finished"))
        return chosen, rejected


Batch = PromptBatch | TextBatch | PairBatch
