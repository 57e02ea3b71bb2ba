"""What there is to say of one token of a response: its quantities, their bars and colours, and sentences. Pure.

Colours diverge from 0: above it the theme's bluish green, below it vermilion and italic, so that the sign shows without
colour too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_engine.events import Sample, TokenTrace
from rlhf_tui.widgets.figures import minus

STRENGTHS = (0, 10, 20, 30, 40, 50)
"""How much of the colour is laid behind a token, per cent: the more, the further its value is from 0."""
END, PART = "⟨end⟩", "⟨part⟩"



@dataclass(frozen=True)
class Quantity:
    """A number of each token: its field in the trace, a heading for a narrow column, a name, and what it says."""

    field: str
    heading: str
    name: str
    meaning: str
    per_action: bool = False
    dispensable: bool = False


QUANTITIES = (
    Quantity("advantages", "adv.", "advantage", "above 0 the update makes the token likelier, below 0 less likely",
             per_action=True),
    Quantity("rewards", "reward", "reward", "−β · log-ratio of the token; the last token gets the score as well",
             per_action=True),
    Quantity("values", "value", "value", "the return that the critic predicted here, before the update",
             per_action=True),
    Quantity("returns", "return", "return", "the rewards from here on: what the critic learns to predict",
             per_action=True, dispensable=True),
    Quantity("kl", "log-ratio", "log-ratio", "log π − log π_ref, nats: its mean over samples is the KL"),
    Quantity("log_probs", "log p", "log-probability", "of the actor that sampled it, nats; 0 is certain"),
    Quantity("reference_log_probs", "ref.", "reference log-probability", "of the frozen model, nats", dispensable=True),
)


def quantities(trace: TokenTrace) -> list[Quantity]:
    """Those that the trace has one of for each token: at sequence level reward, value and advantage are not among
    them."""
    return [item for item in QUANTITIES if not (item.per_action and trace.sequence_level)]


def largest(values: Sequence[float]) -> float:
    """The size that a full bar and the strongest colour stand for; never 0."""
    return max((abs(value) for value in values if math.isfinite(value)), default=0.0) or 1.0


def heat(value: float, most: float, *, ansi: bool = False) -> str:
    """The style behind a token of this value.

    ansi: the terminal's own colours cannot be mixed, so weak ones get none, and only some of them can be read upon.
    """
    if math.isnan(value) or value == 0:
        return ""
    level = min(len(STRENGTHS) - 1, math.ceil(min(1.0, abs(value) / most) * (len(STRENGTHS) - 1)))
    if ansi and level < 3:
        return "italic" if value < 0 else ""
    if ansi:
        return "italic ansi_bright_white on ansi_red" if value < 0 else "ansi_black on ansi_green"
    return f"italic on $error {STRENGTHS[level]}%" if value < 0 else f"on $success {STRENGTHS[level]}%"


def number(value: float) -> str:
    """A value in at most six cells, signed."""
    if not math.isfinite(value):
        return "?" if math.isnan(value) else "∞" if value > 0 else "−∞"
    text = f"{value:+.2f}" if abs(value) < 99.995 else f"{value:+.0f}" if abs(value) < 99_999 else f"{value:+.0e}"
    return minus("0.00" if float(text) == 0 else text)


def token_label(sample: Sample, trace: TokenTrace, index: int) -> str:
    """A token as the table names it: spaces as dots, and a name for what adds no text."""
    text = trace.texts[index]
    if text:
        return text.replace(" ", "·").replace("\n", "↵")
    return END if sample.finished and index == len(trace.texts) - 1 else PART


def percent(log_prob: float) -> str:
    """A log-probability as per cent."""
    if math.isnan(log_prob):
        return "?"
    share = math.exp(min(0.0, log_prob)) * 100
    return f"{share:.0f} %" if share >= 10 else f"{share:.1f} %" if share >= 0.1 else "< 0.1 %"


def about_token(sample: Sample, trace: TokenTrace, index: int) -> str:
    """Why the update pushes this token where it does, in sentences; what it does first."""
    if not trace.texts:
        return "The response has no token."
    name, kl = token_label(sample, trace, index), trace.kl[index]
    cost = -trace.kl_coef * kl
    chance = (f"the actor gave it {percent(trace.log_probs[index])}, the reference "
              f"{percent(trace.reference_log_probs[index])}: log-ratio {number(kl)} nats, KL penalty "
              f"{number(cost)} (β {trace.kl_coef:g})")
    if trace.sequence_level:
        return f"{about_response(trace)} {name}: {chance}."
    said = _push(name, trace, index, "return")
    if index == len(trace.texts) - 1:
        reward = trace.rewards[index]
        chance += f"; with the score of {number(reward - cost)} a reward of {number(reward)}"
    return f"{said} {chance[0].upper()}{chance[1:]}."


def about_response(trace: TokenTrace) -> str:
    """At sequence level: the one reward, value and advantage of the whole response."""
    return _push("The whole response, one action,", trace, 0, "reward (score − β · log-ratio)")


def _push(what: str, trace: TokenTrace, index: int, kind: str) -> str:
    came, expected = trace.returns[index], trace.values[index]
    raw, advantage = trace.raw_advantages[index], trace.advantages[index]
    # a push that the two decimals do not show is none to speak of
    sign = "○" if math.isnan(advantage) or number(advantage) == "0.00" else "▲" if advantage > 0 else "▼"
    verb = {"○": "stays as likely", "▲": "is made likelier", "▼": "is made less likely"}[sign]
    changed = "whitened" if trace.whitened else "weighted" if number(advantage) != number(raw) else ""
    scaled = f", {changed} {number(advantage)}" if changed else ""
    return (f"{sign} {what} {verb}: {kind} {number(came)}, the critic predicted {number(expected)}: advantage "
            f"{number(raw)}{scaled}.")
