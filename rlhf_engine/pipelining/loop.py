"""Where a loop of human feedback stands, told from its files: a label file, the reward models that learn from it, the
policies that learn from those (or from the pairs themselves), and what was judged of these. Nothing here imports torch.

A loop is known by its label file. One that `rlhf-tui pipeline` drives and one that a person makes run by run are found
in the same way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from pathlib import Path

from rlhf_engine.config.gold import gold_of
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.files.reading import whole_number
from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import read_labels
from rlhf_engine.labels.statistics import Share, statistics_of
from rlhf_engine.maths.statistics import wilson_interval
from rlhf_engine.pipelining.loop_list import Loop, last_worked_on
from rlhf_engine.runs.checkpoint_list import STATE, candidates
from rlhf_engine.runs.pipeline_dir import PipelinePlan
from rlhf_engine.runs.reward_versions import RewardVersion, versions_of
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import METRICS
from rlhf_engine.runs.run_lines import read_object
from rlhf_engine.runs.run_list import UNREADABLE, RunSummary, list_runs

WANTED = 300
"""Pairs that a loop made by hand begins with."""
FINISHED = "finished"
REWARD_MODEL = "reward_model"


@dataclass(frozen=True)
class Labels:
    """What was judged. judged: pairs, of `wanted`; those skipped are left out. consistency: see `LabelStatistics`.
    problem: why the file cannot be read; empty if it can, or is not there yet."""

    judged: int = 0
    wanted: int = WANTED
    raters: tuple[str, ...] = ()
    consistency: Share | None = None
    problem: str = ""


@dataclass(frozen=True)
class LoopRun:
    """A run of a loop. metrics: of a reward model see `held_out_metrics`, else of the newest step; first: of
    the first step. newer: of a reward model, pairs judged that it has not learnt from; version: what it has become in
    the newest policy's run, if that lets it learn on; then that is what `newer` means."""

    summary: RunSummary
    config: RunConfig
    metrics: Mapping[str, float] = field(default_factory=dict)
    first: Mapping[str, float] = field(default_factory=dict)
    newer: int = 0
    version: RewardVersion | None = None

    @property
    def gold(self) -> str | None:
        """The name of the reward that is scored and not learnt from."""
        return gold_of(self.config.rewards, self.config.sentinel.gold)

    @property
    def finished(self) -> bool:
        """True when it came to its end."""
        return self.summary.state == FINISHED


@dataclass(frozen=True)
class LoopState:
    """How far a loop is. reward, policy: its newest runs. up_to_date: the policy learns from that reward model, or from
    the pairs themselves. tuned_won: of pairs with a winner that were asked at random, one answer of which is the
    policy's and the other the reference's, the share that the policy's won when each was judged first. driver: who
    drives the pipeline by itself, or ""."""

    loop: Loop
    labels: Labels
    plan: PipelinePlan | None = None
    driver: str = ""
    reward: LoopRun | None = None
    policy: LoopRun | None = None
    up_to_date: bool = False
    tuned_won: Share | None = None
    rounds_done: int = 0
    """Rounds of the pipeline whose policies have come to their end."""

    def name_of(self, stage: str) -> str | None:
        """What the pipeline calls the run of a stage ("reward", "policy") in the round under way; None where that is
        free, or there is a run of that name."""
        pipeline = self.loop.pipeline
        name = pipeline.run_name(f"{stage}-{self.rounds_done + 1}") if pipeline else None
        return name if pipeline and name and not os.path.lexists(pipeline.root / name) else None


def held_out_metrics(run: RunDir) -> Mapping[str, float]:
    """The held-out metrics of a reward model as it rewards: of the step whose loss was lowest, where the best
    checkpoint is kept (`train.keep_best`), else of the newest that was measured. Empty where none was. Raises RunError
    and ConfigError.

    No other step's: the best of many figures of few pairs is high by chance.
    """
    keeps_best = run.config().train.keep_best is not None
    found: Mapping[str, float] = {}
    for line in run.each_step():
        loss = line.metrics.get("eval/loss")
        if loss is not None and (not keeps_best or loss <= found.get("eval/loss", loss)):
            found = line.metrics
    return found


