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


Batch = PromptBatch
