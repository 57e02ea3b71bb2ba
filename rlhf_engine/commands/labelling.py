"""The command `label`: pairs of answers are judged, by a person at the workbench or by a reward in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from rlhf_engine.commands.console import print_json, say
from rlhf_engine.commands.label_report import report_lines, statistics_json
from rlhf_engine.commands.sampling import Seed
from rlhf_engine.commands.shared import (
    AcceptBase,
    AsJson,
    RunsDir,
    TrustCode,
    TrustRemoteCode,
    base_choice,
    run_at_step,
    run_if_any,
)
from rlhf_engine.commands.trusting import ask_for_scores, having_asked
from rlhf_engine.config import presets
from rlhf_engine.config.preference import labels_to_add_to
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import prompts_to_ask
from rlhf_engine.errors import ConfigError, short
from rlhf_engine.labels.judgement import own_name
from rlhf_engine.labels.label_file import LABELS_ROOT, LabelFile, label_path
from rlhf_engine.labels.pair import AskedFor, Pair
from rlhf_engine.labels.rater import SimulatedRater, rate
from rlhf_engine.labels.repeats import REPEAT_EVERY
from rlhf_engine.labels.statistics import statistics_of
from rlhf_engine.requests import REFERENCE, TUNED, Side
from rlhf_engine.rewards.build import rewards_of
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.base_model import AS_IT_WAS, BaseChoice
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT, RunDir

_COUNT = 100


@dataclass(frozen=True)
class LabelTask:
    """What is to be judged, as the command line says it. source: the preset or the run. count: None for no end.

    first, second: who answers. rater: whose judgements they are. file: where these go.
    """

    source: str
    config: RunConfig
    run_dir: RunDir | None
    file: Path
    rater: str
    first: Side
    second: Side
    ask: AskedFor
    responses: int
    count: int | None
    seed: int
    repeat_every: int
    base: BaseChoice = AS_IT_WAS
    step: int | None = None
    """Of the run's checkpoint that is asked; None for the newest."""
    runs_dir: Path = DEFAULT_RUNS_ROOT


ByHand = Callable[[LabelTask], int]
"""Lets a person judge on a screen; the exit code."""


def label_command(by_hand: ByHand | None = None) -> Callable[..., int]:
    """The command. by_hand: what it does without --rater, where there is a screen to judge on."""

    def label(
        source: Annotated[str, typer.Argument(
            metavar="PRESET|RUN", help="Whose prompts and answers: a run, RUN@STEP, or else a preset, or a path ending "
                                       "in .toml.")],
        count: Annotated[int | None, typer.Option(
            min=1, max=1_000_000, help=f"How many judgements to make now. {_COUNT} with --rater, else no end.",
            show_default=False)] = None,
        out: Annotated[Path | None, typer.Option(
            "--out", metavar="FILE.jsonl", help="Where the judgements go, or are continued; labels/ and the name of "
                                                "the preset or run if omitted.", show_default=False)] = None,
        rater: Annotated[str | None, typer.Option(
            metavar="REWARD", help="Let a reward judge in a person's place: one of the config's rewards by its name, "
                                   "or all of a preset's.", show_default=False)] = None,
        error: Annotated[float, typer.Option(min=0, max=0.5, help="Share of the reward's answers that are turned "
                                                                  "round.")] = 0.0,
        temperature: Annotated[float, typer.Option(
            min=0, max=1000, help="0: the higher score wins; above: with probability sigmoid(gap / temperature).")
                               ] = 0.0,
        seed: Seed = 0,
        first: Annotated[str | None, typer.Option(
            metavar="SIDE", help="Who answers first: reference, tuned, or RUN[@STEP]. Of a run tuned, of a preset "
                                 "reference if omitted.", show_default=False)] = None,
        second: Annotated[str | None, typer.Option(metavar="SIDE", help="And whom to compare it with; the same if "
                                                                        "omitted.", show_default=False)] = None,
        ask: Annotated[str, typer.Option(help="Which pairs: random, unsure (scores differ least) or gap (most).")
                       ] = "random",
        responses: Annotated[int, typer.Option(min=2, max=256, help="Answers of each side to a prompt, among which "
                                                                    "unsure and gap choose.")] = 4,
        repeat_every: Annotated[int, typer.Option(min=0, max=1000, help="One in so many pairs comes back with its "
                                                                        "sides swapped; 0: none.")] = REPEAT_EVERY,
        name: Annotated[str | None, typer.Option(
            "--as", metavar="NAME", help="Who judges; your user name, or simulated:REWARD, if omitted.",
            show_default=False)] = None,
        overrides: Annotated[list[str] | None, typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a setting of a preset; of a run, where its base model is now."
        )] = None,
        runs_dir: RunsDir = DEFAULT_RUNS_ROOT,
        trust: TrustRemoteCode = None,
        trust_code: TrustCode = None,
        accept_base: AcceptBase = False,
        as_json: AsJson = False,
    ) -> int:
        """Judge pairs of answers: which of two is better? Each judgement is a line of a label file.

        In a terminal the workbench opens and you judge; with --rater a reward does, as a stand-in. What was judged
        before is not asked again; the same command goes on. `labels show FILE` tells what was judged and how steadily,
        and `--set data.source=FILE` trains on it.

        With --rater and --json: file, rater, judged (now), seconds, pairs_per_minute, and of all judgements of this
        rater in the file: labels (first, second, tie, both_bad, skip), consistency (of pairs judged twice), left_won
        and longer_won, each with value, low, high, n and chance, or null.
        """
        if name is None:
            name = f"simulated:{rater}" if rater else own_name()
        task, run_step = _task(source, count, out, name, first, second, ask, responses, seed, repeat_every,
                               overrides or [], runs_dir, accept_base)
        if rater is None:
            if by_hand is None:
                raise ConfigError("--rater: here only a reward can judge; `rlhf-tui label` opens a screen where you do")
            return by_hand(task)
        rewards = _judging(rater, task)
        simulated = SimulatedRater(rewards, task.rater, error, temperature, seed)
        return _rate(simulated, task, run_step, as_json)

    return label