class LoopReader:
    """Reads how far loops are, again and again; what cannot change is read once. Not for the screen's thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._configs: dict[tuple[Path, str, str], RunConfig | None] = {}
        self._judged: tuple[Path, object, list[Judgement], str] | None = None
        self._metrics: dict[Path, tuple[object, tuple[Mapping[str, float], Mapping[str, float]]]] = {}

    def read(self, loop: Loop) -> LoopState:
        """How far it is. Raises RunError where the folder of runs, or the pipeline, cannot be read."""
        plan = loop.pipeline.plan() if loop.pipeline else None
        judgements, problem = self._judgements(loop.labels)
        runs = [(run, config) for run in list_runs(self._root) if (config := self._config(run)) is not None]
        runs.sort(key=lambda pair: (pair[0].started, pair[0].name), reverse=True)
        models = [pair for pair in runs if _learns_from(pair[1], loop.labels) and _is_reward_model(pair[1])]
        of_models = {run.path.resolve() for run, _ in models}
        policies = [pair for pair in runs if not _is_reward_model(pair[1]) and (
            _learns_from(pair[1], loop.labels) or self._rewarded_by(pair[1]) & of_models)]
        policy = self._run(*policies[0]) if policies else None
        reward = self._reward_model(*models[0], judgements, policy) if models else None
        return LoopState(
            loop, _labels(judgements, plan, problem), plan, self._driver(loop), reward, policy,
            policy is not None and (_learns_from(policy.config, loop.labels) or (
                reward is not None and reward.summary.path.resolve() in self._rewarded_by(policy.config))),
            _tuned_won(judgements, policy.summary.name) if policy else None, _rounds_done(loop, runs))

    def last_worked_on(self, found: Sequence[Loop]) -> Loop:
        """See `loop_list.last_worked_on`. Raises RunError where the folder of runs cannot be read."""
        return last_worked_on(found, ((run.changed, config) for run in list_runs(self._root)
                                      if (config := self._config(run)) is not None))

    def _judgements(self, labels: Path) -> tuple[list[Judgement], str]:
        state, known = _state(labels), self._judged  # asked first: what is added meanwhile is read the next time
        if known is None or known[:2] != (labels, state):
            self._judged = known = labels, state, *_judgements(labels)
        return known[2:]

    def _driver(self, loop: Loop) -> str:
        driver = loop.pipeline.driven.driver() if loop.pipeline else None
        return str(driver) if driver else ""

    def _config(self, run: RunSummary) -> RunConfig | None:
        key = run.path, run.id, run.started
        if run.state == UNREADABLE:
            return None
        if key not in self._configs:
            found = None
            with suppress(RlhfError):
                found = RunDir(run.path).config()
            self._configs[key] = found  # once it is known: another thread may read, too
        return self._configs[key]

    def _rewarded_by(self, config: RunConfig) -> set[Path]:
        """Where the reward models lie that a run is rewarded by."""
        named = [str(getattr(reward, "model", "")) for reward in config.rewards if reward.kind == "preference"]
        return {path.resolve() for name in named for path in (Path(name), self._root / name)}

    def _run(self, summary: RunSummary, config: RunConfig) -> LoopRun:
        first, metrics = self._metrics_of(summary.path, held_out=_is_reward_model(config))
        return LoopRun(summary, config, metrics, first)

    def _reward_model(
        self, summary: RunSummary, config: RunConfig, judgements: Sequence[Judgement], policy: LoopRun | None
    ) -> LoopRun:
        """policy: the newest one, which may be rewarded by it."""
        counted = [judgement for judgement in judgements if judgement.verdict != "skip"]
        known, version = _learnt_judgements(RunDir(summary.path)), None
        if policy is not None and summary.path.resolve() in self._rewarded_by(policy.config):
            labels = Path(str(config.data.source)).resolve()
            version = _newest_version(policy, labels)
        if version is not None:
            known = max(known or 0, version.judgements)
        if known is not None:
            newer = counted[known:]
        else:  # no checkpoint yet
            began = _moment(summary.started)
            newer = [judgement for judgement in counted if began is not None
                     and (at := _moment(judgement.time)) is not None and at > began]
        return replace(self._run(summary, config), newer=len({judgement.pair.id for judgement in newer}),
                       version=version)

    def _metrics_of(self, path: Path, *, held_out: bool) -> tuple[Mapping[str, float], Mapping[str, float]]:
        if (state := _state(path / METRICS)) is None:
            return {}, {}
        if (known := self._metrics.get(path)) is not None and known[0] == state:
            return known[1]
        run = RunDir(path)
        first: Mapping[str, float] = {}
        measured: Mapping[str, float] = {}
        with suppress(RlhfError):
            first = next((line.metrics for line in run.each_step()), {})
            measured = held_out_metrics(run) if held_out else {}
        last = run.last_metrics()
        found = first, measured or (last.metrics if last else {})
        self._metrics[path] = state, found
        return found


# ---------------------------------------------------------------------------------------------------------------------


def _learnt_judgements(run: RunDir) -> int | None:
    """How many judgements a reward model's run learns from, as its newest checkpoint has it; None if there is none."""
    with suppress(RlhfError, OSError, KeyError, TypeError, ValueError):
        for newest in candidates(run)[:1]:
            return whole_number(read_object(newest / STATE)["numbers"]["judgements"])
    return None


