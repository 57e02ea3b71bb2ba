"""What methods make of a group, as columns, traces and sentences for the screen. Pure."""

from __future__ import annotations

from dataclasses import replace

from rlhf_engine.config.methods.base import Series
from rlhf_engine.evaluation.credit import GroupCredit, MethodCredit
from rlhf_engine.events import Sample
from rlhf_engine.token_trace import TokenTrace
from rlhf_tui.areas.inspect.token_facts import token_label

_THOUSANDTHS = 1000


def columns_of(method: MethodCredit) -> tuple[Series, Series]:
    """Advantage and push of a method, as the table of tokens names them."""
    return (
        Series(f"{method.kind}/advantages", "adv.", f"advantage by {method.title}",
               "how much better than its baseline", of=method.title),
        Series(f"{method.kind}/pushes", "push", f"push by {method.title}, in thousandths",
               "−∂loss/∂log π; above 0 the token is made likelier", of=method.title),
    )


def all_columns(group: GroupCredit) -> list[Series]:
    """Those of all methods, in their order."""
    return [column for method in group.methods for column in columns_of(method)]


def drawn_by(group: GroupCredit, quantity: Series | None) -> MethodCredit | None:
    """The method that a column is of."""
    return next((method for method in group.methods if quantity in columns_of(method)), None)


def traced(group: GroupCredit, row: int) -> tuple[Sample, TokenTrace]:
    """A response with the numbers of every method for its tokens, pushes in thousandths."""
    sample = group.samples[row]
    series: dict[str, tuple[float, ...]] = {}
    for method in group.methods:
        advantages, pushes = columns_of(method)
        series[advantages.name] = method.advantages[row]
        series[pushes.name] = tuple(value * _THOUSANDTHS for value in method.pushes[row])
    trace = TokenTrace(sample.trace.texts if sample.trace else (), series)
    return replace(sample, trace=trace), trace


def pushed(group: GroupCredit, row: int, token: int) -> str:
    """Which methods make a token likelier, and which less likely."""
    sample = group.samples[row]
    if sample.trace is None or not sample.trace.texts:
        return "The response has no token."
    likelier, less, alone = list[str](), list[str](), list[str]()
    for method in group.methods:
        push = method.pushes[row][token]
        (likelier if push > 0 else less if push < 0 else alone).append(method.title)
    ways = (("▲ likelier by", likelier), ("▼ less likely by", less), ("○ left alone by", alone))
    told = " · ".join(f"{way} {', '.join(titles)}" for way, titles in ways if titles)
    return f"{token_label(sample, sample.trace, token)}: {told}"


def agreement(group: GroupCredit, method: MethodCredit) -> str:
    """How many of the group's tokens a method pushes the way that the run's own does, which is the first."""
    own = group.methods[0]
    signs = [(_sign(one) == _sign(other)) for mine, theirs in zip(own.pushes, method.pushes, strict=True)
             for one, other in zip(mine, theirs, strict=True)]
    if method == own or not signs:
        return ""
    return f" · pushes {100 * sum(signs) / len(signs):.0f} % of the group's tokens the way {own.title} does"


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)
