"""Two answers to one prompt, as a person is asked which is better."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from rlhf_engine.events import Span
from rlhf_engine.files.json_text import to_json

OriginKind = Literal["reference", "tuned", "checkpoint", "recorded", "file"]
AskedFor = Literal["random", "unsure", "gap"]
"""How the pair was chosen among others: at random, where the rewards are least sure, or where their gap is largest."""


@dataclass(frozen=True)
class Origin:
    """Who gave an answer: the reference, the tuned model, a checkpoint, a sample that a run recorded, or a file.

    step: training steps of that model, and None where nobody knows them. seed: of its sampling.
    """

    kind: OriginKind
    model: str = ""
    run: str = ""
    step: int | None = None
    seed: int | None = None


@dataclass(frozen=True)
class Answer:
    """One answer. finished: it came to its own end. score, parts, spans: what the rewards said of it, as in a `Sample`;
    a file keeps no more of it than the score."""

    text: str
    finished: bool
    origin: Origin
    score: float | None = None
    parts: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two answers to a prompt, in the order in which they were drawn; `shown_swapped` says how they are shown.

    guess: probability that the first is the better one, by the rewards or the reward model at hand; it is kept from
    the person until they have judged.
    """

    prompt: str
    first: Answer
    second: Answer
    asked_for: AskedFor = "random"
    guess: float | None = None

    @cached_property
    def id(self) -> str:
        """16 hex digits that are the same for the same prompt and texts, in whichever order they were drawn."""
        digest = hashlib.sha256()
        for text in (self.prompt, *sorted((self.first.text, self.second.text))):
            data = text.encode("utf-8", "surrogatepass")
            digest.update(b"%d:%b" % (len(data), data))  # the length parts one text from the next
        return digest.hexdigest()[:16]


def shown_swapped(pair: Pair, rater: str, repeat: int = 0) -> bool:
    """True where the second answer stands on the left: a coin that is the same for the same person and pair.

    The coin says which of the two texts is on the left, however the pair was drawn, so that nobody learns from a
    position. A pair that comes back (`repeat` 1, 3, …) shows the other way round.
    """
    coin = hashlib.sha256(to_json([rater, pair.id]).encode()).digest()[0] & 1
    drawn_otherwise = pair.first.text > pair.second.text
    return bool(coin) ^ drawn_otherwise ^ bool(repeat % 2)
