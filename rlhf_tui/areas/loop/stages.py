"""The stages of a loop of human feedback as a person is told of them: how far, what is missing, what Enter does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from textual.content import Content

from rlhf_engine.labels.statistics import Share
from rlhf_engine.pipelining.loop import LoopRun, LoopState
from rlhf_tui.terminal.clean_text import clean_line
from rlhf_tui.widgets.figures import figure

LABELS, REWARD, POLICY, AGAIN = range(4)
"""The stages by their place."""
TITLES = ("Judge pairs", "Reward model", "Policy", "Judge the tuned model")
_MARKS = {"none": ("○", "$text-muted"), "part": ("◐", "$warning"), "all": ("●", "$success")}
RESUMABLE = ("stopped", "interrupted")
FATES = {"not begun": "has not begun", "unknown": "is in a state that nobody knows"}
_SAID = 60  # characters of what a run said last


@dataclass(frozen=True)
class Stage:
    """progress: none of it is there, a part, or all. facts: what is known. missing: what it lacks, or what the next one
    cannot do without; "" if nothing. enter: what the key does, "" where there is nothing to do yet."""

    progress: Literal["none", "part", "all"]
    facts: tuple[str, ...]
    missing: str = ""
    enter: str = ""


def stages_of(state: LoopState) -> tuple[Stage, Stage, Stage, Stage]:
    """All four of them, in order."""
    return _labels(state), _reward(state), _policy(state), _again(state)


def next_stage(stages: tuple[Stage, ...]) -> int:
    """The place of the first that is not complete; of the last one where all are."""
    return next((place for place, stage in enumerate(stages) if stage.progress != "all"), len(stages) - 1)


def drawn(place: int, stage: Stage) -> Content:
    """The stage in a few lines."""
    mark, style = _MARKS[stage.progress]
    lines = [Content.assemble((f"{mark} ", style), (f"{place + 1} {TITLES[place]}", "bold"))]
    lines += [Content(f"    {clean_line(fact)}") for fact in stage.facts]
    if stage.missing:
        lines.append(Content.assemble(("    missing: ", "$text-warning"), clean_line(stage.missing)))
    if stage.enter:
        lines.append(Content.assemble(("    Enter: ", "$primary bold"), stage.enter))
    return Content("\n").join(lines)


def _labels(state: LoopState) -> Stage:
    found = state.labels
    if found.problem:
        return Stage("none", (found.problem,), "a label file that can be read")
    who = f" · by {', '.join(map(clean_line, found.raters))}" if found.raters else ""
    steady = ("consistency " + _share(found.consistency) if found.consistency
              else "consistency: no pair has come back yet")
    left = found.wanted - found.judged
    if left <= 0:
        return Stage("all", (f"{found.judged} of {found.wanted} pairs{who}", steady), enter="judge more pairs")
    return Stage("part" if found.judged else "none", (f"{found.judged} of {found.wanted} pairs{who}", steady),
                 f"{left} pairs more; the next stage can begin with fewer" if found.judged else f"{left} pairs",
                 "judge pairs")


def _reward(state: LoopState) -> Stage:
    run, judged = state.reward, state.labels.judged
    if run is None:
        if not judged:
            return Stage("none", ("none yet",), "judged pairs, from which it learns")
        return Stage("none", ("none yet",), "", f"train one on the {judged} pairs")
    facts = (_run_line(run), *_version(state), _accuracy(run.metrics))
    if not run.finished:
        return _unfinished(run, facts, "train another one")
    if run.newer:
        return Stage("part", facts, f"what {run.newer} pairs tell that were judged since it learnt",
                     f"train another one on all {judged} pairs")
    low = run.metrics.get("eval/accuracy_low", math.nan)
    doubt = "" if low > 0.5 else "an accuracy surely above chance: more pairs, or steadier ones"
    return Stage("all", facts, doubt, "show this run")


def _policy(state: LoopState) -> Stage:
    run, reward = state.policy, state.reward
    ready = reward is not None and reward.finished
    if run is None:
        return Stage("none", ("not begun",), "" if ready else "a reward model that has come to its end",
                     "train it on what the reward model says" if ready else "")
    facts = (_run_line(run), _scores(run))
    if not run.finished:
        return _unfinished(run, facts, "train another one" if ready else "")
    if not state.up_to_date:
        return Stage("part", facts, "a run on the newest reward model: it has learnt from an earlier one",
                     "train another one on the newest" if ready else "show this run")
    return Stage("all", facts, "", "show this run")


def _again(state: LoopState) -> Stage:
    if state.policy is None or not state.policy.summary.step:
        return Stage("none", ("nothing to judge yet",), "a policy")
    if state.tuned_won is None:
        return Stage("none", ("no pair of tuned and reference was judged yet",), "your judgement of what it has learnt",
                     "judge tuned × reference, blind")
    won = f"the tuned model won {_share(state.tuned_won)}"
    return Stage("all", (won,), "", "judge more of tuned × reference; then stage 2 learns from these too")


# ---------------------------------------------------------------------------------------------------------------------


def _unfinished(run: LoopRun, facts: tuple[str, ...], another: str) -> Stage:
    summary = run.summary
    if summary.driven:
        left = max(0, summary.total_steps - summary.step)
        return Stage("part", facts, f"{left} steps" if summary.total_steps else "its first step", "show this run")
    if summary.state in RESUMABLE:
        return Stage("part", facts, f"the rest of its steps: it was {summary.state}", "resume it")
    why = f": {clean_line(summary.message)[:_SAID]}" if summary.message else ""
    fate = FATES.get(summary.state, summary.state)
    return Stage("part", facts, f"a run that comes to its end: this one {fate}{why}", another)


def _run_line(run: LoopRun) -> str:
    summary = run.summary
    step = f" · step {summary.step} of {summary.total_steps}" if summary.total_steps else ""
    return f"{clean_line(summary.name)} · {clean_line(run.config.algorithm.title)} · {summary.state}{step}"


def _version(state: LoopState) -> tuple[str, ...]:
    """What the reward model has become in the policy's run."""
    version = state.reward.version if state.reward else None
    if version is None or state.policy is None:
        return ()
    return (f"version {version.version}, from {version.judgements} judgements, in "
            f"{clean_line(state.policy.summary.name)}",)