# ---------------------------------------------------------------------------------------------------------------------


def _task(
    source: str, count: int | None, out: Path | None, name: str, first: str | None, second: str | None, ask: str,
    responses: int, seed: int, repeat_every: int, overrides: list[str], runs_dir: Path, accept_base: bool,
) -> tuple[LabelTask, int | None]:
    """What the command line asks for, and the step of a run that it names. Raises ConfigError."""
    if ask not in get_args(AskedFor):
        raise ConfigError(f"--ask: {short(repr(ask))} is none of {', '.join(get_args(AskedFor))}")
    if out is not None and out.suffix != ".jsonl":
        raise ConfigError(f"--out: {out} does not end in .jsonl, as label files do")
    if not name.strip() or len(name) > 100:
        raise ConfigError("--as: a name of 1 to 100 characters tells whose judgements they are")
    run_dir, step = _run_of(source, runs_dir)
    base = AS_IT_WAS
    if run_dir is not None:
        config = run_dir.config()
        base = base_choice(config, overrides, accept_base)
    else:
        config = presets.load_with_overrides(source, overrides)
    usual = TUNED if run_dir else REFERENCE
    one = _side(first, runs_dir, "--first") if first else usual
    other = _side(second, runs_dir, "--second") if second else one
    if TUNED in (one, other):
        config.algorithm.require_answers()
    called = run_dir.name if run_dir else Path(source).stem
    file = out or labels_to_add_to(config.rewards) or label_path(called, runs_dir.parent / LABELS_ROOT)
    task = LabelTask(source, config, run_dir, file, name, one, other, _asked_for(ask), responses, count, seed,
                     repeat_every, base, step, runs_dir)
    return task, step


def _asked_for(ask: str) -> AskedFor:
    found: dict[str, AskedFor] = {choice: choice for choice in get_args(AskedFor)}
    return found[ask]


def _run_of(source: str, runs_dir: Path) -> tuple[RunDir | None, int | None]:
    """The run that SOURCE names, and its step; none for a preset."""
    if run := run_if_any(source, runs_dir):
        return run, None
    name, at, _ = source.rpartition("@")
    return run_at_step(source, runs_dir) if at and run_if_any(name, runs_dir) else (None, None)


