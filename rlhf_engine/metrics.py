"""The registry of metrics: name, unit, what it means, which way is good, and how a good and a bad curve look.

Names are those that practitioners know from the literature and the common libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["up", "down", "neither"]


@dataclass(frozen=True)
class Metric:
    """One series. `title` is short enough for a chart's heading; `help` says what it is and what to look for."""

    name: str
    title: str
    unit: str
    better: Better
    help: str
    good: str = ""
    """One sentence: the curve of a run that goes well."""
    bad: str = ""
    """One sentence: the curve of a run that does not, and what it tells."""


_ALL = [
    Metric("objective/scores", "reward", "score per response", "up",
           "Mean score of the step's responses, before the KL penalty.",
           "Climbs within the first tens of steps, then flattens.",
           "Lies flat (nothing is learnt), or climbs on and on while KL runs away (the reward is gamed)."),
    Metric("objective/scores_std", "reward spread", "score per response", "neither",
           "Standard deviation of the step's scores; at 0 all responses score alike and nothing can be learnt.",
           "Stays well above 0, and shrinks slowly as more responses score high.",
           "Falls to 0: every response scores alike, and no advantage is left to learn from."),
    Metric("objective/kl", "KL", "nats per response", "neither",
           "How far the actor's responses are from the reference: sum over the response of log π − log π_ref. "
           "Some is the price of learning; far over the target the text breaks.",
           "Rises with the reward to its target, or a few nats beyond, and stays there.",
           "Runs away upwards (raise the KL coefficient, lower the step size), or falls far below 0 (the sampling and "
           "the scoring of tokens disagree)."),
    Metric("objective/rlhf_reward", "score − β·KL", "score per response", "up",
           "What PPO maximises: score minus the KL penalty (the score before ppo.score_normalization).",
           "Climbs and flattens a little below the reward.",
           "Falls while the reward climbs: more is paid in KL than is won in score."),
    Metric("objective/non_score_reward", "KL penalty", "score per response", "neither",
           "The part of the reward that is not score: −β·KL.",
           "Sinks a little below 0 and stays small beside the reward.",
           "As large as the reward itself: the penalty decides what is learnt."),
    Metric("objective/entropy", "surprise", "nats per response", "neither",
           "−Σ log π of the sampled tokens; a steep fall says that responses become all alike.",
           "Falls slowly as the actor grows surer.",
           "Drops steeply towards 0: the actor says the same thing every time."),
    Metric("objective/ref_logprob", "reference likes", "nats per token", "neither",
           "Mean log π_ref of the sampled tokens: how likely the untrained model finds the responses. A reward that "
           "rises while this falls is being gamed.",
           "Stays about level, or sinks by a few tenths of a nat.",
           "Sinks step after step while the reward rises: the text leaves what the reference would ever say."),
    Metric("sampling/logprob_gap", "sampling gap", "nats per token", "down",
           "Mean distance between the log-probability a token was sampled with and the one it is scored with: below "
           "1e-5 in float32, some hundredths in half precision. Ratio and KL are off by as much.",
           "Flat, near 0.",
           "Climbs, or lies over 0.1: tokens do not come from the distribution that is trained (top_k or top_p, a "
           "rounded cache); ppo.importance_sampling_cap corrects for some of it."),
    Metric("policy/approxkl_avg", "policy shift", "nats per action", "neither",
           "How far the actor is from the policy that sampled (k3), measured before each update of the step and "
           "averaged over them: with one update a step it is always 0. An action is a token, or the whole response at "
           "ppo.level sequence. Above 0.05 per token is a large step.",
           "Between 0.001 and 0.05 per token, if there are several updates a step.",
           "Spikes over 0.05 (the step size is high), or sticks at 0 with several updates a step (nothing moves)."),
    Metric("policy/clipfrac_avg", "clipped", "share of actions", "down",
           "Actions (tokens; whole responses at ppo.level sequence) whose ratio was clipped, averaged over the step's "
           "updates; nothing is clipped in the first of them. Above 0.3 the step size is high.",
           "Stays between 0 and 0.2.",
           "Stays over 0.3: the step size is too high, or there are too many epochs over one rollout."),
    Metric("policy/entropy_avg", "entropy", "nats per token", "neither",
           "Mean entropy of the actor's next-token distribution.",
           "Falls slowly and levels off well above 0.",
           "Collapses towards 0 (all responses become one), or climbs steadily (the text turns to noise)."),
    Metric("loss/policy_avg", "policy loss", "", "neither",
           "Clipped surrogate loss, mean over the step's updates; hovers around 0 while advantages are whitened.",
           "Small and ragged around 0; it need not fall.",
           "Large, one-sided or with growing spikes: updates go too far at once."),
    Metric("loss/value_avg", "value loss", "score²", "down",
           "Half the squared error of the critic; should fall, then follow the reward's spread.",
           "Falls quickly in the first steps, then stays low.",
           "Climbs and stays up: the critic cannot follow (lower its step size, or give it warm-up steps)."),
    Metric("val/clipfrac_avg", "value clipped", "share of actions", "down",
           "Values (one a token, or one a response at ppo.level sequence) that moved over ppo.value_clip_range since "
           "their rollout and are held back by that, averaged over the step's updates.",
           "Falls to a few per cent after the first steps.",
           "Stays high: the critic wants to move further than its clip range, which is in units of score, lets it."),
    Metric("val/ratio", "ratio", "", "neither",
           "Mean of π_new / π_old over actions and updates; stays near 1. With one update a step it is always 1.",
           "Within a few per cent of 1.",
           "Drifts away from 1, or spikes: the policy moves too far within one step."),
    Metric("val/explained_variance", "critic explains", "share of variance", "up",
           "1 − Var(return − value) / Var(return): 0 explains nothing, 1 everything.",
           "Climbs from about 0 towards 0.5 and more.",
           "Stays at 0 or below it: the critic is no better than a constant, and advantages are mostly noise."),
    Metric("policy/updates", "updates", "optimiser steps", "neither",
           "Actor updates in this step: fewer when target_kl stopped it early or some were left out, none while the "
           "critic warms up.",
           "Level at epochs times minibatches, with a dip now and then.",
           "Falls to one or two: every step is stopped early, so the step size is too high for target_kl."),
    Metric("train/skipped_updates", "left out", "optimiser steps", "down",
           "Updates of actor and critic that were left out because their numbers were not finite.",
           "Flat at 0.",
           "Anything above 0, most of all again and again: gradients overflow; lower the step size."),
    Metric("lr", "step size", "", "neither", "The actor's step size after warm-up and decay.",
           "Follows the schedule: a rise while it warms up, then level or falling.",
           "0, or not what was set: nothing is learnt, or more than was meant."),
    Metric("kl_coef", "β", "score per nat", "neither", "Weight of the KL penalty.",
           "Level; with the adaptive controller, settles once KL is at its target.",
           "Grows without end: KL stays over its target whatever it costs."),
    Metric("grad_norm/actor", "actor gradient", "", "neither", "Gradient norm of the actor before clipping.",
           "Ragged, in the same range all along.",
           "Grows over many steps or spikes tenfold: a divergence announces itself here first."),
    Metric("grad_norm/critic", "critic gradient", "", "neither", "Gradient norm of the critic before clipping.",
           "High at first, then falls with the value loss.",
           "Grows with the value loss: the critic's step size is too high."),
    Metric("completions/mean_length", "length", "tokens", "neither", "Mean response length, the end token included.",
           "About level, or moving only as far as the reward asks for.",
           "Runs to the maximum, or to a few tokens: length is being used to collect score."),
    Metric("completions/clipped_ratio", "unfinished", "share of responses", "neither",
           "Responses cut off by max_new_tokens before an end token; unknown of a model that has none.",
           "Level or falling.",
           "Climbs to 1: responses no longer end by themselves."),
    Metric("completions/distinct_2", "distinct-2", "share of bigrams", "up",
           "Different word pairs over all word pairs of the step; a fall says that responses repeat themselves.",
           "Stays near where it began, and sinks slowly at most.",
           "Falls while the reward climbs: the same rewarded words are said over and over."),
    Metric("num_tokens", "tokens", "tokens", "neither", "Response tokens learnt from since the start.",
           "A straight line.",
           "Bends upwards or downwards: responses get longer or shorter as the run goes on."),
    Metric("time/rollout", "rollout time", "seconds", "down", "Time to sample the responses.",
           "Level.",
           "Climbs with the length of the responses, or because something else uses the machine."),
    Metric("time/score", "scoring time", "seconds", "down",
           "Time for rewards, and for the rollout's log-probs and values under actor, reference and critic.",
           "Level.",
           "Climbs, or is the largest of the three: a reward is slow."),
    Metric("time/update", "update time", "seconds", "down", "Time for the optimiser steps.",
           "Level.",
           "Climbs with the length of the responses; a jump says that the micro-batch was halved to fit the memory."),
    Metric("throughput/responses_per_s", "speed", "responses per second", "up", "Responses trained on per second.",
           "Level after the first step.",
           "Falls: responses get longer, or something else uses the machine."),
    Metric("throughput/matmul_share", "of matmul peak", "share of peak", "up",
           "Arithmetic of the step, by formula, over what large matrix products reach here in that time. Small models "
           "and small batches stay low: their time goes into starting operations.",
           "Level; a fifth and more with a model of some size.",
           "Falls during a run, or is a few per cent with a large model: raise the responses per step."),
]

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}


