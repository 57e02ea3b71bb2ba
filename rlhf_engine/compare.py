"""Reference against tuned: paired samples from the same seeds, and what differs, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.events import Sample
from rlhf_engine.statistics import Estimate


@dataclass(frozen=True)
class Row:
    """One line of the table. `key` is the stable JSON key, `label` what people read; shares lie in 0 … 1."""

    key: str
    label: str
    reference: Estimate
    tuned: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Pair:
    """The same prompt and the same seed, answered by both."""

    reference: Sample
    tuned: Sample


@dataclass(frozen=True)
class Comparison:
    """The whole comparison as plain values; scores for the histogram are those of the pairs."""

    rows: tuple[Row, ...]
    pairs: tuple[Pair, ...]
