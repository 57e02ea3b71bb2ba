"""Reference against tuned: paired samples from the same seeds, and what differs, with 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlhf_engine.events import Sample
from rlhf_engine.rewards.words import count_words
from rlhf_engine.statistics import (
    Estimate,
    distinct_n_interval,
    mean_interval,
    paired_difference_interval,
    paired_distinct_n_difference,
    paired_share_difference,
    share_interval,
)

if TYPE_CHECKING:  # the screen reads comparisons without loading torch
    from rlhf_engine.config import RunConfig
    from rlhf_engine.policy import Policy
    from rlhf_engine.run_dir import RunDir

_BATCH = 32


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


def compare(
    policy: Policy,
    config: RunConfig,
    *,
    responses: int,
    seed: int,
    step: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Comparison | None:
    """Answer the run's prompts `responses` times with both models from the same noise; None once cancelled."""
    from rlhf_engine.generate import answer
    from rlhf_engine.rewards.build import build_rewards

    rewards = build_rewards(config.rewards)
    prompts = [config.prompts[i % len(config.prompts)] for i in range(responses)]
    pairs: list[Pair] = []
    for start in range(0, responses, _BATCH):
        if cancelled():
            return None
        chunk = prompts[start : start + _BATCH]
        both = [
            answer(policy, chunk, config.sampling, tuned=tuned, seed=seed + start, rewards=rewards, step=step)
            for tuned in (False, True)
        ]
        pairs += [Pair(reference, tuned) for reference, tuned in zip(*both, strict=True)]
        progress(len(pairs), responses)
    return summarize(pairs)


def compare_run(
    run_dir: RunDir,
    *,
    responses: int,
    seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Comparison | None:
    """`compare` with a run's newest checkpoint. Raises CheckpointError when there is none that loads."""
    from rlhf_engine.generate import load_tuned

    policy, config, step = load_tuned(run_dir)
    return compare(policy, config, responses=responses, seed=seed, step=step, progress=progress, cancelled=cancelled)


def summarize(pairs: Sequence[Pair]) -> Comparison:
    """The table of a set of pairs. Shares are of words, over all responses; the unit of sampling is the response."""
    sides = [[pair.reference for pair in pairs], [pair.tuned for pair in pairs]]
    words = [[[word.word for word in count_words(sample.response)] for sample in side] for side in sides]
    counts = [[len(text) for text in side] for side in words]
    rows = [
        _share_row("liked_share", "liked words", "liked", sides, counts),
        _share_row("disliked_share", "disliked words", "disliked", sides, counts),
        _mean_row("mean_score", "score", [[sample.score for sample in side] for side in sides]),
        _mean_row("kl_nats_per_response", "KL (nats per response)", [[sample.kl for sample in side] for side in sides]),
        _distinct_row("distinct_1", "distinct-1", words, 1),
        _distinct_row("distinct_2", "distinct-2", words, 2),
        _mean_row("mean_length", "length (tokens)", [[float(sample.tokens) for sample in side] for side in sides]),
    ]
    return Comparison(tuple(rows), tuple(pairs))


def _share_row(key: str, label: str, kind: str, sides: list[list[Sample]], counts: list[list[int]]) -> Row:
    found = [[_words_in_spans(sample, kind) for sample in side] for side in sides]
    return Row(
        key,
        label,
        share_interval(found[0], counts[0]),
        share_interval(found[1], counts[1]),
        paired_share_difference(found[0], counts[0], found[1], counts[1]),
    )


def _words_in_spans(sample: Sample, kind: str) -> int:
    return sum(len(count_words(sample.response[span.start : span.end])) for span in sample.spans if span.kind == kind)


def _mean_row(key: str, label: str, values: list[list[float]]) -> Row:
    return Row(
        key, label, mean_interval(values[0]), mean_interval(values[1]), paired_difference_interval(values[0], values[1])
    )


def _distinct_row(key: str, label: str, words: list[list[list[str]]], n: int) -> Row:
    return Row(
        key,
        label,
        distinct_n_interval(words[0], n),
        distinct_n_interval(words[1], n),
        paired_distinct_n_difference(words[0], words[1], n),
    )
