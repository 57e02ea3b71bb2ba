"""The registry of metrics: name, unit, what it means, which way is good, and how a good and a bad curve look.

Names are those that practitioners know from the literature and the common libraries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["up", "down", "neither"]

PER_STEP = "per step"
"""The unit of what is counted anew in each step."""
STEPS_AVERAGED = 5
"""Steps whose mean tells how good a checkpoint is: one rollout is noisy, and may be lucky."""


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
    Metric("objective/scores", "score", "per response", "up",
           "Mean score of the step's responses: what the rewards give, before the KL penalty.",
           "Climbs within the first tens of steps, then flattens.",
           "Stays flat (nothing is learnt), or keeps climbing while KL runs away (reward hacking)."),
    Metric("objective/scores_std", "score std", "per response", "neither",
           "Standard deviation of the step's scores; at 0 all responses have the same score and nothing can be learnt.",
           "Stays well above 0, and shrinks slowly as more responses score high.",
           "Falls to 0: every response has the same score, and nothing is left to learn."),
    Metric("objective/kl", "KL", "nats per response", "neither",
           "KL from the reference: the step's mean of a response's log-ratio, the sum over its tokens of "
           "log π − log π_ref. Some is the price of learning; far over the target the text breaks.",
           "Rises with the score to its target, or a few nats beyond, and stays there.",
           "Runs away upwards (raise the KL coefficient, lower the learning rate), or falls far below 0 (tokens are "
           "sampled and scored with different probabilities)."),
    Metric("objective/rlhf_reward", "RLHF objective", "score per response", "up",
           "Score − β · KL (the score before any normalization): what methods with the KL in their reward maximize; "
           "GRPO has it in its loss, in other units.",
           "Climbs and flattens a little below the score.",
           "Falls while the score climbs: the KL penalty grows faster than the score."),
    Metric("objective/non_score_reward", "KL penalty", "score per response", "neither",
           "The part of the reward that is not score: −β · KL.",
           "Falls a little below 0 and stays small beside the score.",
           "As large as the score itself: the penalty decides what is learnt."),
    Metric("objective/entropy", "sampled entropy (−log p)", "nats per response", "neither",
           "Mean over responses of −Σ log π of the sampled tokens; a steep fall means that responses become alike.",
           "Falls slowly as the actor becomes more certain.",
           "Drops steeply towards 0: the actor gives the same response every time."),
    Metric("objective/ref_logprob", "ref. log-prob", "nats per token", "neither",
           "Mean log π_ref of the sampled tokens: how likely the responses are under the reference. A score that "
           "rises while this falls is a sign of reward hacking.",
           "Stays about level, or falls by a few tenths of a nat.",
           "Falls step after step while the score rises: the text becomes unlikely under the reference."),
    Metric("sampling/logprob_gap", "log-prob gap", "nats per token", "down",
           "Mean absolute difference between a token's log-prob as sampled and as recomputed: below 1e-5 in "
           "float32, some hundredths in half precision. Ratio and KL are off by as much.",
           "Flat, near 0.",
           "Climbs, or stays over 0.1: tokens do not come from the distribution that is trained (top_k or top_p, a "
           "rounded cache); algorithm.importance_sampling_cap corrects for some of it."),
    Metric("policy/approxkl_avg", "approx. KL (old‖new)", "nats per action", "neither",
           "KL between the policy that sampled (old) and the actor (new) by the k3 estimator, measured before each "
           "optimizer step and averaged: with one optimizer step a rollout it is always 0. An action is a token, or "
           "the whole response at algorithm.level sequence. Above 0.05 per token is a large step.",
           "Between 0.001 and 0.05 per token, if there are several optimizer steps a rollout.",
           "Spikes over 0.05 (the learning rate is high), or stays at 0 with several optimizer steps (nothing moves)."),
    Metric("policy/clipfrac_avg", "clip fraction", "share of actions", "down",
           "Actions (tokens; whole responses at algorithm.level sequence) whose ratio was clipped, averaged over the "
           "step's optimizer steps; 0 in the first of them. Above 0.3 the learning rate is high.",
           "Stays between 0 and 0.2.",
           "Stays over 0.3: the learning rate is too high, or there are too many epochs over one rollout."),
    Metric("policy/entropy_avg", "entropy", "nats per token", "neither",
           "Mean entropy of the actor's next-token distribution.",
           "Falls slowly and levels off well above 0.",
           "Collapses towards 0 (all responses become one), or climbs steadily (the text turns to noise)."),
    Metric("loss/policy_avg", "policy loss", "", "neither",
           "The actor's loss, mean over the step's optimizer steps. A clipped surrogate is near 0 while advantages are "
           "whitened; that of DPO begins at log 2 = 0.69.",
           "A surrogate stays small and ragged around 0 and need not fall; that of pairs falls.",
           "Large, one-sided or with growing spikes: optimizer steps are too large."),
    Metric("loss/value_avg", "value loss", "score²", "down",
           "Half the squared error of the critic; should fall, then follow the variance of the score.",
           "Falls quickly in the first steps, then stays low.",
           "Climbs and stays up: the critic cannot follow (lower its learning rate, or give it warm-up steps)."),
    Metric("val/clipfrac_avg", "value clip fraction", "share of actions", "down",
           "Values (one a token, or one a response at algorithm.level sequence) that moved over "
           "algorithm.value_clip_range since their rollout and are clipped, averaged over the step's optimizer steps.",
           "Falls to a few per cent after the first steps.",
           "Stays high: the clip range, which is in units of score, is too small for the critic."),
    Metric("val/ratio", "ratio", "", "neither",
           "Mean of π_new / π_old over actions and optimizer steps; near 1. With one optimizer step a rollout it is 1.",
           "Within a few per cent of 1.",
           "Drifts away from 1, or spikes: the policy moves too far within one step."),
    Metric("val/explained_variance", "explained variance", "share", "up",
           "1 − Var(return − value) / Var(return): at 1 the critic predicts the returns exactly, at 0 not at all.",
           "Climbs from about 0 towards 0.5 and more.",
           "Stays at 0 or below it: the critic is no better than a constant, and advantages are mostly noise."),
    Metric("policy/updates", "optimizer steps", PER_STEP, "neither",
           "Optimizer steps of the actor in this step: fewer when a limit of KL stopped it early, or "
           "some were skipped.",
           "Level at epochs times minibatches, with a dip now and then.",
           "Falls to one or two: every step is stopped early, so the learning rate is too high for its limit of KL."),
    Metric("train/skipped_updates", "skipped updates", PER_STEP, "down",
           "Optimizer steps that were skipped because loss or gradient was not finite.",
           "Flat at 0.",
           "Above 0, most of all repeatedly: gradients overflow; lower the learning rate."),
    Metric("lr", "learning rate", "", "neither",
           "That of optimizer.learning_rate after warm-up and decay.",
           "Follows the schedule: a rise while it warms up, then level or falling.",
           "0, or not what was set: nothing is learnt, or more than was meant."),
    Metric("kl_coef", "KL coef β", "score per nat", "neither", "Weight of the KL penalty.",
           "Level; with a controller, settles once KL is at its target.",
           "Grows without end: KL stays over its target at any coefficient."),
    Metric("grad_norm/actor", "actor grad norm", "", "neither", "Gradient norm of the actor before clipping.",
           "Ragged, in the same range all along.",
           "Grows over many steps or spikes tenfold: divergence shows here first."),
    Metric("reward", "score (as in GRPO)", "per response", "up",
           "Mean score of the step's responses: objective/scores, by the name that GRPO's users know.",
           "Climbs, then flattens.", "Flat: nothing is learnt."),
    Metric("reward_std", "score std (as in GRPO)", "per response", "neither",
           "Standard deviation of all scores of the step: objective/scores_std, by the name that GRPO's users know.",
           "Stays well above 0.", "Falls to 0: nothing is left to learn."),
    Metric("frac_reward_zero_std", "groups of equal scores", "share of groups", "down",
           "Groups whose responses all have the same score: nothing is learnt from them.",
           "Near 0.", "Climbs towards 1: the reward cannot tell responses apart, or all are alike."),
    Metric("kl", "KL in the loss (k3)", "nats per token", "neither",
           "KL from the reference as the loss penalizes it: the k3 estimator, mean over tokens.",
           "Rises slowly, then holds.", "Runs away upwards: raise the KL coefficient."),
    Metric("entropy", "next-token entropy", "nats per token", "neither",
           "Mean entropy of the actor's next-token distribution, by the name that TRL's users know.",
           "Falls slowly.", "Falls to 0: every response becomes the same."),
    Metric("loss", "loss", "", "down", "What is minimized, mean over the step's optimizer steps.",
           "Falls fast at first, then slowly.", "Level from the start (nothing is learnt), or climbing."),
    Metric("perplexity", "perplexity", "", "down",
           "The exponential of the loss: among how many equally likely tokens the model chooses, so to speak.",
           "Falls with the loss.", "Grows: optimizer steps are too large."),
    Metric("mean_token_accuracy", "token accuracy", "share of tokens", "up",
           "Tokens that are learned which the model held likeliest.", "Climbs as the loss falls.",
           "Goes to 1: the texts are learnt by heart."),
    Metric("eval/loss", "held-out loss", "nats", "down",
           "The loss on rows that are never trained on, all in one mean, every data.evaluate_every steps: nats per "
           "token of texts, and per pair of pairs.",
           "Falls with the loss, and flattens a little above it.",
           "Rises while the loss falls: the texts are learnt by heart."),
    Metric("eval/best_loss", "lowest held-out loss", "nats", "down",
           "The lowest held-out loss so far.", "Falls together with the held-out loss.",
           "Level under a held-out loss that rises: the best checkpoint is an earlier one."),
    Metric("eval/perplexity", "held-out perplexity", "", "down", "The exponential of the held-out loss.",
           "Falls with the held-out loss.", "Rises while the perplexity falls: the texts are learnt by heart."),
    Metric("eval/mean_token_accuracy", "held-out accuracy", "share of tokens", "up",
           "Tokens of the held-out rows that the model held likeliest.", "Climbs, then flattens.",
           "Falls while the token accuracy climbs: the texts are learnt by heart."),
    Metric("clip_ratio/low_mean", "clipped below", "share of tokens", "neither",
           "Tokens of worse responses whose ratio fell below 1 − ε, and which are pushed no further.",
           "A few percent.", "A quarter or more: optimizer steps are too large."),
    Metric("clip_ratio/high_mean", "clipped above", "share of tokens", "neither",
           "Tokens of better responses whose ratio rose above 1 + ε, and which are pushed no further.",
           "A few percent.", "A quarter or more: optimizer steps are too large."),
    Metric("grad_norm/critic", "critic grad norm", "", "neither", "Gradient norm of the critic before clipping.",
           "High at first, then falls with the value loss.",
           "Grows with the value loss: the critic's learning rate is too high."),
    Metric("completions/mean_length", "length", "tokens", "neither", "Mean response length, the end token included.",
           "About level, or moving only as far as the reward asks for.",
           "Goes to the maximum, or to a few tokens: length is being used to gain score."),
    Metric("completions/score_length_corr", "score against length", "correlation", "neither",
           "Pearson's correlation of a response's score with its length in tokens, over the step's responses; not told "
           "where all have one score or one length.",
           "Near 0, or what the reward is meant to say of length.",
           "Climbs towards 1, or is high from the start: the score pays for length, and length will be learnt."),
    Metric("completions/clipped_ratio", "truncated (no EOS)", "share of responses", "neither",
           "Responses that reached max_new_tokens without an end token (EOS); not known for a model that has none.",
           "Level or falling.",
           "Climbs to 1: responses no longer end with EOS."),
    Metric("completions/distinct_2", "distinct-2", "share of bigrams", "up",
           "Different word pairs over all word pairs of the step; a fall means that responses repeat themselves.",
           "Stays near its start, or falls slowly.",
           "Falls while the score climbs: the same liked words are repeated."),
    Metric("eval/scores", "held-out score", "per response", "up",
           "Mean score of the responses to prompts that are never trained on (data.held_out), every "
           "data.evaluate_every steps from the same random numbers.",
           "Climbs with the score of the prompts that are trained on.",
           "Stays behind while the score climbs: the prompts are learnt by heart."),
    Metric("eval/reference_scores", "held-out reference", "per response", "neither",
           "Mean score of the reference's responses to the held-out prompts: what the held-out score began at.",
           "A level line under the held-out score.",
           "Above the held-out score: the run has made other prompts worse."),
    Metric("eval/kl", "held-out KL", "nats per response", "neither",
           "KL from the reference on the held-out prompts, estimated as on those that are trained on.",
           "Near the KL of the prompts that are trained on.",
           "Far from it: other prompts are answered quite differently."),
    Metric("eval/rlhf_reward", "held-out objective", "score per response", "up",
           "Score − β · KL of the answers to the held-out prompts, by the β of that step.",
           "Climbs with the RLHF objective.",
           "Stays behind while the RLHF objective climbs: the prompts are learnt by heart."),
    Metric("eval/mean_length", "held-out length", "tokens", "neither",
           "Mean length of the responses to the held-out prompts.",
           "Near the length of the responses in training.",
           "Far from it: other prompts are answered quite differently."),
    Metric("num_tokens", "tokens", "tokens", "neither", "Response tokens trained on since the start.",
           "A straight line.",
           "Bends: responses get longer or shorter during the run."),
    Metric("time/rollout", "rollout time", "seconds", "down", "Time to sample the responses.",
           "Level.",
           "Climbs with the length of the responses, or because something else uses the machine."),
    Metric("time/score", "scoring time", "seconds", "down",
           "Time for rewards, and for evaluating the rollout: log-probs, and whatever else is learned from.",
           "Level.",
           "Climbs, or is the largest of the three: a reward is slow."),
    Metric("time/update", "update time", "seconds", "down", "Time for the optimizer steps.",
           "Level.",
           "Climbs with the length of the responses; a jump means that the micro-batch was halved to fit into memory."),
    Metric("throughput/responses_per_s", "throughput", "responses per second", "up", "Responses trained on per second.",
           "Level after the first step.",
           "Falls: responses get longer, or something else uses the machine."),
    Metric("throughput/matmul_share", "FLOP/s utilization (MFU)", "share of peak", "up",
           "FLOP/s of the step, by formula, over the peak that large matrix products reach on this machine. Small "
           "models and small batches stay low: their time goes into launching operations.",
           "Level; a fifth and more with a model of some size.",
           "Falls during a run, or is a few per cent with a large model: raise the responses per step."),
]

REGISTRY: dict[str, Metric] = {metric.name: metric for metric in _ALL}
"""Every metric that is known by name, those of methods from other packages too once these are imported."""


def register(metric: Metric) -> None:
    """Take in a method's own metric. Raises ValueError where the name means another one already."""
    if REGISTRY.setdefault(metric.name, metric) != metric:
        raise ValueError(f"the metric {metric.name} is described already, as “{REGISTRY[metric.name].title}”")


