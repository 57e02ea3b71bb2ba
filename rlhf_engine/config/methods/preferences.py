"""What the methods that learn from pairs share: their loss, what they measure and show, and what goes wrong."""

from __future__ import annotations

from typing import Literal

from rlhf_engine.config.methods.base import Condition, Series, Settings, StepMetrics
from rlhf_engine.config.methods.on_policy import mean_of
from rlhf_engine.config.section import Section, setting
from rlhf_engine.metrics import Metric
from rlhf_engine.token_trace import TokenTrace, signed_number

PUSH_UNIT = 100.0
"""Pushes are told in hundredths: those of one token are small."""
PAIR_METRICS = (
    Metric("rewards/accuracies", "pair accuracy", "share of pairs", "up",
           "Pairs whose chosen response has the higher implicit reward, β · (log π − log π_ref); a tie counts half.",
           "Climbs from 0.5, where nothing is learnt yet, to between 0.7 and 0.95.",
           "Stays at 0.5 (nothing is learnt), or goes to 1 at once (the pairs are told apart by something trivial)."),
    Metric("rewards/margins", "pair margin", "", "up",
           "Mean difference of the implicit rewards of chosen and rejected response: β times how much further the "
           "actor has moved towards the one than towards the other.",
           "Climbs from 0 and flattens within a few units.",
           "Climbs without end: the pairs are learnt by heart, and the text breaks (raise algorithm.beta, lower the "
           "learning rate, or stop earlier)."),
    Metric("rewards/chosen", "chosen implicit reward", "", "neither",
           "Mean of β · (log π − log π_ref) of the chosen responses: above 0 they are likelier than they were.",
           "Stays near 0 or rises.",
           "Falls far below 0: what is preferred becomes unlikely too, and only less fast than what is not."),
    Metric("rewards/rejected", "rejected implicit reward", "", "down",
           "Mean of β · (log π − log π_ref) of the rejected responses.",
           "Falls steadily below that of the chosen ones.",
           "Falls as fast as that of the chosen ones: both become unlikely."),
    Metric("logps/chosen", "chosen log-prob", "nats per response", "neither",
           "Mean log-probability of the chosen responses, the sum over their tokens.",
           "About level, or rising.",
           "Falls and keeps falling: probability leaves for texts that are in no pair."),
    Metric("logps/rejected", "rejected log-prob", "nats per response", "neither",
           "Mean log-probability of the rejected responses, the sum over their tokens.",
           "Falls slowly.",
           "Drops by hundreds of nats: the loss has long had what it wants."),
    Metric("logps/chosen_log_ratio", "chosen log-ratio", "nats per response", "neither",
           "Mean of log π − log π_ref of the chosen responses, the sum over their tokens, whatever β is: how much "
           "likelier they are than under the reference.",
           "Stays near 0 or rises.",
           "Falls by tens of nats: what is preferred becomes unlikely, and probability leaves for texts in no pair."),
)  # fmt: skip
HELD_OUT_METRICS = (
    Metric("eval/rewards/accuracies", "held-out pair accuracy", "share of pairs", "up",
           "Pair accuracy on pairs whose prompts are never trained on, every data.evaluate_every steps.",
           "Climbs with the pair accuracy.",
           "Stays behind while the pair accuracy climbs: the pairs are learnt by heart."),
    Metric("eval/rewards/margins", "held-out pair margin", "", "up",
           "Pair margin on pairs whose prompts are never trained on.",
           "Climbs with the pair margin.",
           "Stays at 0: what is learnt does not carry over to other prompts."),
    Metric("eval/pair_loss", "held-out pair loss", "", "down",
           "The loss on pairs whose prompts are never trained on.",
           "Falls with the policy loss.",
           "Turns upwards while the policy loss falls: stop there."),
)  # fmt: skip
TOKEN_SERIES = (
    Series("push", "push", "push", "hundredths of loss per nat: how much the loss of the pair falls as the token gets "
                                   "likelier; above 0 the update makes it so, below 0 less likely"),
    Series("kl", "log-ratio", "log-ratio", "log π − log π_ref, nats: times β, what the token adds to the implicit "
                                           "reward of its response"),
    Series("log_probs", "log p", "log-probability", "of the actor before the update, nats; 0 is certain"),
    Series("reference_log_probs", "ref.", "reference log-probability", "of the frozen model, nats", dispensable=True),
)
TROUBLES = {
    "pair accuracy stays at 0.5": "raise the learning rate; are chosen and rejected responses different at all?",
    "the margin climbs without end": "raise algorithm.beta, lower the learning rate, or stop earlier",
    "log-probs of chosen and rejected both fall": "raise algorithm.beta; lower the learning rate; pairs that differ in "
                                                  "more than a few words suffer less from it",
}
GLOSSARY = {
    "DPO": "Direct preference optimization: make chosen responses likelier than rejected ones, beside the reference.",
    "pair": "Two responses to one prompt, of which one (chosen) is preferred to the other (rejected).",
    "implicit reward": "β · (log π − log π_ref) of a response: the reward that the actor would be the best policy for.",
    "margin": "The implicit reward of the chosen response minus that of the rejected one.",
    "β of DPO": "How dear it is to leave the reference: the lower, the further the actor moves for the same pairs.",
    "IPO": "A loss that wants the margin at a goal of its own rather than as wide as can be (Azar et al. 2024).",
    "label smoothing": "Conservative DPO: the share of pairs that is taken to be the wrong way round.",
}
PAIR_METRIC_NAMES = {
    "loss": "loss/policy_avg", "chosen_reward": "rewards/chosen", "rejected_reward": "rewards/rejected",
    "margin": "rewards/margins", "accuracy": "rewards/accuracies", "chosen_log_prob": "logps/chosen",
    "rejected_log_prob": "logps/rejected", "chosen_log_ratio": "logps/chosen_log_ratio",
}
"""What each field of `maths.preferences.PreferenceLoss` is reported as."""


