"""Prompts that a run never learns from, answered every few steps: whether it learns more than its own prompts by heart.

As with probes the random numbers are its own and always the same, so that a run that is evaluated and one that is not
are the same run, and two evaluations differ by the weights alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import fmean

from rlhf_engine.algorithms.base import MeasuresHeldOut, Resources
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import Rows
from rlhf_engine.evaluation.beside import Beside
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import Event, Sample


class HeldOutEvaluator:
    """Evaluates one run. What goes wrong is said once, and costs the run nothing but its evaluations."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._reference: tuple[RunConfig, int, float] | None = None
        self._beside = Beside("held-out prompts", emit, plural=True)

    def look(
        self, step: int, rows: Rows, resources: Resources, config: RunConfig, algorithm: object = None,
        known: Mapping[str, float] | None = None,
    ) -> dict[str, float]:
        """The metrics of an evaluation after `step` (from 1); none when it is not time for one, every
        `data.evaluate_every` steps, or nothing is held out.

        rows: prompts, which are answered and scored if the method answers any and there are rewards. The reference is
        asked once under the same settings, and its mean score stands beside each of the actor's. algorithm: measures
        the held-out rows of `resources` besides, if it `MeasuresHeldOut`. known: the metrics of that step, of which a
        `kl_coef` makes an objective of score and KL.
        """
        every, most = config.data.evaluate_every, config.data.evaluate_most
        if not every or step % every or self._beside.given_up:
            return {}
        rows, apart = (found.take(range(min(len(found), most))) for found in (rows, resources.held_out))
        scored = len(rows) and resources.rewards and config.algorithm.needs.answers
        measures = algorithm.measure_held_out if isinstance(algorithm, MeasuresHeldOut) and len(apart) else None
        if not scored and not measures:
            return {}
        return self._beside.attempt(step, lambda: (
            (_with_objective(self._scores(step, rows, resources, config), known or {}) if scored else {})
            | (measures(apart) if measures else {}))) or {}

    def _scores(self, step: int, rows: Rows, resources: Resources, config: RunConfig) -> dict[str, float]:
        reference, tuned = self._reference_score(rows, resources, config), _answers(rows, resources, config, step)
        return {
            "eval/scores": fmean(_known(sample.score) for sample in tuned),
            "eval/reference_scores": reference,
            "eval/kl": fmean(_known(sample.kl) for sample in tuned),
            "eval/mean_length": fmean(sample.tokens for sample in tuned),
        }

    def _reference_score(self, rows: Rows, resources: Resources, config: RunConfig) -> float:
        """Asked again only when live edits have changed what it depends on."""
        known = self._reference
        same = known and known[1] == len(rows) and (known[0].sampling, known[0].rewards) == (
            config.sampling, config.rewards)
        if known is None or not same:
            score = fmean(_known(sample.score) for sample in _answers(rows, resources, config))
            known = self._reference = (config, len(rows), score)
        return known[2]


def _with_objective(found: dict[str, float], known: Mapping[str, float]) -> dict[str, float]:
    """What was found, and score − β · KL where the step has a β."""
    if (coef := known.get("kl_coef")) is None:
        return found
    return found | {"eval/rlhf_reward": found["eval/scores"] - (coef * found["eval/kl"] if coef else 0.0)}


def _answers(rows: Rows, resources: Resources, config: RunConfig, step: int = 0) -> list[Sample]:
    """One answer to each prompt, as many at once as in a step. step 0: by the reference."""
    found: list[Sample] = []
    for first in range(0, len(rows), config.algorithm.learned_per_step):
        part = rows.take(range(first, min(first + config.algorithm.learned_per_step, len(rows))))
        found += answer(
            resources.policy, part.prompts, config.sampling, tuned=step > 0, seed=(config.train.seed + first) % 2**63,
            rewards=resources.rewards, step=step, decoder=resources.decoder if step else None, columns=part.columns)
    return found


def _known(value: float | None) -> float:
    """NaN for what a method without rewards, or without a reference, does not know."""
    return math.nan if value is None else value
