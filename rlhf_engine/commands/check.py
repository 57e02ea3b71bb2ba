"""What `doctor` finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """One thing looked at. `value` is what was found; `advice`, for a warning, what to do about it."""

    name: str
    level: Literal["ok", "warning"]
    value: str
    advice: str = ""
