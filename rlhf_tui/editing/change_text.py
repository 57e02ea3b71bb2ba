"""A change of a setting in a few words."""

from __future__ import annotations

import re
from typing import Any

from rlhf_engine.config import fields
from rlhf_engine.events import EditApplied
from rlhf_tui.terminal.clean_text import clean_line

_VERSION = re.compile(r"rewards\.\d+\.(version|refused)")
_NUMBER = re.compile(r"(\d{3,6})-")
_LIST_WORDS = 3
_LONGEST = 40


def edit_text(path: str, old: Any, new: Any, arrow: str = "→") -> str:
    """A live change in a few words: `kl.coef 0.1→0.3`; of a list, what was added and what was taken out:
    `liked: +otter −fox`; of a reward model that learnt on, its version."""
    if (found := _VERSION.fullmatch(path)) and (number := _NUMBER.match(str(new))):
        return f"reward model version {int(number[1])}{' refused' if found[1] == 'refused' else ''}"
    if isinstance(old, list) and isinstance(new, list):
        return clean_line(f"{path.rpartition('.')[2]}: {list_change(old, new)}")
    return clean_line(f"{path} {_cut(fields.show(old))}{arrow}{_cut(fields.show(new))}")


def applied_text(event: EditApplied) -> str:
    """A change that was made in a run, and from which step it counts."""
    return f"from step {event.step}: {edit_text(event.path, event.old, event.new, ' → ')}"


def list_change(old: list[Any], new: list[Any]) -> str:
    """What was added to a list and what was taken out; of many entries the first and how many there are."""
    changes = [f"+{_cut(str(item))}" for item in new if item not in old] + \
              [f"−{_cut(str(item))}" for item in old if item not in new]
    more = f" and {len(changes) - _LIST_WORDS} more" if len(changes) > _LIST_WORDS else ""
    return f"{' '.join(changes[:_LIST_WORDS]) or 'in another order'}{more}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[:_LONGEST - 1] + "…"
