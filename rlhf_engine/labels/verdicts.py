"""What a column of verdicts says about two answers.

Everybody writes it otherwise: 1 is the first answer in one set, the second in another, and "yes, the first is better"
in a third. What could mean either side is asked for, never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.labels.judgement import Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_WORDS: dict[str, Verdict] = {
    **dict.fromkeys(("first", "a", "model_a", "response_a", "left"), "first"),
    **dict.fromkeys(("second", "b", "model_b", "response_b", "right"), "second"),
    **dict.fromkeys(("tie", "equal", "same", "both"), "tie"),
    **dict.fromkeys(("both_bad", "bothbad", "tie (bothbad)", "neither"), "both_bad"),
    "skip": "skip",
}
_NOUNS = frozenset({"model", "response", "answer", "assistant", "output", "completion", "option", "summary", "text"})
_AMOUNTS = frozenset({"strength", "score", "scores", "rating", "margin", "gap", "difference"})  # by how much, not which
_MARKED: tuple[Verdict, ...] = ("first", "second", "tie", "both_bad")


class UnclearVerdictError(ConfigError):
    """A verdict that may mean either answer. key: what `--verdict` calls it."""

    def __init__(self, message: str, key: str) -> None:
        self.key = key
        super().__init__(message)


def verdicts_of(
    column: Sequence[Any], name: str, sides: tuple[str, str], told: Mapping[str, Verdict], where: Callable[[int], str],
) -> list[Verdict | None]:
    """The verdicts in a column; None where it is empty. name, sides: how it and the columns of both answers are called.
    told: what its values mean, as a person says; "negative" and "positive" are numbers below and above 0.

    Else a value means what it says: a word for a side, a tie; the number or letter that tells the columns of the
    answers apart, as in `response_0` and `response_1`; 1 and 2, where both are there and nothing else. Raises
    UnclearVerdictError for any other.
    """
    numbers = {_number(value) for value in column} - {None}
    tags = _tags(sides)
    own = set(_tokens(name))
    if own & {*tags, *_AMOUNTS} or not all(f"{number:g}" in tags for number in numbers):
        tags = tuple("" if tag.isdigit() else tag for tag in tags)  # `response_0_is_better`: 1 would mean response_0
    counted = numbers == {1, 2} and not own & _AMOUNTS and not any(tag.isdigit() for tag in _tags(sides))
    signed = any(number < 0 for number in numbers if number is not None)
    known: dict[str, Verdict | None] = {}
    found: list[Verdict | None] = []
    for at, value in enumerate(column):
        number = _number(value)
        key = f"{number:g}" if number is not None else str(value).strip().lower()
        if key not in known:
            known[key] = _verdict(key, number, value, tags=tags, sides=sides, counted=counted, signed=signed, told=told)
        if known[key] is None and not _empty(value):
            sign = "negative" if number is not None and number < 0 else "positive"
            asked = sign if signed and number else key
            raise UnclearVerdictError(
                f"{where(at)}: {short(repr(value), 60)} in {short(repr(name), 60)} does not tell whether "
                f"{short(repr(sides[0]), 60)} or {short(repr(sides[1]), 60)} is better; --verdict {short(asked, 40)}="
                f"first, or second, {', '.join(VERDICTS[2:])}, says what it means", asked)
        found.append(known[key])
    return found


def marked(columns: Sequence[Sequence[Any]], where: Callable[[int], str]) -> list[Verdict | None]:
    """The verdicts of columns of which one is 1 in each row: the first is better, the second, a tie, both are bad.
    Raises ConfigError where none is, or several are, or a value is no such mark."""
    found: list[Verdict | None] = []
    for at, row in enumerate(zip(*columns, strict=True)):
        numbers = [float(value) if isinstance(value, bool) else _number(value) for value in row]
        if sorted(number if number is not None else -1 for number in numbers) != [0] * (len(row) - 1) + [1]:
            raise ConfigError(f"{where(at)}: of the columns of the verdict one should be 1 and the others 0, and they "
                              f"are {short(', '.join(map(repr, row)), 80)}")
        found.append(_MARKED[numbers.index(1)])
    return found


def _verdict(
    key: str, number: float | None, value: Any, *, tags: tuple[str, ...], sides: tuple[str, str], counted: bool,
    signed: bool, told: Mapping[str, Verdict],
) -> Verdict | None:
    if _empty(value):
        return None
    if key in told:
        return told[key]
    if number is not None:
        if signed and number:
            return told.get("negative" if number < 0 else "positive")
        if key in tags:
            return _MARKED[tags.index(key)]
        return _MARKED[int(number) - 1] if counted else None
    if isinstance(value, bool):
        return None
    if key in (lower := [side.lower() for side in sides]):
        return _MARKED[lower.index(key)]
    tokens = _tokens(key)
    meant = [tag for tag in tags if tag and tag in tokens]
    others = set(tokens) - set(meant) - _NOUNS - {token for side in sides for token in _tokens(side)}
    if len(meant) == 1 and not others and re.fullmatch(r"[\w\s-]+", key):
        return _MARKED[tags.index(meant[0])]
    return _WORDS.get(key)


def _tags(sides: tuple[str, str]) -> tuple[str, ...]:
    """What tells the names of two columns apart, as "0" and "1" for response_0 and response_1."""
    one, other = map(_tokens, sides)
    apart = [pair for pair in zip(one, other, strict=False) if pair[0] != pair[1]]
    return apart[0] if len(one) == len(other) and len(apart) == 1 else ("", "")


def _tokens(name: str) -> list[str]:
    return [token.lower() for token in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+", name)]


def _empty(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if re.fullmatch(r"\s*[-+]?\d{1,9}(\.\d{1,9})?\s*", value) else None
    return float(value) if isinstance(value, int | float) and abs(value) < 1e9 else None
