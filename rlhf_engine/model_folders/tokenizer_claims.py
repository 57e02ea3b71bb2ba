"""What a tokenizer.json asks for, before the library does it: some of it ends a process, which no exception can.

A rule that replaces a letter by a thousand, four times over, takes more memory than there is; a table of characters
that calls itself larger than it is likewise. No torch here.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_engine.errors import ModelError

_STAGES = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_MOST_RULES = 1_000
_MOST_GROWTH = 10_000  # times that a text may become longer; Llama's and Gemma's three for a space is what is common


def check_tokenizer_growth(tokenizer: dict[str, Any], path: Path) -> None:
    """Raises ModelError for what takes more memory than a text could need."""
    growth, rules = 1, 0
    for stage in _STAGES:
        for rule in _rules(tokenizer.get(stage)):
            rules += 1
            added = rule.get("content") if rule.get("type") == "Replace" else rule.get("prepend")
            if isinstance(added, str):
                growth *= max(1, len(added.encode(errors="replace")))
            if rules > _MOST_RULES or growth > _MOST_GROWTH:
                raise ModelError(f"{path} has rules by which a text would become more than {_MOST_GROWTH:,} times as "
                                 "long: no tokenizer needs that")
            table = rule.get("precompiled_charsmap")
            if isinstance(table, str) and not _is_whole(table):
                raise ModelError(f"{path} is damaged: its table of characters (precompiled_charsmap) is not whole")


def _rules(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in it that says its type, however deep; JSON that was read is no deeper than we can follow."""
    unread = [value]
    while unread:
        one = unread.pop()
        if isinstance(one, dict):
            if "type" in one:
                yield one
            unread += one.values()
        elif isinstance(one, list):
            unread += one


def _is_whole(table: str) -> bool:
    """A charsmap is the size of its trie in bytes, the trie in units of four, and what its leaves stand for."""
    try:
        data = base64.b64decode(table, validate=True)
    except (binascii.Error, ValueError):
        return False
    if not data:
        return True
    size = struct.unpack("<I", data[:4])[0] if len(data) >= 4 else len(data)
    return len(data) >= 8 and size % 4 == 0 and 4 <= size <= len(data) - 4