def _accuracy(metrics: Mapping[str, float]) -> str:
    if "eval/accuracy" not in metrics:
        return "held-out accuracy: not measured yet"
    told = f"held-out accuracy {metrics['eval/accuracy']:.0%}"
    if {"eval/accuracy_low", "eval/accuracy_high"} <= metrics.keys():
        told += f" [{metrics['eval/accuracy_low']:.0%}, {metrics['eval/accuracy_high']:.0%}]"
    if "eval/calibration_error" in metrics:
        told += f" (chance 50%) · calibration error {metrics['eval/calibration_error']:.2f}"
    return told


def _scores(run: LoopRun) -> str:
    told = []
    for title, name in (("score", "objective/scores"), ("accuracy", "rewards/accuracies")):
        if name in run.metrics:
            told.append(f"{title} {_from_to(run, name)}")
    if "objective/kl" in run.metrics:
        told.append(f"KL {figure(run.metrics['objective/kl'], '.1f')} nats")
    if (gold := run.gold) is not None and f"rewards/{gold}/mean" in run.metrics:
        told.append(f"hidden score {_from_to(run, f'rewards/{gold}/mean')}")
    return " · ".join(told) or "no step yet"


def _from_to(run: LoopRun, name: str) -> str:
    now = figure(run.metrics[name], "+.2f")
    return f"{figure(run.first[name], '+.2f')} → {now}" if name in run.first else now


def _share(share: Share) -> str:
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}] of {share.n} (chance {share.chance:.0%})"
