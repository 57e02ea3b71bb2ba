"""A list of words as text: read as it is typed or pasted, and written so that it can be read again."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LONGEST_PHRASE = 4
# commas and semicolons, of Chinese, Japanese and Arabic texts too
_SEPARATORS = ",;\uff0c\u3001\uff1b\u060c\u061b"


def parse_words(text: str) -> list[str]:
    """The entries of a pasted list. Commas, semicolons and lines separate; where there are none, spaces do.

    So "polar bear, fox" holds a phrase and a word, "fox owl" two words; a phrase alone is written "polar bear,".
    """
    lines = text.strip().split("\n")
    if re.search(f"[{_SEPARATORS}]", text):
        parts = re.split(rf"[{_SEPARATORS}\n]", text)
    else:
        # one entry a line, unless the lines are too long for that: then they are wrapped words
        one_a_line = len(lines) > 1 and max(len(line.split()) for line in lines) <= _LONGEST_PHRASE
        parts = lines if one_a_line else text.split()
    return [word for word in (" ".join(part.strip(" \t\"'“”‘’[]").split()) for part in parts) if word]


def words_text(words: Sequence[str]) -> str:
    """A list as one would type it; `parse_words` gives it back."""
    lone_phrase = len(words) == 1 and " " in words[0]
    return ", ".join(words) + ("," if lone_phrase else "")
