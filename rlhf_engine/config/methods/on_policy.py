"""What the methods that sample have in common: what goes wrong with them, and what a checkpoint of theirs counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean
from typing import Any

from rlhf_engine.config.gold import SCORE, judge_of
from rlhf_engine.config.methods.base import Condition, Settings, StepMetrics
from rlhf_engine.files.reading import finite, not_negative, whole_number
from rlhf_engine.maths.kl_control import kl_horizon

GLOSSARY = {
    "RLHF objective": "The mean over responses of score − β · KL (in TRL: objective/rlhf_reward).",
    "KL coef, β": "The penalty per nat of KL, in units of score.",
    "KL target": "The KL that a controller aims at by changing β; with a fixed β, a line in the chart.",
    "entropy": "Of the actor's next-token distribution, in nats. Sampled entropy: −log p of the sampled tokens.",
    "rollout": "Sampling the responses of a step.",
    "truncated (no EOS)": "A response that reached the maximum length before an end token (EOS).",
    "distinct-2": "Different word pairs over all word pairs; low when responses repeat themselves or each other.",
    "gold score": "What a reward of weight 0 gives: nobody learns from it, so it tells what the others are worth.",
    "over-optimization": "The score goes on rising while the gold score falls: what is learnt is the reward's flaws.",
    "reward hacking": "A high score by a flaw of the reward, not by what was meant: the same liked word repeated, say.",
}
"""Terms of methods that sample."""
TROUBLES = {
    "KL runs away while the score climbs": "the text breaks: raise KL coef, lower the learning rate",
    "the score climbs, the gold score falls": "over-optimization: `K` in the charts says which step to go back to",
    "the score climbs, distinct-2 falls": "reward hacking: see Samples, raise repeat penalty, lower bonuses",
    "the score does not move": "raise the learning rate or the bonuses; is any liked word ever sampled? see Samples",
}
"""What goes wrong with methods that sample, and what helps."""
_EQUAL = 1e-9  # scores this close are the same score
_LITTLE = 1.5  # a factor that the KL coefficient should be able to move by within a run
_MOST_COEF = 1e30  # beyond that float32 soon has no numbers


def _kl(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    factor, target, kl = config.sentinel.kl_factor, config.kl.target, mean_of(recent, "objective/kl")
    if factor is None or not kl > factor * target:
        return None
    return (f"KL is {kl:.1f} nats per response, {kl / target:.1f} times its target of {target:g}: text this far from "
            "the reference tends to break; raise kl.coef or lower optimizer.learning_rate")


def _entropy(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    share = config.sentinel.entropy_share
    before, now = mean_of(start, "policy/entropy_avg"), mean_of(recent, "policy/entropy_avg")
    if share is None or not now < share * before:
        return None
    return (f"entropy fell from {before:.2f} to {now:.2f} nats per token: responses become alike; raise kl.coef or "
            "lower optimizer.learning_rate")


def _distinct(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    share = config.sentinel.distinct_share
    before, now = mean_of(start, "completions/distinct_2"), mean_of(recent, "completions/distinct_2")
    if share is None or not now < share * before:
        return None
    return (f"distinct-2 fell from {before:.2f} to {now:.2f}: responses repeat the same word pairs; raise kl.coef, or "
            "add a penalty for repetition to the reward")


def _gaming(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    drop, name = config.sentinel.ref_logprob_drop, "objective/ref_logprob"
    before, now = mean_of(start, name), mean_of(recent, name)
    score_before, score_now = mean_of(start, "objective/scores"), mean_of(recent, "objective/scores")
    risen = score_now - score_before > 0.5 * mean_of(start, "objective/scores_std")
    if drop is None or not (risen and before - now > drop):
        return None
    return (f"the score rose from {score_before:.2f} to {score_now:.2f} while ref. log-prob fell from "
            f"{before:.2f} to {now:.2f} nats per token: possible reward hacking; read samples, change the reward, or "
            "raise kl.coef")


def _sampling(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    limit, gap = config.sentinel.logprob_gap, mean_of(recent, "sampling/logprob_gap")
    if limit is None or not gap > limit:
        return None
    cure = "turn off sampling.top_k and top_p" if config.sampling.allow_truncation else "take model.dtype = float32"
    if hasattr(config.algorithm, "importance_sampling_cap"):
        cure += ", or correct for it with algorithm.importance_sampling_cap = 2"
    return (f"the log-prob gap is {gap:.2f} nats per token: tokens are sampled with other probabilities than those "
            f"they are scored with, and ratio and KL are off by as much; {cure}")


def _truncated(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    share, cut = config.sentinel.truncated_share, mean_of(recent, "completions/clipped_ratio")
    if share is None or not cut >= share:
        return None
    longest = config.sampling.max_new_tokens
    return (f"{100 * cut:.0f} % of responses are truncated at {longest} tokens (no EOS): a reward that "
            "depends on how a text ends never applies; raise sampling.max_new_tokens, or set "
            "sentinel.truncated_share = none if that is intended")


def _equal_scores(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    spreads = [metrics.get("objective/scores_std", math.inf) for metrics in recent]
    if not config.sentinel.equal_scores or config.algorithm.learned_per_step == 1 or not max(spreads) < _EQUAL:
        return None
    return (f"in {len(recent)} steps all responses of a step had the same score "
            f"({mean_of(recent, 'objective/scores'):.2f} on average): there is no signal to learn from; change the "
            "reward, or raise sampling.temperature")


def _over_optimized(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    """start: the steps in which the judge was best."""
    judge, limits = judge_of(config.rewards, config.sentinel.gold), config.sentinel
    score, score_now = mean_of(start, SCORE), mean_of(recent, SCORE)
    best, now = (fmean(map(judge.value, rows)) for rows in (start, recent))
    spread, spread_now = (fmean(map(judge.spread, rows)) for rows in (start, recent))
    if not score_now > score:
        return None
    back, kl = round(mean_of(start, "step")), mean_of(start, "objective/kl")
    where = f"step {back}" + (f", at a KL of {kl:.1f} nats" if math.isfinite(kl) else "")
    rose = f"while the score rose from {score:.2f} to {score_now:.2f}"
    cure = f"what is learnt is no longer what was meant; go back to {where} (fork it there), or raise kl.coef"
    if judge.name:
        if limits.gold_drop is None or not best - now > limits.gold_drop * spread:
            return None
        return f"over-optimization: the {judge.title} fell from {best:.2f} to {now:.2f} {rose}: {cure}"
    if limits.spread_factor is None or not spread_now > limits.spread_factor * spread:
        return None
    return (f"over-optimization: the members of the ensemble are {spread_now:.2f} apart, where it was {spread:.2f}, "
            f"{rose}: {cure}")


def _judged(metrics: Mapping[str, float], config: Settings) -> float:
    return judge_of(config.rewards, config.sentinel.gold).value(metrics)


KL = Condition("kl", _kl, ("sentinel.kl_factor",))
ENTROPY = Condition("entropy", _entropy, ("sentinel.entropy_share",), from_start=True)
DISTINCT = Condition("distinct", _distinct, ("sentinel.distinct_share",), from_start=True)
GAMING = Condition("gaming", _gaming, ("sentinel.ref_logprob_drop",), from_start=True)
SAMPLING = Condition("sampling", _sampling, ("sentinel.logprob_gap",))
TRUNCATED = Condition("truncated", _truncated, ("sentinel.truncated_share",))
EQUAL_SCORES = Condition("equal-scores", _equal_scores, ("sentinel.equal_scores",))
OVER_OPTIMIZATION = Condition(
    "over-optimization", _over_optimized, ("sentinel.gold", "sentinel.gold_drop", "sentinel.spread_factor"),
    best_of=_judged)


def mean_of(rows: StepMetrics, name: str) -> float:
    """The mean of what is there and finite; NaN, which no comparison is true of, if nothing is."""
    values = [metrics[name] for metrics in rows if math.isfinite(metrics.get(name, math.nan))]
    return fmean(values) if values else math.nan


def about_kl(kl_coef: float, where: str) -> str:
    """Where the penalty stands, for `AlgorithmConfig.about_credit`."""
    return f"KL in {where}, β {kl_coef:.3g}" if kl_coef else "no KL penalty (β 0)"


def clipping(recent: StepMetrics, config: Settings, names: tuple[str, ...], what: str) -> str | None:
    """What to try where too large a share of `what` is clipped, which the metrics `names` tell together."""
    limit, clipped = config.sentinel.clip_share, sum(mean_of(recent, name) for name in names)
    if limit is None or not clipped > limit:
        return None
    return (f"the clip fraction is {100 * clipped:.0f} % of {what}: optimizer steps are too large for "
            "algorithm.clip_range; lower optimizer.learning_rate or algorithm.epochs")


def require_kl_controller(config: Settings) -> None:
    """Raises ValueError where a controller could never move, for it multiplies the coefficient."""
    if config.kl.controller == "budget" and config.kl.coef == 0:
        raise ValueError("kl.controller = budget needs a kl.coef above 0, from which it starts")
    least = config.algorithm.learned_per_step
    too_short = config.kl.horizon is not None and config.kl.horizon < least  # one step must not take it to 0
    if config.kl.controller == "adaptive" and (config.kl.coef == 0 or too_short):
        raise ValueError(
            "kl.controller = adaptive needs a kl.coef above 0 and a kl.horizon of at least "
            f"algorithm.responses_per_step ({least})"
        )


def kl_advice(config: Settings) -> list[str]:
    """What an adaptive controller cannot do within the run."""
    steps, responses = config.train.steps, config.algorithm.learned_per_step
    horizon = kl_horizon(config.kl.horizon, responses=responses, steps=steps)
    reach = math.exp(steps * math.log1p(0.2 * responses / horizon))
    as_good = horizon <= kl_horizon(None, responses=responses, steps=steps)  # in a short run none can reach far
    if config.kl.controller != "adaptive" or as_good or reach >= _LITTLE:
        return []
    return [
        f"kl.horizon {horizon:g} is long for {steps} steps of {responses} responses: kl.coef can rise by "
        f"{100 * (reach - 1):.0f} % at most in the whole run; none chooses one that fits"
    ]


def require_sound_scores(numbers: Mapping[str, Any]) -> None:
    """Raises ValueError naming the first number of a checkpoint that no KL coefficient or score can have."""
    not_negative(numbers.get("kl_coef", 0.0), "kl_coef", _MOST_COEF)
    finite(numbers.get("kl_before", 0.0), "kl_before")
    not_negative(numbers.get("kl_level", 0.0), "kl_level", _MOST_COEF)
    if "scores" in numbers:
        scores = numbers["scores"]
        if not isinstance(scores, dict):
            raise ValueError("scores is no table")
        finite(scores.get("mean"), "scores.mean")
        not_negative(scores.get("variance"), "scores.variance")
        whole_number(scores.get("steps"))


def forked_kl_coef(numbers: Mapping[str, Any], before: Settings, after: Settings) -> dict[str, Any]:
    """The numbers of a checkpoint; the coefficient that the controller had come to goes where another one is set."""
    same = (before.kl.coef, before.kl.controller) == (after.kl.coef, after.kl.controller)
    if same:
        return {**numbers}
    return {name: value for name, value in numbers.items() if name != "kl_level"} | {"kl_coef": after.kl.coef}
