"""What an answer has that another one has not, word by word. Pure functions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class Change:
    """From one text to another: the stretches that are new, as offsets into the new one, and counts of words."""

    new: tuple[tuple[int, int], ...]
    added: int
    dropped: int
    words: int


def change(before: str, after: str) -> Change:
    """The words of `after` that a longest-match alignment (difflib) does not find in `before`.

    New words side by side are one stretch. Punctuation belongs to its word.
    """
    old, new = _WORD.findall(before), list(_WORD.finditer(after))
    matcher = SequenceMatcher(None, old, [word.group() for word in new], autojunk=False)
    stretches, added, dropped = [], 0, 0
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        dropped += b - a
        added += d - c
        if d > c:
            stretches.append((new[c].start(), new[d - 1].end()))
    return Change(tuple(stretches), added, dropped, len(new))