def _undecided(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    limit, share = config.sentinel.pair_accuracy, mean_of(recent, "rewards/accuracies")
    if limit is None or step < config.sentinel.pair_patience or not share < limit:
        return None
    return (f"after {step} steps the chosen response is preferred in {100 * share:.0f} % of pairs, where guessing "
            "gives 50 %: raise optimizer.learning_rate, or look whether the pairs differ in what should be learnt")


def _margins(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    limit, margin = config.sentinel.pair_margin, mean_of(recent, "rewards/margins")
    if limit is None or not margin > limit:
        return None
    return (f"the mean margin is {margin:.1f}: the pairs have nothing more to teach, and the actor still moves away "
            "from the reference; raise algorithm.beta, lower optimizer.learning_rate, or stop here")


def _displaced(start: StepMetrics, recent: StepMetrics, step: int, config: Settings) -> str | None:
    limit, moved = config.sentinel.chosen_drop, mean_of(recent, "logps/chosen_log_ratio")
    if limit is None or not moved < -limit:
        return None
    return (f"chosen responses are {-moved:.0f} nats less likely than under the reference: probability leaves for "
            "texts that are in no pair; raise algorithm.beta or lower optimizer.learning_rate")


CONDITIONS = (
    Condition("pairs-undecided", _undecided, ("sentinel.pair_accuracy", "sentinel.pair_patience")),
    Condition("margins", _margins, ("sentinel.pair_margin",)),
    Condition("chosen-unlikely", _displaced, ("sentinel.chosen_drop",)),
)


class PreferenceSettings(Section):
    """How a pair becomes a loss."""

    loss: Literal["sigmoid", "ipo", "hinge"] = setting(
        "sigmoid", "sigmoid (DPO: Rafailov et al. 2023), ipo (Azar et al. 2024: the margin has a goal, 1/2) or hinge "
        "(SLiC: Zhao et al. 2023: nothing is learnt beyond a margin of 1)",
    )
    beta: float = setting(0.1, "β: how dear it is to leave the reference; lower moves further for the same pairs (τ of "
                               "ipo)", live=True, gt=0, le=100, label="β")
    label_smoothing: float = setting(
        0.0, "share of pairs taken to be the wrong way round (conservative DPO); of the sigmoid loss alone", live=True,
        ge=0, lt=0.5,
    )
    average_log_probs: bool = setting(
        False, "divide the log-prob of a response by its tokens, so that long ones have no longer lever (TRL does so "
        "for ipo); β is larger then, 2 to 10", label="log-probs per token",
    )

    def require_sound_loss(self) -> None:
        """Raises ValueError for smoothing that the loss has no place for."""
        if self.label_smoothing and self.loss != "sigmoid":
            raise ValueError(f"label_smoothing {self.label_smoothing:g} belongs to loss = sigmoid; with {self.loss} it "
                             "must be 0")

    @property
    def loss_summary(self) -> str:
        """For a model card."""
        smoothed = f", label smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        return f"{self.loss} loss, β {self.beta:g}{smoothed}"


def about_pair(trace: TokenTrace, index: int) -> str | None:
    """What the update does with one token of a response, and why; None where that is not known."""
    whole, pushes = trace.whole, trace.series.get("push", ())
    if not {"chosen", "margins"} <= whole.keys() or index >= len(pushes):  # a file may tell anything
        return None
    if whole["chosen"] == 0:
        return "○ This response is in no pair: nothing is learnt from it."
    push, side = pushes[index], "chosen" if whole["chosen"] > 0 else "rejected"
    sign, verb = (("▲", "is made likelier") if push > 0 else ("▼", "is made less likely") if push < 0
                  else ("○", "is pushed nowhere"))
    why = ""
    if push == 0:
        why = (", for both responses of the pair begin with it" if any(pushes)
               else ", for the pair has nothing to teach: its responses are the same, or its margin is wide enough")
    elif (push > 0) != (whole["chosen"] > 0):
        why = ", for the margin is beyond what the loss aims at"
    return (f"{sign} A token of the {side} response {verb}{why}: push {signed_number(push)}. Margin of the pair "
            f"{signed_number(whole['margins'])}.")