def named(*names: str) -> tuple[Metric, ...]:
    """The metrics of these names, which must be known."""
    return tuple(REGISTRY[name] for name in names)


_HELD_OUT = "it needs held-out {} (data.held_out, data.held_out_share), and comes every data.evaluate_every steps"
OF_HELD_OUT = ("eval/scores", "eval/reference_scores", "eval/kl", "eval/mean_length")
"""Metrics of the answers to prompts that are never trained on."""
OF_HELD_OUT_ROWS = ("eval/loss", "eval/best_loss", "eval/perplexity", "eval/mean_token_accuracy")
"""Metrics of texts that are never trained on."""
COMES_WITH: dict[str, str] = (dict.fromkeys((*OF_HELD_OUT, "eval/rlhf_reward"), _HELD_OUT.format("prompts"))
                              | dict.fromkeys(OF_HELD_OUT_ROWS, _HELD_OUT.format("rows"))
                              | {"completions/score_length_corr": "it needs responses whose scores and lengths differ"})
"""What those metrics of every method need that are not reported for each step; a method says so of its own."""


_FACTS: dict[str, tuple[str, str, Better, str, str, str]] = {
    "mean": ("mean", "score per response", "up", "Mean score by the reward “{}”, before its weight.",
             "Climbs, or holds its level while another reward climbs.",
             "Falls while the whole score climbs: the other rewards outweigh it."),
    "std": ("std", "score per response", "neither",
            "Standard deviation of the scores by the reward “{}”, before its weight.",
            "Stays well above 0.", "At 0: this reward gives every response the same score."),
    "accuracy": ("accuracy", "share of responses", "up", "Responses with the right answer, by the reward “{}”.",
                 "Climbs, then flattens.",
                 "Stays at 0: no try is ever right, so nothing is learnt; take easier problems, or show it how by SFT "
                 "first."),
    "no_answer": ("no answer", "share of responses", "down", "Responses in which the reward “{}” finds no answer.",
                  "Falls towards 0 in the first steps.",
                  "Climbs, or stays high: responses are cut off before their answer (sampling.max_new_tokens), or "
                  "answers are written otherwise than `extract` reads them."),
    "deviation": ("disagreement", "score per response", "down", "Standard deviation of what the members of the reward "
                  "“{}” say of a response, mean over responses.", "Level.",
                  "Climbs while the score climbs: responses go where the members learnt nothing (reward hacking)."),
    "truncated": ("cut off", "share of responses", "down", "Responses that the classifier of the reward “{}” does not "
                  "read whole, for they are too long with their prompts: their beginning is left out.", "At 0.",
                  "Climbs, or stays high: only the end is judged; raise max_tokens, or take a classifier with a longer "
                  "context."),
    "match_rate": ("match rate", "share of responses", "neither", "Responses that the pattern of the reward “{}” "
                   "matches.", "Moves the way the reward pays for.",
                   "At 0 or 1 from the start: the pattern tells no response from another."),
}
"""What a reward tells of a step, by the end of the metric's name: title, unit, direction, help, healthy, warning."""


def describe(name: str) -> Metric:
    """The metric called `name`; per-reward series (`rewards/<name>/mean|std|…`) are described on the fly."""
    if name in REGISTRY:
        return REGISTRY[name]
    reward, _, fact = name.removeprefix("rewards/").rpartition("/")
    if name.startswith("rewards/") and fact in _FACTS:
        title, unit, direction, help, healthy, warning = _FACTS[fact]
        return Metric(name, f"{reward} {title}", unit, direction, help.format(reward), healthy, warning)
    return Metric(name, name, "", "neither", "")
