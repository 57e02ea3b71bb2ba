"""Rows of preference files that others made, under whatever names of columns, as judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.labels.judgement import Judgement, Verdict, from_row
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.labels.transcripts import texts_of

TARGETS = {
    "prompt": "what both respond to", "chosen": "the better response", "rejected": "the other response",
    "first": "one response, and", "second": "the other one, where", "verdict": "says which of them is better",
    "rater": "who judged", "note": "what they noted", "time": "when",
}
"""What a column can be mapped to, and what that is."""
_VERDICTS: dict[str, Verdict] = {
    **dict.fromkeys(("first", "a", "model_a", "response_a", "left", "response_0"), "first"),
    **dict.fromkeys(("second", "b", "model_b", "response_b", "right", "response_1"), "second"),
    **dict.fromkeys(("tie", "equal", "same", "both"), "tie"),
    **dict.fromkeys(("both_bad", "bothbad", "tie (bothbad)", "neither"), "both_bad"),
    "skip": "skip", "true": "first", "false": "second",
}
_KEY = frozenset({"pair", "rater", "repeat", "verdict"})


@dataclass(frozen=True)
class Imported:
    """left_out: why rows are no pairs, by the place of each."""

    judgements: list[Judgement]
    left_out: dict[int, str]


def checked_mapping(given: Mapping[str, str], columns: Sequence[str], source: object) -> dict[str, str]:
    """What each target is called in a file with these columns: as `given`, else by its own name. Prompts may be
    missing. Raises ConfigError for columns that are not there."""
    if unknown := [name for name in given if name not in TARGETS]:
        raise ConfigError(f"--map: {short(repr(unknown[0]))} is none of {', '.join(TARGETS)}")
    mapping = {target: given.get(target, target) for target in TARGETS if target in given or target in columns}
    if missing := [column for column in given.values() if column not in columns]:
        raise ConfigError(f"--map: {source} has no column {short(repr(missing[0]))}, but {_named(columns)}")
    by_verdict = {"first", "second", "verdict"} & given.keys()
    for target in ("first", "second", "verdict") if by_verdict else ("chosen", "rejected"):
        if target not in mapping:
            raise ConfigError(f"{source} has no column {target!r} ({TARGETS[target]}), but {_named(columns)}; "
                              f"--map {target}=COLUMN says what it is called")
    return {target: column for target, column in mapping.items()
            if target not in (("chosen", "rejected") if by_verdict else ("first", "second", "verdict"))}


def import_rows(
    columns: Mapping[str, Sequence[Any]], mapping: Mapping[str, str], rater: str, where: Callable[[int], str],
) -> Imported:
    """The judgements of rows. mapping: of `checked_mapping`. rater: who judged, where no column says so. where: tells
    where a row stands.

    Rows that are no pairs (one side is missing or empty, both are equal, no prompt can be told) are left out, each with
    its reason. Raises ConfigError for verdicts that cannot be understood.
    """
    count = len(next(iter(columns.values()), ()))
    if columns.keys() >= _KEY:
        return _own(columns, count, where)
    verdicts: list[Verdict] = ["first"] * count
    if "verdict" in mapping:
        verdicts = _verdicts(columns[mapping["verdict"]], where)
    sides = ("first", "second") if "verdict" in mapping else ("chosen", "rejected")
    here = Origin("file")
    found: list[Judgement] = []
    left_out: dict[int, str] = {}
    times: Counter[tuple[str, str]] = Counter()
    for at in range(count):
        row = {target: columns[column][at] for target, column in mapping.items()}
        try:
            if "prompt" in mapping and row["prompt"] is None:
                raise ConfigError(f"{mapping['prompt']!r} is missing")
            names = [mapping.get(target, target) for target in ("prompt", *sides)]
            texts = texts_of(row.get("prompt"), row[sides[0]], row[sides[1]], names)
            pair = Pair(texts.prompt, Answer(texts.one, True, here), Answer(texts.other, True, here))
            said = {name: str(row[name]) for name in ("rater", "note", "time") if row.get(name) is not None}
        except ConfigError as error:
            left_out[at] = str(error)
            continue
        judgement = Judgement(pair, said.get("rater", rater), verdicts[at], False, note=said.get("note", ""),
                              time=said.get("time", ""))
        key = (pair.id, judgement.rater)
        found.append(replace(judgement, repeat=times[key]))
        times[key] += 1
    return Imported(found, left_out)


def _own(columns: Mapping[str, Sequence[Any]], count: int, where: Callable[[int], str]) -> Imported:
    """Rows of a label file, of another format, say: with all that they tell."""
    latest: dict[tuple[str, str, int], Judgement] = {}
    for at in range(count):
        try:
            judgement = from_row({name: column[at] for name, column in columns.items()})
        except ConfigError as error:
            raise ConfigError(f"{where(at)}: {error}") from None
        latest[judgement.key] = judgement
    return Imported(list(latest.values()), {})


def _verdicts(column: Sequence[Any], where: Callable[[int], str]) -> list[Verdict]:
    """Numbers count the answers, from 0, or from 1 where there is a 2 and no 0."""
    numbers = {_number(value) for value in column} - {None}
    least = 1 if 2 in numbers and 0 not in numbers else 0
    found: list[Verdict] = []
    for at, value in enumerate(column):
        number = _number(value)
        if number is None:
            told = _VERDICTS.get(value.strip().lower() if isinstance(value, str) else str(value).lower())
        else:
            told = ("first", "second")[number - least] if number - least in (0, 1) else None
        if told is None:
            raise ConfigError(f"{where(at)}: the verdict {short(repr(value))} is not understood; allowed are 0 and 1 "
                              f"(or 1 and 2), and {', '.join(_VERDICTS)}")
        found.append(told)
    return found


def _number(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.strip() in ("0", "1", "2"):
        return int(value)
    return int(value) if isinstance(value, int | float) and value in (0, 1, 2) else None


def _named(columns: Sequence[str]) -> str:
    return short(", ".join(columns), 200)
