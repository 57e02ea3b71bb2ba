"""Watches a run's metrics for what goes wrong in RLHF, and says it in one sentence with what to try.

`conditions` is a pure function of two stretches of the history: the run's first steps and its latest ones, both
averaged over `sentinel.window` steps, so that one noisy step raises nothing. `Sentinel` turns conditions into alarms:
raised once when a condition becomes true, and again only after it has been false for a whole window.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Alarm

Metrics = Mapping[str, float]

_EQUAL = 1e-9  # scores this close are the same score


class Sentinel:
    """The memory between steps. Fed the metrics of all steps again, as on a resume, it comes to the same state."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._start: list[Metrics] = []
        self._recent: deque[Metrics] = deque(maxlen=window)
        self._false_for: dict[str, int] = {}
        """Kinds that were raised -> steps since their condition was last true."""

    def watch(self, step: int, metrics: Metrics, config: RunConfig) -> list[Alarm]:
        """Takes in a finished step and returns the alarms that it raises."""
        if len(self._start) < self._window:
            self._start.append(metrics)
        self._recent.append(metrics)
        if not config.sentinel.enabled:
            self._false_for.clear()
            return []
        found = conditions(self._start, list(self._recent), step, config)
        new = [Alarm(step, kind, text) for kind, text in found.items() if kind not in self._false_for]
        false_for = {kind: 0 if kind in found else count + 1 for kind, count in self._false_for.items()}
        self._false_for = {kind: count for kind, count in false_for.items() if count < self._window}
        self._false_for |= {alarm.kind: 0 for alarm in new}
        return new


def conditions(start: Sequence[Metrics], recent: Sequence[Metrics], step: int, config: RunConfig) -> dict[str, str]:
    """What is wrong after `step`, by kind, each in one sentence; nothing before a whole window of steps was seen.

    start, recent: metrics of the first and of the latest `sentinel.window` steps, oldest first. A metric that some
    steps lack (no actor updates while the critic warms up) is averaged over the others.
    """
    if len(recent) < config.sentinel.window:
        return {}
    # the start can be compared with once the two stretches no longer overlap
    apart = step >= 2 * config.sentinel.window
    found = {
        "kl": _kl(recent, config),
        "entropy": _entropy(start, recent, config) if apart else None,
        "distinct": _distinct(start, recent, config) if apart else None,
        "gaming": _gaming(start, recent, config) if apart else None,
        "critic": _critic(recent, step, config),
        "clipping": _clipping(recent, config),
        "sampling": _sampling(recent, config),
        "truncated": _truncated(recent, config),
        "equal-scores": _equal_scores(recent, config),
    }
    return {kind: text for kind, text in found.items() if text is not None}


# ---------------------------------------------------------------------------------------------------------------------


def _kl(recent: Sequence[Metrics], config: RunConfig) -> str | None:
    factor, target, kl = config.sentinel.kl_factor, config.kl.target, _mean(recent, "objective/kl")
    if factor is None or not kl > factor * target:
        return None
    return (f"KL is {kl:.1f} nats per response, {kl / target:.1f} times its target of {target:g}: text this far from "
            "the reference tends to break; raise kl.coef or lower optimizer.actor_lr")


def _entropy(start: Sequence[Metrics], recent: Sequence[Metrics], config: RunConfig) -> str | None:
    share = config.sentinel.entropy_share
    before, now = _mean(start, "policy/entropy_avg"), _mean(recent, "policy/entropy_avg")
    if share is None or not now < share * before:
        return None
    return (f"entropy fell from {before:.2f} to {now:.2f} nats per token: responses become alike; raise kl.coef or "
            "lower optimizer.actor_lr")


