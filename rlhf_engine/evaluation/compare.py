"""Reference against tuned, or any two: paired samples from the same seeds, and what differs, with 95 % intervals.

The first of the two is called `reference` here and the second `tuned`, whatever they are; `labels` tells what they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_engine.errors import BaseChangedError, ConfigError, NonFiniteError, RunError
from rlhf_engine.events import Sample
from rlhf_engine.maths.statistics import (
    Estimate,
    distinct_n_interval,
    mean_interval,
    paired_difference_interval,
    paired_distinct_n_difference,
    paired_share_difference,
    share_interval,
)
from rlhf_engine.requests import REFERENCE, TUNED, Side
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice
from rlhf_engine.words import words_of

if TYPE_CHECKING:  # the screen reads comparisons without loading torch
    from rlhf_engine.config.run_config import RunConfig
    from rlhf_engine.evaluation.frontier import Frontier
    from rlhf_engine.models.policy import Policy
    from rlhf_engine.runs.run_dir import RunDir

Progress = Callable[[int, int], None]

SHARES = ("liked_share", "disliked_share")
"""The keys of the rows that are shares of words."""
SCORE = "mean_score"
OF_REWARD = "score/"
"""Begins the key of a row for one reward (`score/<reward>`), or one of its parts (`score/<reward>/<part>`)."""


@dataclass(frozen=True)
class Row:
    """One line of the table. `key` is the stable JSON key, `label` what people read; shares lie in 0 … 1."""

    key: str
    label: str
    reference: Estimate
    tuned: Estimate
    difference: Estimate

    @property
    def idle(self) -> bool:
        """True of a part of a reward that never counted: tables for people leave it out."""
        nothing = Estimate(0.0, 0.0, 0.0)
        return self.key.count("/") > 1 and self.reference == self.tuned == nothing


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
    labels: tuple[str, str] = ("reference", "tuned")
    settings_of: str = ""
    """Whose prompts, sampling and rewards they are, if two runs are compared; empty if that is plain."""
    no_scores: str = ""
    """Why nothing was scored, if the rewards could not be had; there are no rows of scores then."""
    frontier: Frontier | None = None
    """Both against best-of-n of the reference, if that was asked for."""


def compare(
    policy: Policy | None,
    config: RunConfig | None,
    *,
    responses: int,
    seed: int,
    step: int = 0,
    sides: tuple[Side, Side] = (REFERENCE, TUNED),
    may_load: bool = True,
    base: BaseChoice = AS_IT_WAS,
    run: Path | None = None,
    pool: int = 0,
    progress: Progress = lambda done, total: None,
    paired: Callable[[Comparison], None] = lambda result: None,
    pooled: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> Comparison | None:
    """Let both sides answer the prompts of `config` `responses` times from the same noise; None once cancelled.

    Two checkpoints are compared under the settings of the first; they need neither policy nor config. `policy` is as
    it was afterwards, bit for bit. may_load: a checkpoint that does not fit it is loaded, else refused. base: what a
    person says about the base models of checkpoints; where they have moved, of those that were trained on what lies
    there. run: the run that `config` was read from, if it was one. pool: how many responses of the reference may be
    drawn at most, in all, to hold both against best-of-n; 0 for none. paired: takes the comparison before that begins;
    pooled: takes its progress. tell: takes sentences about checkpoints that are damaged. Raises RlhfError for a
    checkpoint that cannot be used, before anybody answers. Where the rewards cannot be had, the answers have no scores,
    and the comparison says why.
    """
    from rlhf_engine.data.prompt_check import check_prompts
    from rlhf_engine.data.rows import prompts_to_ask
    from rlhf_engine.evaluation.comparison import ComparisonModels, answers_of
    from rlhf_engine.evaluation.pool import draw_frontier
    from rlhf_engine.rewards.build import rewards_if_any
    from rlhf_engine.runs.run_dir import RunDir

    bench = ComparisonModels(policy, config, step, may_load, base, tell)
    both = [bench.read(side) for side in sides]
    if base.moves and not bench.used_moves:
        raise BaseChangedError(f"None of these runs was trained on the base model that is called "
                               f"{base.moves.get('model.name', 'so')}.")
    of_checkpoints = all(side.kind == "checkpoint" for side in sides)
    settings = both[0].config if of_checkpoints else config
    if settings is None:
        raise RunError("there is no configuration to take prompts and rewards from")
    for side in both:
        if side.tuned:
            (side.config or settings).algorithm.require_answers()
    scored_by = sides[0].run if of_checkpoints else run
    rewards, no_scores = rewards_if_any(settings, RunDir(scored_by) if scored_by else None)
    to_ask = prompts_to_ask(settings)
    if not to_ask:
        raise ConfigError("data.held_out: a run that learns from whole texts has no prompts to compare answers to; "
                          "prompts named there, or as probe.prompt, are never learned from, and can be answered")
    answers: list[list[Sample]] = []
    prompts: tuple[str, ...] = ()
    for number, side in enumerate(both):
        def told(done: int, before: int = number * responses) -> None:
            progress((before + done) // 2, responses)

        with bench.answering_as(side) as policy_of_side:
            prompts = prompts or check_prompts(policy_of_side, settings, to_ask).usable
            asked = [prompts[index % len(prompts)] for index in range(responses)]
            try:
                found = answers_of(policy_of_side, asked, settings, side, rewards, seed, told, cancelled)
            except NonFiniteError as error:
                raise NonFiniteError(f"{side.label}: {error}") from None
        del policy_of_side  # or it would be held while the next one is loaded
        if found is None:
            return None
        answers.append(found)
    pairs = [Pair(first, second) for first, second in zip(*answers, strict=True)]
    named = "" if sides == (REFERENCE, TUNED) else both[0].label if of_checkpoints else "the run on the workbench"
    result = replace(summarize(pairs), labels=(both[0].label, both[1].label), settings_of=named)
    result = result if rewards else _without_scores(result, no_scores)
    if not pool:
        return result
    paired(result)
    frontier = draw_frontier(bench, (both[0], both[1]), result.pairs, settings, rewards, bound=pool,
                             seed=seed + responses, progress=pooled, cancelled=cancelled)
    return replace(result, frontier=frontier) if frontier else None


def compare_run(
    run_dir: RunDir,
    step: int | None = None,
    *,
    responses: int,
    seed: int,
    base: BaseChoice = AS_IT_WAS,
    pool: int = 0,
    progress: Progress = lambda done, total: None,
    pooled: Progress = lambda done, total: None,
    cancelled: Callable[[], bool] = lambda: False,
    tell: Callable[[str], None] = lambda text: None,
) -> Comparison | None:
    """`compare` with a run's checkpoint of `step`, or its newest. Raises as `load_tuned` does."""
    from rlhf_engine.evaluation.generate import load_tuned

    run_dir.config().algorithm.require_answers()  # before its model is loaded for nothing
    policy, config, at = load_tuned(run_dir, step, base=base, tell=tell)
    return compare(policy, config, responses=responses, seed=seed, step=at, run=run_dir.path, pool=pool,
                   progress=progress, pooled=pooled, cancelled=cancelled)


