"""Rows of preference files that others made, under whatever names of columns, as judgements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.labels.judgement import Judgement, Verdict, from_row
from rlhf_engine.labels.nested import column_at, names_of
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.labels.transcripts import Texts, begins_with_prompt, texts_of, without_prompt
from rlhf_engine.labels.verdicts import marked, verdicts_of

TARGETS = {
    "prompt": "what both respond to", "chosen": "the better response", "rejected": "the other response",
    "first": "one of two responses", "second": "the other of the two", "verdict": "which of the two is better",
    "system": "what the assistant is told before all", "rater": "who judged", "note": "what they noted", "time": "when",
}
"""What a column can be mapped to, and what that is."""
_MOST_CHARACTERS = 2_000_000  # of a pair: a line of a label file must hold them, however they are escaped
_KEY = frozenset({"pair", "rater", "repeat", "verdict"})


@dataclass(frozen=True)
class Imported:
    """left_out: why rows are no pairs, by the place of each. notices: sentences about what was done with all."""

    judgements: list[Judgement]
    left_out: dict[int, str]
    notices: tuple[str, ...] = ()


def checked_mapping(
    given: Mapping[str, str], columns: Mapping[str, Sequence[Any]], source: object,
) -> dict[str, str]:
    """What each target is called in a file with these columns: as `given`, else by its own name. Prompts may be
    missing. A verdict may be several columns, parted by commas, of which one is 1. Raises ConfigError for columns that
    are not there."""
    if unknown := [name for name in given if name not in TARGETS]:
        raise ConfigError(f"--map: {short(repr(unknown[0]))} is none of {', '.join(TARGETS)}")
    mapping = {target: given.get(target, target) for target in TARGETS if target in given or target in columns}
    named = [column for target, names in given.items() for column in _parts(target, names, columns)]
    if missing := [column for column in named if column_at(columns, column) is None]:
        raise ConfigError(f"--map: {source} has no column {short(repr(missing[0]))}, but {_named(columns)}")
    by_verdict = {"first", "second", "verdict"} & given.keys()
    for target in ("first", "second", "verdict") if by_verdict else ("chosen", "rejected"):
        if target not in mapping:
            raise ConfigError(f"{source} has no column {target!r} ({TARGETS[target]}), but {_named(columns)}; "
                              f"--map {target}=COLUMN says what it is called"
                              + ("" if by_verdict else "; or first, second and verdict, where a column tells which of "
                                 "two is better"))
    return {target: column for target, column in mapping.items()
            if target not in (("chosen", "rejected") if by_verdict else ("first", "second", "verdict"))}


def import_rows(
    columns: Mapping[str, Sequence[Any]], mapping: Mapping[str, str], rater: str, where: Callable[[int], str],
    told: Mapping[str, Verdict] | None = None,
) -> Imported:
    """The judgements of rows. mapping: of `checked_mapping`. rater: who judged, where no column says so. where: tells
    where a row stands. told: what values of the column of verdicts mean (see `verdicts_of`).

    Rows that are no pairs (one side is missing or empty, both are equal, no prompt or verdict) are left out, each with
    its reason. Raises ConfigError for verdicts that cannot be understood.
    """
    count = len(next(iter(columns.values()), ()))
    if columns.keys() >= _KEY:
        return _own(columns, count, where)
    sides = ("first", "second") if "verdict" in mapping else ("chosen", "rejected")
    names = [mapping.get(target, target) for target in ("prompt", *sides)]
    verdicts: list[Verdict | None] = ["first"] * count
    if "verdict" in mapping:
        parts = _parts("verdict", mapping["verdict"], columns)
        marks = [column_at(columns, part) or [None] * count for part in parts]
        verdicts = marked(marks, where) if marks[1:] else verdicts_of(
            marks[0], parts[0], (names[1], names[2]), told or {}, where)
    read = {target: column_at(columns, name) or [None] * count for target, name in mapping.items()
            if target != "verdict"}
    found: dict[int, Texts] = {}
    left_out: dict[int, str] = {}
    for at in range(count):
        try:
            if verdicts[at] is None:
                raise ConfigError(f"{mapping['verdict']!r} is missing")
            if "prompt" in mapping and read["prompt"][at] is None:
                raise ConfigError(f"{mapping['prompt']!r} is missing")
            asked, one, other, system = (read[name][at] if name in read else None
                                         for name in ("prompt", *sides, "system"))
            if system is not None and not isinstance(system, str):
                raise ConfigError(f"{mapping['system']!r} is no text")
            found[at] = texts_of(asked, one, other, names, system if system and system.strip() else None)
        except ConfigError as error:
            left_out[at] = str(error)
    notices: tuple[str, ...] = ()
    if found and "prompt" in mapping and all(map(begins_with_prompt, found.values())):
        found = {at: without_prompt(texts) for at, texts in found.items()}
        notices = ("each answer began with its prompt, which was taken off",)
    for at, texts in list(found.items()):
        if not texts.one.strip() or not texts.other.strip():
            left_out[at] = "an answer is nothing but the prompt"
            del found[at]
        elif sum(map(len, texts)) > _MOST_CHARACTERS:
            left_out[at] = f"it has more than {_MOST_CHARACTERS:,} characters, the most of a judgement"
            del found[at]
    return Imported(_judgements(found, verdicts, read, rater), dict(sorted(left_out.items())), notices)


def _judgements(
    found: Mapping[int, Texts], verdicts: Sequence[Verdict | None], read: Mapping[str, Sequence[Any]], rater: str,
) -> list[Judgement]:
    here = Origin("file")
    judgements: list[Judgement] = []
    times: Counter[tuple[str, str]] = Counter()
    for at, texts in found.items():
        pair = Pair(texts.prompt, Answer(texts.one, True, here), Answer(texts.other, True, here))
        said = {name: str(read[name][at]) for name in ("rater", "note", "time")
                if name in read and read[name][at] is not None}
        judgement = Judgement(pair, said.get("rater", rater), verdicts[at] or "skip", False, note=said.get("note", ""),
                              time=said.get("time", ""))
        key = (pair.id, judgement.rater)
        judgements.append(replace(judgement, repeat=times[key]))
        times[key] += 1
    return judgements


def unused_columns(columns: Mapping[str, Sequence[Any]], mapping: Mapping[str, str]) -> list[str]:
    """The columns of which nothing is taken."""
    if columns.keys() >= _KEY:
        return []
    taken = [part for target, name in mapping.items() for part in _parts(target, name, columns)]
    return [name for name in columns if not any(part == name or part.startswith(f"{name}.") for part in taken)]


def _parts(target: str, name: str, columns: Mapping[str, Sequence[Any]]) -> list[str]:
    return name.split(",") if target == "verdict" and name not in columns else [name]


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


def _named(columns: Mapping[str, Sequence[Any]]) -> str:
    return short(", ".join(names_of(columns)), 200)