def _distinct(start: Sequence[Metrics], recent: Sequence[Metrics], config: RunConfig) -> str | None:
    share = config.sentinel.distinct_share
    before, now = _mean(start, "completions/distinct_2"), _mean(recent, "completions/distinct_2")
    if share is None or not now < share * before:
        return None
    return (f"distinct-2 fell from {before:.2f} to {now:.2f}: responses repeat the same word pairs; raise kl.coef, or "
            "add a penalty for repetition to the reward")


def _gaming(start: Sequence[Metrics], recent: Sequence[Metrics], config: RunConfig) -> str | None:
    drop, name = config.sentinel.ref_logprob_drop, "objective/ref_logprob"
    before, now = _mean(start, name), _mean(recent, name)
    score_before, score_now = _mean(start, "objective/scores"), _mean(recent, "objective/scores")
    risen = score_now - score_before > 0.5 * _mean(start, "objective/scores_std")
    if drop is None or not (risen and before - now > drop):
        return None
    return (f"the score rose from {score_before:.2f} to {score_now:.2f} while ref. log-prob fell from "
            f"{before:.2f} to {now:.2f} nats per token: possible reward hacking; read samples, change the reward, or "
            "raise kl.coef")


def _critic(recent: Sequence[Metrics], step: int, config: RunConfig) -> str | None:
    share, explained = config.sentinel.critic_share, _mean(recent, "val/explained_variance")
    if share is None or step < config.sentinel.critic_patience or not explained < share:
        return None
    return (f"explained variance is {explained:.2f} after {step} steps: the critic predicts the returns poorly, and "
            "advantages are mostly noise; raise optimizer.critic_lr, or set train.critic_warmup_steps")


def _clipping(recent: Sequence[Metrics], config: RunConfig) -> str | None:
    limit, clipped = config.sentinel.clip_share, _mean(recent, "policy/clipfrac_avg")
    if limit is None or not clipped > limit:
        return None
    what = "responses" if config.ppo.level == "sequence" else "tokens"
    return (f"the clip fraction is {100 * clipped:.0f} % of {what}: optimizer steps are too large for ppo.clip_range; "
            "lower optimizer.actor_lr or ppo.epochs")


def _sampling(recent: Sequence[Metrics], config: RunConfig) -> str | None:
    limit, gap = config.sentinel.logprob_gap, _mean(recent, "sampling/logprob_gap")
    if limit is None or not gap > limit:
        return None
    cure = "turn off sampling.top_k and top_p" if config.sampling.allow_truncation else "take model.dtype = float32"
    return (f"the log-prob gap is {gap:.2f} nats per token: tokens are sampled with other probabilities than those "
            f"they are scored with, and ratio and KL are off by as much; {cure}, or correct for it with "
            "ppo.importance_sampling_cap = 2")


def _truncated(recent: Sequence[Metrics], config: RunConfig) -> str | None:
    share, cut = config.sentinel.truncated_share, _mean(recent, "completions/clipped_ratio")
    if share is None or not cut >= share:
        return None
    longest = config.sampling.max_new_tokens
    return (f"{100 * cut:.0f} % of responses are truncated at {longest} tokens (no EOS): a reward that "
            "depends on how a text ends never applies; raise sampling.max_new_tokens, or set "
            "sentinel.truncated_share = none if that is intended")


def _equal_scores(recent: Sequence[Metrics], config: RunConfig) -> str | None:
    spreads = [metrics.get("objective/scores_std", math.inf) for metrics in recent]
    if not config.sentinel.equal_scores or config.ppo.responses_per_step == 1 or not max(spreads) < _EQUAL:
        return None
    return (f"in {len(recent)} steps all responses of a step had the same score "
            f"({_mean(recent, 'objective/scores'):.2f} on average): there is no signal to learn from; change the "
            "reward, or raise sampling.temperature")


def _mean(rows: Sequence[Metrics], name: str) -> float:
    """The mean of what is there and finite; NaN, which no comparison is true of, if nothing is."""
    values = [metrics[name] for metrics in rows if math.isfinite(metrics.get(name, math.nan))]
    return fmean(values) if values else math.nan
