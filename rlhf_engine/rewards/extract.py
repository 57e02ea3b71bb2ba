"""What of a text is its answer, and where that stands."""

from __future__ import annotations

import re
from collections import deque
from typing import NamedTuple

from rlhf_engine.config.verifiable import Extractor
from rlhf_engine.patterns import all_matches, compiled
from rlhf_engine.rewards.numbers import NUMBER

_TAG, _END = "<answer>", "</answer>"


class Found(NamedTuple):
    """text[start:end], without the space around it."""

    text: str
    start: int
    end: int


def extract(text: str, how: Extractor, pattern: str | None = None) -> Found | None:
    """The answer within `text`, None where there is none. pattern: for `how` = "pattern". Of several the last one is
    meant: models think aloud before they answer. Raises `patterns.SlowPatternError`."""
    start, end = _place(text, how, pattern)
    start += len(text[start:end]) - len(text[start:end].lstrip())
    end = start + len(text[start:end].rstrip())
    return Found(text[start:end], start, end) if start < end else None


def _place(text: str, how: Extractor, pattern: str | None) -> tuple[int, int]:
    nowhere = (0, 0)
    match how:
        case "whole":
            return 0, len(text)
        case "first_line":
            start = len(text) - len(text.lstrip())
            return start, _line_end(text, start)
        case "last_line":
            end = len(text.rstrip())
            return max(text.rfind("\n", 0, end), text.rfind("\r", 0, end)) + 1, end
        case "last_number":
            last = deque(NUMBER.finditer(text), maxlen=1)
            return last[0].span() if last else nowhere
        case "boxed":
            return _boxed(text)
        case "hashes":
            at = text.rfind("####")
            return (at + 4, _line_end(text, at + 4)) if at >= 0 else nowhere
        case "answer_tag":
            end = text.rfind(_END)
            start = text.rfind(_TAG, 0, end) if end >= 0 else -1
            return (start + len(_TAG), end) if start >= 0 else nowhere
        case "pattern":
            assert pattern is not None, "the settings see to that"
            found = deque(all_matches(compiled(pattern), text), maxlen=1)
            group = 1 if found and found[0].re.groups else 0
            return found[0].span(group) if found and found[0][group] is not None else nowhere


def _line_end(text: str, start: int) -> int:
    found = re.compile(r"[\r\n]").search(text, start)
    return found.start() if found else len(text)


def _boxed(text: str) -> tuple[int, int]:
    """What stands in the braces of the last \\boxed{…} that is closed, braces within braces included."""
    at = len(text)
    while (at := text.rfind("\\boxed{", 0, at)) >= 0:
        start, depth = at + len("\\boxed{"), 1
        for place in re.compile(r"[{}]").finditer(text, start):
            depth += 1 if place[0] == "{" else -1
            if depth == 0:
                return start, place.start()
    return 0, 0
