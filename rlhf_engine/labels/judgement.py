"""One judgement of one pair, and as a line of a label file: Hugging Face preference JSONL with extra columns.

    prompt, chosen, rejected   texts; of a pair that has no winner, those shown on the left and on the right
    verdict                    "first" or "second" (of the pair as it was drawn; `chosen` is that one), "tie",
                               "both_bad" or "skip"
    tie                        true for "tie" and "both_bad": neither is better
    shown                      "chosen_left" or "chosen_right"; of a pair without a winner "first_left", "first_right"
    pair, rater, repeat        which pair, who, and how often they had judged it before: the key of a judgement
    guess                      probability that the *first* is better, as the rewards at hand had it
    chosen_origin, …           who gave each answer: kind, model, run, step, seed

Each line has the same keys, so that `datasets` reads the file as a table.
"""

from __future__ import annotations

import getpass
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.files.reading import whole_number
from rlhf_engine.labels.pair import Answer, AskedFor, Origin, OriginKind, Pair

Verdict = Literal["first", "second", "tie", "both_bad", "skip"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
DECIDED = ("first", "second")


@dataclass(frozen=True)
class Judgement:
    """What `rater` said of a pair. swapped: the second answer stood on the left. repeat: how often they had judged the
    pair before. time: when, ISO 8601 in UTC; "" where unknown. seconds: from when it was shown."""

    pair: Pair
    rater: str
    verdict: Verdict
    swapped: bool
    repeat: int = 0
    time: str = ""
    seconds: float = 0.0
    flag: bool = False
    note: str = ""

    @property
    def key(self) -> tuple[str, str, int]:
        """A later judgement of the same key is in the place of an earlier one."""
        return self.pair.id, self.rater, self.repeat

    @property
    def decided(self) -> bool:
        """True when one of the two is better."""
        return self.verdict in DECIDED

    @property
    def tie(self) -> bool:
        """True when they were judged, and neither is better."""
        return self.verdict in ("tie", "both_bad")

    @property
    def left_won(self) -> bool:
        """True when the better one stood on the left."""
        return self.decided and (self.verdict == "second") == self.swapped

    @property
    def chosen(self) -> Answer:
        """The better answer; of a pair without one, that on the left."""
        second = self.verdict == "second" if self.decided else self.swapped
        return self.pair.second if second else self.pair.first

    @property
    def rejected(self) -> Answer:
        """The other answer."""
        return self.pair.first if self.chosen is self.pair.second else self.pair.second


def own_name() -> str:
    """Who judges, if nobody says otherwise: the user of this system."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no such user: in a container, say
        return "me"


def now() -> str:
    """The time as judgements have it, to the millisecond."""
    return _written(datetime.now(UTC))


def row(judgement: Judgement) -> dict[str, Any]:
    """One line of a label file, for JSON."""
    chosen, rejected = judgement.chosen, judgement.rejected
    if judgement.decided:
        shown = "chosen_left" if judgement.left_won else "chosen_right"
    else:
        shown = "first_right" if judgement.swapped else "first_left"
    return {
        "prompt": judgement.pair.prompt, "chosen": chosen.text, "rejected": rejected.text,
        "verdict": judgement.verdict, "tie": judgement.tie, "flag": judgement.flag, "note": judgement.note,
        "rater": judgement.rater, "time": judgement.time, "seconds": round(judgement.seconds, 3), "shown": shown,
        "repeat": judgement.repeat, "pair": judgement.pair.id,
        "asked_for": judgement.pair.asked_for, "guess": judgement.pair.guess,
        "chosen_finished": chosen.finished, "rejected_finished": rejected.finished,
        "chosen_score": chosen.score, "rejected_score": rejected.score,
        "chosen_origin": asdict(chosen.origin), "rejected_origin": asdict(rejected.origin),
    }


def from_row(found: Mapping[str, Any]) -> Judgement:
    """The judgement of a line. One that has no more than prompt, chosen and rejected says that the first is better.

    Raises ConfigError saying what is wrong with which column.
    """
    verdict: Verdict = _one_of(found, "verdict", VERDICTS, "tie" if found.get("tie") is True else "first")
    shown = _one_of(found, "shown", ("chosen_left", "chosen_right", "first_left", "first_right"), "chosen_left")
    chosen, rejected = (
        Answer(_text(found, name), _truth(found, f"{name}_finished", True), _origin(found, f"{name}_origin"),
               _number(found, f"{name}_score"))
        for name in ("chosen", "rejected")
    )
    if verdict in DECIDED:
        swapped = (shown == "chosen_left") == (verdict == "second")
        first_is_chosen = verdict == "first"
    else:
        swapped = shown == "first_right"
        first_is_chosen = not swapped
    first, second = (chosen, rejected) if first_is_chosen else (rejected, chosen)
    asked_for: AskedFor = _one_of(found, "asked_for", get_args(AskedFor), "random")
    guess = _number(found, "guess")
    if guess is not None and not 0 <= guess <= 1:
        raise ConfigError(f"'guess' is {guess:g}; a probability is from 0 to 1")
    return Judgement(
        Pair(_text(found, "prompt"), first, second, asked_for, guess), _text(found, "rater", ""), verdict, swapped,
        _count(found, "repeat") or 0, _time(found), _number(found, "seconds") or 0.0,
        _truth(found, "flag", False), _text(found, "note", ""),
    )


# ---------------------------------------------------------------------------------------------------------------------


def _written(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _text(found: Mapping[str, Any], name: str, without: str | None = None) -> str:
    value = found.get(name)
    if value is None and without is not None:
        return without
    if name not in found:
        raise ConfigError(f"has no {name!r}, only {short(', '.join(map(repr, found))) or 'an empty object'}")
    if not isinstance(value, str):
        raise ConfigError(f"{name!r} is {_kind(value)}, and no text")
    return value


def _time(found: Mapping[str, Any]) -> str:
    """As text; other formats than JSON have times of their own."""
    value = found.get("time")
    return _written(value) if isinstance(value, datetime) else _text(found, "time", "")


def _truth(found: Mapping[str, Any], name: str, without: bool) -> bool:
    value = found.get(name)
    if value is None:
        return without
    if not isinstance(value, bool):
        raise ConfigError(f"{name!r} is {short(repr(value))}; allowed are true and false")
    return value


def _one_of(found: Mapping[str, Any], name: str, allowed: tuple[str, ...], without: Any) -> Any:
    value = found.get(name)
    if value is None:
        return without
    if value not in allowed:
        raise ConfigError(f"{name!r} is {short(repr(value))}; allowed are {', '.join(allowed)}")
    return value


def _number(found: Mapping[str, Any], name: str) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"{name!r} is {short(repr(value))}, and no finite number")
    return float(value)


def _count(found: Mapping[str, Any], name: str) -> int | None:
    value = found.get(name)
    try:
        return None if value is None else whole_number(value)
    except ValueError:
        raise ConfigError(f"{name!r} is {short(repr(value))}, and no whole number from 0 on") from None


def _origin(found: Mapping[str, Any], name: str) -> Origin:
    value = found.get(name)
    if value is None:
        return Origin("file")
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name!r} is {_kind(value)}; an origin is an object with kind, model, run, step and seed")
    kind: OriginKind = _one_of(value, "kind", get_args(OriginKind), "file")
    return Origin(kind, _text(value, "model", ""), _text(value, "run", ""), _count(value, "step"),
                  _count(value, "seed"))


def _kind(value: Any) -> str:
    kinds = {list: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else kinds.get(type(value), "something else")
