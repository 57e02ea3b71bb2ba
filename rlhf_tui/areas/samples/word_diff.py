"""What an answer has that another one has not, word by word. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from rlhf_engine.words import in_script_without_spaces, word_places

_RUN = re.compile(r"\S+")


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
    old, new = ([(text[start:end], start, end) for start, end in _words(text)] for text in (before, after))
    matcher = SequenceMatcher(None, [word for word, _, _ in old], [word for word, _, _ in new], autojunk=False)
    stretches, added, dropped = [], 0, 0
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind == "equal":
            continue
        dropped += b - a
        added += d - c
        if d > c:
            stretches.append((new[c][1], new[d - 1][2]))
    return Change(tuple(stretches), added, dropped, len(new))


def _words(text: str) -> Iterator[tuple[int, int]]:
    """Where each word stands, punctuation with it: between spaces, and where a script has none as rewards count them.
    """
    for run in _RUN.finditer(text):
        cuts = [run.start(), run.end()]
        if in_script_without_spaces(run.group()):
            cuts[1:1] = [run.start() + start for start, _ in word_places(run.group())[1:]]
        yield from pairwise(cuts)
