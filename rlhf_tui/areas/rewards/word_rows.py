"""The lines of the word table: a heading per list, a line per word with how often both models say it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.content import Content

from rlhf_tui.areas.rewards.word_rates import Rates, change, course, entry_of
from rlhf_tui.areas.rewards.word_watch import Count
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.estimates import LESS, MORE, UNCLEAR

ORDERS = ("as written", "A to Z", "most said", "most gained")
_NUMBER, _COURSE, _NARROW = 6, 12, 44
_GOOD = {("liked", MORE), ("disliked", LESS)}


@dataclass(frozen=True)
class WordRow:
    """A word of a list (`at` is its place there), or with at −1 the heading of the list."""

    side: str
    at: int = -1
    word: str = ""


def rows_of(side: str, words: list[str], order: str, rates: Rates) -> list[WordRow]:
    """The heading of a list and its words in an order of ORDERS."""
    rows = [WordRow(side, at, word) for at, word in enumerate(words)]
    if order == "A to Z":
        rows.sort(key=lambda row: row.word.casefold())
    elif order == "most said":
        rows.sort(key=lambda row: -_known(rates.tuned.rate(entry_of(row.word))))
    elif order == "most gained":
        rows.sort(key=lambda row: -_gained(rates, row.word))
    return [WordRow(side), *rows]


def columns(order: str, width: int) -> Content:
    """What stands in which column."""
    over_course = "over the run" if width >= _NARROW else ""
    return Content.styled(_line(f"{order} · per 100 words", "ref.", "tuned", "", over_course, width), "$text-muted")


def word_line(row: WordRow, rates: Rates, mute: bool, width: int) -> Content:
    """A word, its rate in the reference's and in the tuned model's texts, ▲ ▼ where they surely differ, its course."""
    entry = entry_of(row.word)
    sign = change(rates, entry)
    style = "$text-success" if (row.side, sign) in _GOOD else "$text-error" if sign in (MORE, LESS) else "$text-muted"
    bars = course(rates, entry) if width >= _NARROW else ""
    text = _line(f"  {'⚠ ' if mute else ''}{clean_line(row.word)}", _rate(rates.reference.rate(entry)),
                 _rate(rates.tuned.rate(entry)), sign, bars, width)
    line = Content(text, strip_control_codes=False)
    tail = _NUMBER + 2 + (_COURSE + 1 if width >= _NARROW else 0)
    line = line.stylize("bold" if sign and sign != UNCLEAR else "", max(0, len(text) - tail), len(text))
    line = line.stylize(style, max(0, len(text) - tail + _NUMBER), len(text))
    return line.stylize("$text-warning italic", 0, max(0, len(text) - tail - _NUMBER)) if mute else line


def window(count: Count) -> str:
    """In what the two columns were counted."""
    tuned, reference = count.rates.tuned.responses, count.rates.reference.responses
    steps = f", steps {count.first_step}–{count.last_step}" if count.last_step else ""
    return " · ".join(filter(None, (f"ref. {reference} responses" if reference else "ref.: r asks for responses",
                                    f"tuned {tuned} newest{steps}" if tuned else "")))


def _line(word: str, reference: str, tuned: str, sign: str, bars: str, width: int) -> str:
    tail = f"{reference:>{_NUMBER}}{tuned:>{_NUMBER}} {sign or ' '}"
    if width >= _NARROW:
        tail += f" {bars:<{_COURSE}}"
    room = max(1, width - len(tail))
    return Content(word, strip_control_codes=False).truncate(room, ellipsis=True, pad=True).plain + tail


def _rate(rate: float) -> str:
    return f"{rate:.2f}" if math.isfinite(rate) else "–"


def _known(rate: float) -> float:
    return rate if math.isfinite(rate) else 0.0


def _gained(rates: Rates, word: str) -> float:
    entry = entry_of(word)
    return _known(rates.tuned.rate(entry)) - _known(rates.reference.rate(entry))