def _newest_version(policy: LoopRun, labels: Path) -> RewardVersion | None:
    """What a reward model that learns on from these labels has become in a policy's run."""
    learning = {reward.name for reward in policy.config.rewards if isinstance(reward, PreferenceRewardConfig)
                and reward.labels is not None and Path(reward.labels).resolve() == labels}
    return next((version for version in reversed(versions_of(RunDir(policy.summary.path)))
                 if version.reward in learning and not version.refused), None)


def _state(file: Path) -> object:
    """What tells one state of a file from another; None where there is none."""
    try:
        told = file.stat()
    except OSError:
        return None
    return told.st_size, told.st_mtime_ns, told.st_ino


def _judgements(labels: Path) -> tuple[list[Judgement], str]:
    if not os.path.lexists(labels):
        return [], ""
    try:
        return read_labels(labels), ""
    except RlhfError as error:
        return [], str(error)


def _labels(judgements: Sequence[Judgement], plan: PipelinePlan | None, problem: str) -> Labels:
    judged = {judgement.pair.id for judgement in judgements if judgement.verdict != "skip"}
    found = statistics_of(judgements)
    wanted = plan.labels * plan.rounds if plan else WANTED
    return Labels(len(judged), wanted, found.raters, found.consistency, problem)


def _is_reward_model(config: RunConfig) -> bool:
    return config.algorithm.kind == REWARD_MODEL


def _learns_from(config: RunConfig, labels: Path) -> bool:
    source = config.data.source
    return (config.algorithm.needs.batch == "pairs" and source is not None
            and Path(source).resolve() == labels.resolve())


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else None


def _rounds_done(loop: Loop, runs: Sequence[tuple[RunSummary, RunConfig]]) -> int:
    finished = {run.name for run, _ in runs if run.state == FINISHED}
    return next((done for done in count() if not loop.pipeline
                 or loop.pipeline.run_name(f"policy-{done + 1}") not in finished), 0)


def _tuned_won(judgements: Sequence[Judgement], run: str) -> Share | None:
    won = []
    for judgement in judgements:
        if judgement.repeat or judgement.pair.asked_for != "random":
            continue  # one pair would count twice; and a pair chosen by its scores is no fair sample
        answers = judgement.pair.first.origin, judgement.pair.second.origin
        tuned = [Path(origin.run).name == run and origin.kind in ("tuned", "checkpoint") for origin in answers]
        if judgement.decided and sum(tuned) == 1 and answers[tuned.index(False)].kind == "reference":
            won.append(tuned[0] == (judgement.verdict == "first"))
    if not won:
        return None
    found = wilson_interval(sum(won), len(won))
    return Share(found.value, found.low, found.high, len(won), 0.5)