_ACTOR = "it comes with updates of the actor, which begin after train.critic_warmup_steps"
_CRITIC = "it comes with updates of the critic, and all so far were skipped"
COMES_WITH: dict[str, str] = {
    **dict.fromkeys(("policy/approxkl_avg", "policy/clipfrac_avg", "loss/policy_avg", "val/ratio", "grad_norm/actor"),
                    _ACTOR),
    **dict.fromkeys(("loss/value_avg", "val/clipfrac_avg", "grad_norm/critic"), _CRITIC),
}
"""With what those metrics come that are not told of each step of each run."""


def describe(name: str) -> Metric:
    """The metric called `name`; per-reward series (`rewards/<name>/mean|std`) are described on the fly."""
    if name in REGISTRY:
        return REGISTRY[name]
    if name.startswith("rewards/") and name.endswith(("/mean", "/std")):
        reward, _, statistic = name.removeprefix("rewards/").rpartition("/")
        if statistic == "mean":
            return Metric(name, f"{reward} mean", "score per response", "up",
                          f"Mean of the reward “{reward}”, before its weight.",
                          "Climbs, or holds its level while another reward climbs.",
                          "Falls while the reward as a whole climbs: it is paid for by the others.")
        return Metric(name, f"{reward} std", "score per response", "neither",
                      f"Standard deviation of the reward “{reward}”, before its weight.",
                      "Stays well above 0.", "At 0: this reward tells no response from another.")
    return Metric(name, name, "", "neither", "")