def _side(text: str, runs_dir: Path, option: str) -> Side:
    if text in ("reference", "tuned"):
        return REFERENCE if text == "reference" else TUNED
    try:
        run_dir, step = run_at_step(text, runs_dir)
    except ConfigError as error:
        raise ConfigError(f"{option}: {str(error).rstrip('.')}; allowed are reference, tuned, and RUN or RUN@STEP"
                          ) from None
    return Side("checkpoint", run_dir.path, step)


def _judging(rater: str, task: LabelTask) -> RewardSum:
    """The reward that judges: one of the config's alone, by its weight's sign and size, or all of a preset's."""
    one = [reward for reward in task.config.rewards if reward.name == rater]
    if one:
        if task.run_dir:
            require_own_run(task.run_dir, task.config)
        # one that is measured and not learned from, of weight 0, judges with weight 1
        one = [reward.model_copy(update={"weight": reward.weight or 1.0}) for reward in one]
        config = task.config.model_copy(update={"rewards": one})
    else:
        named = ", ".join(reward.name for reward in task.config.rewards)
        try:
            config = presets.load(rater)
        except ConfigError as error:
            raise ConfigError(f"--rater: {task.source} has no reward {short(repr(rater))}"
                              f"{f', but {named}' if named else ''}; nor is it a preset: {error.problems[0]}") from None
        if not config.rewards:
            raise ConfigError(f"--rater: the preset {rater} has no rewards")
    return having_asked(lambda: rewards_of(config))


def _rate(rater: SimulatedRater, task: LabelTask, step: int | None, as_json: bool) -> int:
    wanted = task.count or _COUNT
    began = time.monotonic()
    prompts_to_ask(task.config)  # what is wrong with the data is told before a model is loaded
    with LabelFile.open(task.file, rater=rater.name) as file:
        for text in file.notices:
            say(text)
        begun = sum(judgement.rater == rater.name and not judgement.repeat for judgement in file.judgements)

        def tell(judged: int) -> None:
            if not as_json and (judged == wanted or judged % 50 == 0):
                say(f"{judged}/{wanted} judgements")

        judged = rate(rater, file, _pairs(task, step, begun), count=wanted, repeat_every=task.repeat_every, tell=tell)
        own = [judgement for judgement in file.judgements if judgement.rater == rater.name]
    seconds = time.monotonic() - began
    found = statistics_of(own)
    if judged < wanted:
        say(f"{judged} of {wanted} judgements were made: the answers have no more pairs that were not judged before")
    if as_json:
        about: dict[str, Any] = {"file": str(task.file), "rater": rater.name, "judged": judged, "seconds": seconds,
                                 "pairs_per_minute": 60 * judged / seconds}
        print_json(about | statistics_json(found))
    else:
        say(f"{judged} judgements added to {task.file}, which has {len(own)} of {rater.name}:", *report_lines(found))
    return 0


def _pairs(task: LabelTask, step: int | None, begun: int) -> Iterator[Pair]:
    """Pairs without end. The model is loaded with the first."""
    from rlhf_engine.data.prompt_check import cut_prompts
    from rlhf_engine.evaluation.comparison import ACTOR_ALONE
    from rlhf_engine.evaluation.generate import load_tuned
    from rlhf_engine.evaluation.label_pairs import endless_pairs, label_pairs
    from rlhf_engine.models.policy import Policy

    if task.run_dir:
        ask_for_scores(task.run_dir, step)
        policy, config, at = load_tuned(task.run_dir, step, base=task.base, tell=say)
    else:
        policy, config, at = Policy.from_config(task.config, ACTOR_ALONE), task.config, 0
    for text in filter(None, (*policy.notices, cut_prompts(policy, prompts_to_ask(config), config.sampling))):
        say(text)

    def draw(count: int, seed: int) -> tuple[Pair, ...] | None:
        return label_pairs(policy, config, count=count, seed=seed, step=at, sides=(task.first, task.second),
                           ask=task.ask, responses=task.responses, base=task.base, tell=say,
                           run=task.run_dir.name if task.run_dir else "", run_dir=task.run_dir)

    return endless_pairs(draw, task.seed, begun)
