"""Word lists as text to type or paste, and what is worth saying about them. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from textual.content import Content

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.words import without_possessive, words_of
from rlhf_tui.terminal.clean_text import clean_line

_SHOWN = 4
_SIGN = {"liked": ("+", "$text-success bold"), "disliked": ("−", "$text-error bold")}


@dataclass(frozen=True)
class Remark:
    """One sentence about a list; a `wrong` one keeps the list from being used."""

    text: str
    wrong: bool = False


def without_doubles(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The entries, each once, and those that were there before (whatever their case)."""
    kept: dict[tuple[str, ...], str] = {}
    doubles: list[str] = []
    for word in words:
        key = _key(word)
        if key in kept and key:
            doubles.append(word)
        else:
            kept[key or (word,)] = word
    return list(kept.values()), doubles


def remarks(words: Sequence[str], others: Sequence[str], sayable: frozenset[str] | None) -> list[Remark]:
    """What to say about a list beside the `others` of the opposite list; `sayable` is all that the model can say."""
    found = []
    if empty := [word for word in words if not _key(word)]:
        found.append(Remark(f"no letter, digit or emoji, so nothing can match: {_some(empty)}", wrong=True))
    opposite = {_key(word) for word in others}
    once, doubles = without_doubles(words)
    if both := [word for word in once if _key(word) and _key(word) in opposite]:
        found.append(Remark(f"liked and disliked at once: {_some(both)}", wrong=True))
    if doubles:
        found.append(Remark(f"there twice, counted once: {_some(without_doubles(doubles)[0])}"))
    if sayable is not None and (mute := unsayable(words, sayable)):
        found.append(Remark(f"the storyteller never says {_some(mute)}"))
    return found


def list_head(side: str, words: Sequence[str], waiting: bool, marked: int) -> Content:
    """Sign, name and length of a list; waiting: not applied yet; marked: columns to colour as the cursor's line."""
    sign, style = _SIGN[side]
    head = Content.assemble((f"{sign} {side}", style), (f"  {count(words)}", "" if marked else "dim"),
                            ("  ✗ not applied" if waiting else "", "$text-error bold"))
    if not marked:
        return head
    return head.pad_right(max(0, marked - head.cell_length)).stylize("on $block-cursor-background")


def remark_line(remark: Remark) -> Content:
    """A remark with its mark, in colour."""
    mark, style = ("✗", "$text-error") if remark.wrong else ("⚠", "$text-warning")
    return Content.styled(f"{mark} {clean_line(remark.text)}", style)


def lexicon_of(config: RunConfig | None) -> frozenset[str] | None:
    """All words that the model of `config` can say, where that is known."""
    return _storyteller_words() if config is not None and config.model.name == "storyteller" else None


@cache
def _storyteller_words() -> frozenset[str]:
    from rlhf_engine.storyteller import lexicon

    return lexicon()


def unsayable(words: Sequence[str], sayable: frozenset[str]) -> list[str]:
    """Entries with a word that is not in `sayable`."""
    return [word for word in words
            if any(part not in sayable and without_possessive(part) not in sayable for part in _key(word))]


def count(words: Sequence[str]) -> str:
    """How many, in words."""
    return f"{len(words)} word{'' if len(words) == 1 else 's'}"


@lru_cache(maxsize=65536)  # of a list that does not fit, each word would be taken apart many times a key
def _key(word: str) -> tuple[str, ...]:
    return tuple(words_of(word))


def _some(words: Sequence[str]) -> str:
    more = f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else ""
    return ", ".join(words[:_SHOWN]) + more
