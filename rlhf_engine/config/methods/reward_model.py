"""A reward model, described: it learns from pairs that somebody has judged to give a response a score."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from rlhf_engine.config.methods.base import AlgorithmConfig, Condition, Needs, Series, Settings, StepMetrics
from rlhf_engine.config.methods.on_policy import mean_of
from rlhf_engine.config.section import COUNT, MOST_LETTERS, setting
from rlhf_engine.metrics import Metric, named
from rlhf_engine.token_trace import TokenTrace, signed_number

MOST_MEMBERS = 16
CALIBRATION_BINS = ((50, 60), (60, 70), (70, 80), (80, 90), (90, 100))
"""Of the predicted probability of the response that is favoured, in %."""
CALIBRATION_ERROR = "eval/calibration_error"


def calibration_metric(low: float) -> str:
    """The metric of a bin of predicted probability that begins at `low`."""
    return f"eval/calibration/{round(100 * low)}"


def calibration_pairs_metric(low: float) -> str:
    """The metric that says of how many pairs `calibration_metric(low)` is the share."""
    return f"eval/calibration_pairs/{round(100 * low)}"


def _of_bin(low: int, high: int) -> Metric:
    return Metric(
        calibration_metric(low / 100), f"right when {low}–{high} % sure", "share of pairs", "neither",
        f"Of the held-out pairs whose favoured response is given a probability from {low} to {high} %: the share in "
        "which it was preferred. Where probabilities can be believed it is what they say.",
        f"Between {low / 100:g} and {high / 100:g}.", f"Far below {low / 100:g}: the model is surer than it is right.")


def _pairs_of_bin(low: int, high: int) -> Metric:
    return Metric(
        calibration_pairs_metric(low / 100), f"pairs {low}–{high} % sure", "pairs", "neither",
        f"Held-out pairs whose favoured response is given a probability from {low} to {high} %.",
        "Most pairs far from 50 % once the model tells them apart.", "A handful: their share says little.")


_METRICS = (
    Metric("accuracy", "pairs told apart", "share of pairs", "up",
           "Pairs whose chosen response has the higher score, before the update; ties are not counted.",
           "Climbs from 0.5, where nothing is learnt yet, to between 0.7 and 0.95.",
           "Stays at 0.5 (nothing is learnt), or goes to 1 (the pairs are learnt by heart, or differ in something "
           "trivial)."),
    Metric("margin", "score margin", "raw score", "up",
           "Mean difference of the scores of chosen and rejected response: the log-odds that the model gives.",
           "Climbs from 0 and flattens within a few units.",
           "Climbs without end: the pairs are learnt by heart."),
    Metric("mean_reward", "mean score", "raw score", "neither",
           "Mean score of all responses of the step, before centring and scaling: nothing but "
           "algorithm.center_coefficient holds it anywhere.",
           "Wanders about 0.", "Drifts far away: algorithm.center_coefficient = 0.01 holds it."),
    Metric("ensemble/deviation", "disagreement", "raw score", "neither",
           "Mean standard deviation, over the members, of the held-out pairs' score margins.",
           "Small beside the margin.", "As large as the margin: the members have learnt different things."),
)  # fmt: skip
_HELD_OUT = (
    *named("eval/loss", "eval/best_loss"),
    Metric("eval/accuracy", "held-out told apart", "share of pairs", "up",
           "Pair accuracy on pairs whose prompts are never trained on, every data.evaluate_every steps; of an ensemble "
           "by the mean of its members' scores.",
           "Climbs with the pair accuracy.", "Stays behind while it climbs: the pairs are learnt by heart."),
    Metric("eval/accuracy_low", "accuracy, at least", "share of pairs", "up",
           "Lower end of the 95 % interval of the held-out pair accuracy, over pairs.", "Clears 0.5.",
           "Below 0.5: it may all be chance; hold out more pairs (data.held_out_share, data.evaluate_most)."),
    Metric("eval/accuracy_high", "accuracy, at most", "share of pairs", "up",
           "Upper end of the 95 % interval of the held-out pair accuracy, over pairs.", "Climbs.", "Falls."),
    Metric("eval/margin", "held-out margin", "raw score", "up",
           "Score margin on pairs whose prompts are never trained on.", "Climbs with the score margin.",
           "Stays at 0: what is learnt does not carry over."),
    Metric(CALIBRATION_ERROR, "calibration error", "share", "down",
           "Expected calibration error on held-out pairs: how far, on the mean, the share of favoured responses that "
           "were preferred is from the probability that they were given.",
           "Below 0.1.", "Climbs: the model grows surer than it is right; stop earlier."),
    *(_of_bin(*bounds) for bounds in CALIBRATION_BINS),
    *(_pairs_of_bin(*bounds) for bounds in CALIBRATION_BINS),
)  # fmt: skip


def _undecided(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    limit, share = config.sentinel.pair_accuracy, mean_of(recent, "accuracy")
    if limit is None or step < config.sentinel.pair_patience or not share < limit:
        return None
    return (f"after {step} steps the chosen response scores higher in {100 * share:.0f} % of pairs, where guessing "
            "gives 50 %: raise optimizer.learning_rate, or look whether the pairs differ in what should be learnt")


def _overfit(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    rise = config.sentinel.held_out_rise
    losses = [(found["eval/loss"], found["eval/best_loss"]) for found in recent
              if {"eval/loss", "eval/best_loss"} <= found.keys()]
    if rise is None or not losses or not losses[-1][0] - losses[-1][1] > rise:
        return None
    now, best = losses[-1]
    if not mean_of(recent, "loss") < mean_of(start, "loss"):
        return None
    return (f"the held-out loss rose from {best:.3f} to {now:.3f} nats per pair while the loss falls: the pairs are "
            "learnt by heart; the best checkpoint is an earlier one, algorithm.patience ends a run there, and more "
            "pairs, a lower optimizer.learning_rate or lora.rank help")


class RewardModelConfig(AlgorithmConfig):
    """A reward model (Ouyang et al. 2022): Bradley-Terry on scores of a linear head."""

    title: ClassVar = "Reward model"
    implementation: ClassVar = "rlhf_engine.algorithms.reward_model:RewardModel"
    explanation: ClassVar = """\
