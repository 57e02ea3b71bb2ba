"""The registry of metrics: name, unit, what it means, and which way is good.

Names are those that practitioners know from the literature and the common libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["up", "down", "neither"]


@dataclass(frozen=True)
class Metric:
    """One series. `title` is short enough for a chart's heading; `help` says what to look for."""

    name: str
    title: str
    unit: str
    better: Better
    help: str


_ALL = [
    Metric("objective/scores", "reward", "score per response", "up",
           "Mean score of the step's responses, before the KL penalty."),
    Metric("objective/scores_std", "reward spread", "score per response", "neither",
           "Standard deviation of the step's scores; at 0 all responses score alike and nothing can be learnt."),
    Metric("objective/kl", "KL", "nats per response", "neither",
           "How far the actor's responses are from the reference: sum over the response of log π − log π_ref. "
           "Some is the price of learning; far over the target the text breaks."),
    Metric("objective/rlhf_reward", "score − β·KL", "score per response", "up",
           "What PPO maximises: score minus the KL penalty."),
    Metric("objective/non_score_reward", "KL penalty", "score per response", "neither",
           "The part of the reward that is not score: −β·KL."),
    Metric("objective/entropy", "surprise", "nats per response", "neither",
           "−Σ log π of the sampled tokens; a steep fall says that responses become all alike."),
    Metric("objective/ref_logprob", "reference likes", "nats per token", "neither",
           "Mean log π_ref of the sampled tokens: how likely the untrained model finds the responses. A reward that "
           "rises while this falls is being gamed."),
    Metric("policy/approxkl_avg", "policy shift", "nats per token", "neither",
           "How far the updates of this step moved the actor from the policy that sampled (k3). Above "
           "0.05 is a large step."),
    Metric("policy/clipfrac_avg", "clipped", "share of tokens", "down",
           "Tokens whose ratio was clipped; above 0.3 the step size is high."),
    Metric("policy/entropy_avg", "entropy", "nats per token", "neither",
           "Mean entropy of the actor's next-token distribution."),
    Metric("loss/policy_avg", "policy loss", "", "neither",
           "Clipped surrogate loss, mean over the step's updates; hovers around 0."),
    Metric("loss/value_avg", "value loss", "score²", "down",
           "Squared error of the critic; should fall, then follow the reward's spread."),
    Metric("val/clipfrac_avg", "value clipped", "share of tokens", "down", "Values held back by value clipping."),
    Metric("val/ratio", "ratio", "", "neither", "Mean of π_new / π_old; stays near 1."),
    Metric("val/explained_variance", "critic explains", "share of variance", "up",
           "1 − Var(return − value) / Var(return): 0 explains nothing, 1 everything."),
    Metric("policy/updates", "updates", "optimiser steps", "neither",
           "Actor updates in this step; fewer when target_kl stopped it early."),
    Metric("train/skipped_updates", "left out", "optimiser steps", "down",
           "Updates of actor and critic that were left out because their numbers were not finite."),
    Metric("lr", "step size", "", "neither", "The actor's step size after warm-up and decay."),
    Metric("kl_coef", "β", "score per nat", "neither", "Weight of the KL penalty."),
    Metric("grad_norm/actor", "actor gradient", "", "neither", "Gradient norm of the actor before clipping."),
    Metric("grad_norm/critic", "critic gradient", "", "neither", "Gradient norm of the critic before clipping."),
    Metric("completions/mean_length", "length", "tokens", "neither", "Mean response length, the end token included."),
    Metric("completions/clipped_ratio", "unfinished", "share of responses", "neither",
           "Responses cut off by max_new_tokens."),
    Metric("completions/distinct_2", "distinct-2", "share of bigrams", "up",
           "Different word pairs over all word pairs of the step; a fall says that responses repeat themselves."),
    Metric("num_tokens", "tokens", "tokens", "neither", "Response tokens since the start."),
    Metric("time/rollout", "rollout", "seconds", "down", "Time to sample the responses."),
    Metric("time/score", "score", "seconds", "down",
           "Time for rewards and for log-probs and values of the fixed models."),
    Metric("time/update", "update", "seconds", "down", "Time for the optimiser steps."),
    Metric("throughput/responses_per_s", "speed", "responses per second", "up", "Responses trained on per second."),
    Metric("throughput/matmul_share", "of matmul peak", "share of peak", "up",
           "Arithmetic of the step, by formula, over what large matrix products reach here in that time. Small models "
           "and small batches stay low: their time goes into starting operations."),
]

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}


def describe(name: str) -> Metric:
    """The metric called `name`; per-reward series (`rewards/<name>/mean|std`) are described on the fly."""
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith("rewards/") and name.endswith(("/mean", "/std")):
        reward, _, statistic = name.removeprefix("rewards/").rpartition("/")
        what = "Mean" if statistic == "mean" else "Standard deviation"
        return Metric(name, f"{reward} {statistic}", "score per response", "up" if statistic == "mean" else "neither",
                      f"{what} of the reward “{reward}”, before its weight.")
    return Metric(name, name, "", "neither", "")
