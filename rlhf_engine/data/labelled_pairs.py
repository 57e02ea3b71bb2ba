"""Which rows of a label file a method learns from. Files of pairs that nobody has judged so are taken as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rlhf_engine.data.tables import JUDGED, Table
from rlhf_engine.errors import ConfigError, short

TIE = "tie"
"""The column that says of a pair that neither is better."""
_KEY = ("pair", "rater", "repeat")
_NO_WINNER = ("tie", "both_bad")


def learned_pairs(table: Table, source: object, *, ties: bool) -> tuple[Table, str]:
    """The rows of a label file (`labels.judgement`) that are learned from, and one sentence about the others (empty:
    there are none): not those that were skipped, nor those that a later row with the same key is in the place of; and
    those of which neither is better only with `ties`, marked by a true `tie`.

    A file without verdicts may have a column `tie` of its own. Raises ConfigError where no row is left, or one says
    neither true nor false there.
    """
    columns = table.columns
    verdicts = columns["verdict"] if columns.keys() >= JUDGED else None
    judged = [] if verdicts is not None else columns.get(TIE, [])
    tie = [_is_tie(value, number, source) for number, value in enumerate(judged, 1)] or [False] * len(table)
    kept = list(range(len(table)))
    left_out: dict[str, int] = {}

    def leave_out(why: str, others: list[int]) -> None:
        nonlocal kept
        left_out[why], kept = len(kept) - len(others), others

    if verdicts is not None:
        tie = [verdict in _NO_WINNER for verdict in verdicts]
        latest = _latest(columns)
        leave_out("judged again", [at for at in kept if at in latest])
        leave_out("skipped", [at for at in kept if verdicts[at] != "skip"])
    if not ties:
        leave_out("without a winner", [at for at in kept if not tie[at]])
    why = ", ".join(f"{count} {name}" for name, count in left_out.items() if count)
    said = f"{len(table) - len(kept)} of {len(table)} judgements are left out: {why}" if why else ""
    if not kept:
        raise ConfigError(f"data.source: {source}: {said}; none is left to learn from")
    found = table.take(kept) if why else table
    if ties and (verdicts is not None or TIE in columns):
        found = replace(found, columns={**found.columns, TIE: [tie[at] for at in kept]})
    return found, said


def _is_tie(value: Any, number: int, source: object) -> bool:
    said = value.strip().lower() if isinstance(value, str) else value
    if said in (None, "", "false", False):
        return False
    if said in ("true", True):
        return True
    raise ConfigError(f"data.source: {source}: the column {TIE!r} of row {number} is {short(repr(value), 40)}; it is "
                      "true for a pair of which neither is better, and else false")


def _latest(columns: Mapping[str, Sequence[Any]]) -> set[int]:
    """The places of the last row of each key; a row without a key of its own stands for itself."""
    last: dict[Any, int] = {}
    for at, key in enumerate(zip(*(columns[name] for name in _KEY), strict=True)):
        last[key if isinstance(key[0], str) and None not in key else at] = at
    return set(last.values())