A step takes some pairs: two responses to one prompt, of which somebody prefers one. A head on the base with its own
adapter reads a score at the last token of each, and the loss widens the gap between that of the chosen and that of the
rejected one, the less the wider it is already (Bradley-Terry: the gap is the log-odds that the one is preferred). Ties
pull their scores together. Nothing is sampled to learn from. Scores mean something only beside each other, so that the
reference answers some of the prompts once, and scores are told from the mean of its answers on, in their standard
deviations. An ensemble learns several such models, each from pairs drawn anew with replacement: where they disagree,
none of them knows. Another run rewards by it with a [[rewards]] of kind "preference"."""
    metrics: ClassVar = (
        *named("loss"), *_METRICS[:3],
        *named("train/skipped_updates", "lr"),
        Metric("grad_norm/reward", "grad norm", "", "neither", "Gradient norm before clipping, mean over the members.",
               "Ragged, in the same range all along.", "Grows over many steps or spikes tenfold."),
        *named("completions/mean_length", "num_tokens", "time/update", "throughput/responses_per_s",
               "throughput/matmul_share"),
    )
    held_out_metrics: ClassVar = (*_HELD_OUT, _METRICS[3])
    charts: ClassVar = ("accuracy", "loss", "eval/accuracy", "margin")
    conditions: ClassVar = (
        Condition("pairs-undecided", _undecided, ("sentinel.pair_accuracy", "sentinel.pair_patience")),
        Condition("overfit", _overfit, ("sentinel.held_out_rise",), from_start=True),
    )
    token_series: ClassVar = (
        Series("added", "adds", "added", "what the token adds to the score: that after it less that before it"),
        Series("score", "score", "score so far", "what the head says once the token stands; the last one counts"),
    )
    comes_with: ClassVar = {
        **dict.fromkeys(("loss", "accuracy", "margin", "mean_reward", "grad_norm/reward"),
                        "it needs optimizer steps, and all so far were skipped"),
        **{metric.name: "it needs held-out pairs (data.held_out_share), and comes every data.evaluate_every steps"
           for metric in (*_HELD_OUT, _METRICS[3])},
    }
    troubles: ClassVar = {
        "pair accuracy stays at 0.5": "raise the learning rate; are chosen and rejected responses different at all?",
        "the held-out loss rises": "the pairs are learnt by heart: fewer steps, algorithm.patience, more pairs",
        "it likes long answers": "look whether your pairs do (rlhf-tui labels show): a reward model learns that first",
    }
    glossary: ClassVar = {
        "reward model": "A model that gives a response a score, learnt from what people prefer.",
        "Bradley-Terry": "P(one is preferred) = σ(difference of scores).",
        "raw score": "What the head says. It is told as (raw − center) / scale, measured on the reference's answers.",
        "calibration": "Whether responses that are given 80 % are preferred in 80 % of pairs.",
        "ensemble": "Several reward models of the same pairs; their mean, their lowest score, or their mean less their "
                    "disagreement rewards.",
    }
    best_metric: ClassVar = "accuracy"
    best_held_out_metric: ClassVar = "eval/loss"
    basic_settings: ClassVar = (
        "data.source", "optimizer.learning_rate", "algorithm.pairs_per_step", "train.steps", "algorithm.members",
        "algorithm.patience", "data.held_out_share",
    )
    unused: ClassVar = ("kl.", "rewards.", "probe.")
    scores_texts: ClassVar = True
    learns_ties: ClassVar = True
    append_end: ClassVar = False
    """Rewards see texts, and not whether they ended: so does what learns to give them."""

    kind: Literal["reward_model"] = "reward_model"
    pairs_per_step: int = setting(16, "pairs in one step, which is one optimizer step", unit="pairs", ge=1, le=65536,
                                  label="pairs/step")
    reads: Literal["last", "mean"] = setting(
        "last", "what a score is made of: what the head says at the last token, as sequence classifiers do, or the "
        "mean of what it says at each token of the response, which small models learn from fewer pairs; a mean "
        "cannot be exported as a classifier", label="score read at")
    members: int = setting(1, "models that learn, each with an adapter, a head and draws of pairs of its own: an "
                              "ensemble, whose disagreement tells what it does not know", unit="models", ge=1,
                           le=MOST_MEMBERS)
    resample: bool = setting(
        True, "draw the pairs of each member of an ensemble with replacement, so that members differ where pairs tell "
        "little; off: all learn from all pairs, in orders of their own, and each is better", label="resample pairs")
    patience: int | None = setting(
        None, "end the run when the held-out loss was not below its lowest so many evaluations in a row; none: never",
        unit="evaluations", live=True, ge=1, le=COUNT)
    margin: float = setting(0.0, "by how much the chosen response should score higher (raw); with a margin_column, of "
                                 "pairs that say nothing there", unit="raw score", live=True, ge=0, le=100)
    margin_column: str | None = setting(
        None, "column of the data with the margin of each pair, for judgements that say by how much", min_length=1,
        max_length=MOST_LETTERS, label="margin column")
    label_smoothing: float = setting(0.0, "share of pairs taken to be the wrong way round", live=True, ge=0, lt=0.5)
    center_coefficient: float = setting(
        0.0, "weight of (sum of both scores)² in the loss, which keeps raw scores around 0; 0 is off", live=True, ge=0,
        le=10, label="center coefficient")
    reference_samples: int = setting(
        64, "answers of the reference on which scores are centred and scaled; sampled once, to the pairs' prompts",
        unit="responses", ge=2, le=65536, label="reference samples")
    max_length: int | None = setting(
        None, "tokens that a response may have with its prompt; pairs with longer ones are skipped, whole; none: what "
        "the model's context holds", unit="tokens", ge=2, le=COUNT, label="longest pair")

    @property
    def needs(self) -> Needs:  # type: ignore[override]
        return Needs(adapters=tuple(self.adapter_heads.values()), heads=tuple(self.adapter_heads.items()),
                     head_bias=False, batch="pairs", rewards=False)

    @property
    def adapter_heads(self) -> dict[str, str]:
        """The adapter of each head, a member each."""
        if self.members == 1:
            return {"score": "reward"}
        return {f"score_{member}": f"reward_{member}" for member in range(1, self.members + 1)}

    @property
    def rows_per_step(self) -> int:
        return self.pairs_per_step

    @property
    def longest_pair(self) -> int | None:
        return self.max_length or COUNT

    def advice(self, config: Settings) -> list[str]:
        found = []
        if self.patience is not None and not (config.data.holds_out and config.data.evaluate_every):
            found.append("algorithm.patience waits for held-out pairs, and there are none: data.held_out_share = 0.1 "
                         "would hold some out")
        return found

    def summary(self, config: Settings) -> str:
        models = f", ensemble of {self.members}" if self.members > 1 else ""
        return f"reward model (Bradley-Terry), {self.pairs_per_step} pairs a step{models}"

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        added = trace.series.get("added", ())
        if index >= len(added):
            return token
        sign = "▲" if added[index] > 0 else "▼" if added[index] < 0 else "○"
        whole, said = trace.whole, f"{sign} {token} adds {signed_number(added[index])} to the score"
        if len(trace.series.get("score", ())) > index:
            said += f", which is {signed_number(trace.series['score'][index])} once it stands"
        if {"chosen", "margin"} <= whole.keys():
            side = "chosen" if whole["chosen"] > 0 else "rejected" if whole["chosen"] < 0 else "tied"
            said += f". The {side} response of its pair, whose gap is {signed_number(whole['margin'])}"
        return f"{said}."

    def require_sound_numbers(self, numbers: Mapping[str, Any]) -> None:
        for name in ("center", "scale"):
            values = numbers.get(name, [0.0] * self.members)
            if not isinstance(values, list) or len(values) != self.members or not all(
                    type(value) in (int, float) and math.isfinite(value) for value in values):
                raise ValueError(f"{name}: {str(values)[:60]} are not {self.members} numbers, one a member")
            if name == "scale" and "scale" in numbers and not all(value > 0 for value in values):
                raise ValueError(f"scale: {str(values)[:60]} are not all above 0")
        kept = numbers.get("reference_answers", [])
        if not isinstance(kept, list) or not all(isinstance(pair, list) and [type(text) for text in pair] == [str, str]
                                                 for pair in kept):
            raise ValueError("reference_answers are no pairs of texts")
        stale = numbers.get("evaluations_without_gain", 0)
        if type(stale) is not int or stale < 0:
            raise ValueError(f"evaluations_without_gain: {str(stale)[:60]} is no whole number from 0")