def summarize(pairs: Sequence[Pair]) -> Comparison:
    """The table of a set of pairs. Shares are of words, over all responses; the unit of sampling is the response.

    Below the score stands what each reward, and each of its named parts, adds to it: weighted, so that the rewards'
    rows add up to the score's.
    """
    sides = [[pair.reference for pair in pairs], [pair.tuned for pair in pairs]]
    words = [[words_of(sample.response) for sample in side] for side in sides]
    counts = [[len(text) for text in side] for side in words]
    parts = _parts_by_reward(sides)
    of_all = " (of all rewards)" if len(parts) > 1 else ""
    rows = [
        _share_row("liked_share", f"liked words{of_all}", "liked", sides, counts),
        _share_row("disliked_share", f"disliked words{of_all}", "disliked", sides, counts),
        *_mean_rows(SCORE, "score", [[sample.score for sample in side] for side in sides]),
        *_reward_rows(parts, sides),
        *_mean_rows("kl_nats_per_response", "KL (nats per response)",
                    [[sample.kl for sample in side] for side in sides]),
        _distinct_row("distinct_1", "distinct-1", words, 1),
        _distinct_row("distinct_2", "distinct-2", words, 2),
        _mean_row("mean_length", "length (tokens)", [[float(sample.tokens) for sample in side] for side in sides]),
    ]
    return Comparison(tuple(rows), tuple(pairs))


def _without_scores(result: Comparison, why: str) -> Comparison:
    """A zero that nothing was scored with would read like a score."""
    rows = tuple(row for row in result.rows if row.key not in (*SHARES, SCORE) and not row.key.startswith(OF_REWARD))
    return replace(result, rows=rows, no_scores=why)


def _parts_by_reward(sides: list[list[Sample]]) -> dict[str, list[str]]:
    """By reward, in their order, the names that what it adds to the scores has in `Sample.parts`."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for side in sides for sample in side for name in sample.parts):
        found.setdefault(name.partition("/")[0], []).append(name)
    return found


def _reward_rows(parts: dict[str, list[str]], sides: list[list[Sample]]) -> list[Row]:
    def row(label: str, names: list[str]) -> Row:
        values = [[math.fsum(sample.parts.get(name, 0.0) for name in names) for sample in side] for side in sides]
        return _mean_row(OF_REWARD + label, f"score: {label}", values)

    rows = []
    for reward, names in parts.items():
        rows.append(row(reward, names))
        rows += [row(name, [name]) for name in names if name != reward]
    return rows


def _share_row(key: str, label: str, kind: str, sides: list[list[Sample]], counts: list[list[int]]) -> Row:
    found = [[words_in_spans(sample, kind) for sample in side] for side in sides]
    return Row(
        key,
        label,
        share_interval(found[0], counts[0]),
        share_interval(found[1], counts[1]),
        paired_share_difference(found[0], counts[0], found[1], counts[1]),
    )


def words_in_spans(sample: Sample, kind: str) -> int:
    """How many words of the response stand in spans of that kind."""
    return sum(len(words_of(sample.response[span.start : span.end])) for span in sample.spans if span.kind == kind)


def _mean_rows(key: str, label: str, values: list[list[float | None]]) -> list[Row]:
    """A row of means; none where a response has no such number."""
    known = [[value for value in side if value is not None] for side in values]
    return [_mean_row(key, label, known)] if list(map(len, known)) == list(map(len, values)) else []


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
