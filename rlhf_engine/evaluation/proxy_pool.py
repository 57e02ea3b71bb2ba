"""Best-of-n by a proxy, judged by gold: how far choosing among the reference's own responses over-optimizes, without
any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from rlhf_engine.config.gold import judge_of
from rlhf_engine.config.methods.base import Needs
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.evaluation.best_of import batch_to_answer
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.evaluation.over_optimization import JudgedStep, OverOptimization, fitted
from rlhf_engine.maths.best_of_n import best_of_n_kl
from rlhf_engine.maths.over_optimization import Fit, best_by_proxy, fit_gold
from rlhf_engine.maths.statistics import Estimate
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_settings import settings_now

LEAST = 24
"""Responses to a prompt: with fewer there are too few n for a fit."""
_AT_ONCE = 64  # responses
_RESAMPLES = 500


def over_optimize_best_of_n(
    source: RunDir | RunConfig, *, n: int, seed: int,
    progress: Callable[[int, int], None] = lambda done, total: None, tell: Callable[[str], None] = lambda text: None,
) -> OverOptimization:
    """What the gold reward makes of the best of 1, 2, 3, 4, 6, 8, … up to n by the score that is learnt from, over n
    responses of the reference to each prompt of a run or preset.

    The interval of the peak is over prompts, which are resampled; one prompt gives none. Raises ConfigError where there
    is no gold reward, nothing that is learnt from, or n is below `LEAST`, before anything is sampled.
    """
    config = settings_now(source) if isinstance(source, RunDir) else source
    if isinstance(source, RunDir):
        require_own_run(source, config)
    proxy, gold = _both(config)
    if n < LEAST:
        raise ConfigError(f"--best-of: {n} responses to a prompt are too few for a fit; it takes {LEAST}")
    policy = Policy.from_config(config, Needs(adapters=()))
    for text in policy.notices:
        tell(text)
    batch = batch_to_answer(policy, config, None, tell)
    asked = batch.repeated(n)
    decoder = PreparedDecoder(policy, tell)
    found: list[tuple[float, float]] = []
    for first in range(0, len(asked.prompts), _AT_ONCE):
        part = slice(first, first + _AT_ONCE)
        columns = {name: column[part] for name, column in asked.columns.items()}
        samples = answer(policy, asked.prompts[part], config.sampling, tuned=False, seed=(seed + first) % 2**63,
                         rewards=proxy, decoder=decoder, columns=columns)
        judged = gold.score(asked.prompts[part], [sample.response for sample in samples], columns).scores
        found += [(sample.score or 0.0, score.total) for sample, score in zip(samples, judged, strict=True)]
        progress(len(found), len(asked.prompts))
    pool = np.array(found).reshape(len(batch.prompts), n, 2)
    return chosen_by_proxy(pool[:, :, 0].tolist(), pool[:, :, 1].tolist(), config)


def chosen_by_proxy(
    proxy: Sequence[Sequence[float]], gold: Sequence[Sequence[float]], config: RunConfig
) -> OverOptimization:
    """The same of scored responses: by prompt, the proxy and the gold score of each."""
    ns = _counts(len(proxy[0]))
    by_prompt = np.array([[[best_by_proxy(scores, scores, n), best_by_proxy(scores, judged, n)] for n in ns]
                          for scores, judged in zip(proxy, gold, strict=True)])  # [prompts, n, 2]
    means = by_prompt.mean(axis=0)
    points = [JudgedStep(n, best_of_n_kl(n), float(own), float(judged))
              for n, (own, judged) in zip(ns, means, strict=True)]
    found = fitted("best_of_n", judge_of(config.rewards, config.sentinel.gold), points)
    if found.judge_fit is None or found.judge_fit.peak is None:
        return found
    peak = _over_prompts(found.judge_fit, [point.distance for point in points], by_prompt[:, :, 1])
    stop = replace(found.stop, distance=peak) if found.stop else None
    return replace(found, judge_fit=replace(found.judge_fit, peak=peak), stop=stop)


# ---------------------------------------------------------------------------------------------------------------------


def _both(config: RunConfig) -> tuple[RewardSum, RewardSum]:
    """The score that is learnt from, and gold. Raises ConfigError."""
    name = judge_of(config.rewards, config.sentinel.gold).name
    gold = [reward.model_copy(update={"weight": 1.0}) for reward in config.rewards if reward.name == name]
    learnt = [reward for reward in config.rewards if reward.weight]
    if not gold:
        raise ConfigError("there is no gold reward: give one of [[rewards]] weight = 0, or name it in sentinel.gold")
    if not learnt:
        raise ConfigError("there is nothing to choose by: every reward has weight 0")
    return build_rewards(learnt), build_rewards(gold)


def _counts(most: int) -> list[int]:
    """1, 2, 3, 4, 6, 8, 12, … and `most`: evenly spaced in log n, as far as whole numbers are."""
    found = {1, most}
    power = 2
    while power <= most:
        found |= {power, power * 3 // 2} if power * 3 // 2 <= most else {power}
        power *= 2
    return sorted(found)


def _over_prompts(fit: Fit, distances: list[float], by_prompt: np.ndarray) -> Estimate:
    """The fit's peak, its interval by the percentiles of fits to resampled prompts: the n share their responses, so
    that their residuals say nothing."""
    assert fit.peak is not None
    prompts = len(by_prompt)
    if prompts < 2:
        return Estimate(fit.peak.value, 0.0, float("inf"))
    draws = np.random.default_rng(0).integers(0, prompts, size=(_RESAMPLES, prompts))
    peaks = []
    for rows in draws:
        peak = fit_gold("best_of_n", distances, by_prompt[rows].mean(axis=0).tolist()).peak
        peaks.append(peak.value if peak else float("inf"))
    low, high = np.quantile(peaks, [0.025, 0.975], method="nearest")
    return Estimate(fit.peak.value, float(low), float(high))
