"""Every final policy of a sweep asked alike: the same prompts, sampling, rewards and random numbers for all.

Of each base model the reference answers too, and as often as it takes to hold all against best-of-n. What was asked is
kept in the sweep's folder, so that no policy is asked twice. Nothing depends on the order, or on what was kept already.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import fmean

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.prompt_check import check_prompts
from rlhf_engine.data.rows import load_data, prompts_to_ask
from rlhf_engine.errors import RlhfError
from rlhf_engine.evaluation.comparison import ComparisonModels, LoadedSide, answers_of
from rlhf_engine.evaluation.standing import plan_pool
from rlhf_engine.events import Sample
from rlhf_engine.files.json_text import to_json
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.threads import use_threads
from rlhf_engine.requests import Side
from rlhf_engine.rewards.build import rewards_if_any
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.checkpoint_list import base_at
from rlhf_engine.runs.sweep_dir import Plan, SweepDir
from rlhf_engine.sweeping.cells import FINISHED, CellStatus
from rlhf_engine.sweeping.results import Answers

MEASURE_SEED = 900_001  # far from every training seed
POOL_SEED = 2**40
_BLOCK = 32  # responses of the reference to one prompt that are drawn, and kept, at once


@dataclass
class Measurement:
    """Asks the policies of a sweep. settings: whose prompts, sampling and rewards. told: takes a sentence of progress;
    problem: takes a sentence about a policy that could not be asked; cancelled: whether to leave."""

    sweep: SweepDir
    plan: Plan
    settings: RunConfig
    told: Callable[[str], None]
    problem: Callable[[str], None]
    cancelled: Callable[[], bool]
    no_scores: str = ""
    """Why nothing was scored, if the rewards could not be had."""
    _rewards: RewardSum | None = None
    _prompts: list[str] = field(default_factory=list)
    _threads_of: Policy | None = None

    def run(self, statuses: Sequence[CellStatus]) -> list[Answers] | None:
        """All that are finished, by their base models; None once cancelled. Raises RlhfError where none can be asked.
        """
        self._rewards, self.no_scores = rewards_if_any(self.settings)
        self._prompts = prompts_of(self.settings)
        models = ComparisonModels(None, None, tell=self.problem)
        groups: dict[str, list[tuple[CellStatus, str]]] = {}
        for status in statuses:
            if status.state == FINISHED and status.run is not None:
                model, about = _base_of(status)
                groups.setdefault(model, []).append((status, about))
        found = []
        for model, members in groups.items():
            measured = self._of_model(models, model, members)
            if measured is None:
                return None
            found.append(measured)
        return found

    def _of_model(
        self, models: ComparisonModels, base: str, members: Sequence[tuple[CellStatus, str]]
    ) -> Answers | None:
        key = self._key(base)
        sides: dict[str, Sequence[Sample]] = {}
        name = members[0][1]
        for number, (status, _) in enumerate(members):
            assert status.run is not None
            about = {"run": status.run.id, "step": status.step, "asked": key, "responses": self.plan.responses}
            kept, samples = self.sweep.measured(status.cell.run)
            if kept != about or len(samples) != self.plan.responses:
                self.told(f"{name}: {self.plan.responses} fresh responses of {status.cell.run} "
                          f"({number + 1}/{len(members)})")
                try:
                    status.run.config().algorithm.require_answers()
                    side = models.read(Side("checkpoint", status.run.path))
                    with models.answering_as(side) as policy:
                        self._use_threads(policy, status)
                        answered = self._answers(policy, side)
                except RlhfError as error:
                    self.problem(f"{status.cell.run} could not be measured: {error}")
                    continue
                if answered is None:
                    return None
                samples = answered
                self.sweep.write_measured(status.cell.run, about, samples)
            sides[status.cell.run] = samples
        if not sides:
            return Answers(name, {}, [], {}, 0)
        first = next(status for status, _ in members if status.cell.run in sides)
        answer = self._of_reference(models, first, key, name)
        if answer is None:
            return None
        pool, most = self._pool(models, first, key, name, sides)
        return None if pool is None else Answers(name, sides, answer, pool, most)

    def _use_threads(self, policy: Policy, status: CellStatus) -> None:
        """As many as its training had, or as this model is worth: chosen once."""
        if policy is not self._threads_of and status.run is not None:
            self._threads_of = policy
            use_threads(policy, status.run.config().train.threads, rows=_BLOCK,
                        response=self.settings.sampling.max_new_tokens)

    def _answers(self, policy: Policy, side: LoadedSide) -> list[Sample] | None:
        prompts = check_prompts(policy, self.settings, self._prompts).usable
        asked = [prompts[index % len(prompts)] for index in range(self.plan.responses)]
        return answers_of(policy, asked, self.settings, side, self._rewards, MEASURE_SEED, lambda done: None,
                          self.cancelled)

    def _of_reference(
        self, models: ComparisonModels, status: CellStatus, key: str, name: str
    ) -> Sequence[Sample] | None:
        about = {"reference": name, "asked": key, "responses": self.plan.responses}
        kept, samples = self.sweep.measured(f"reference-{key}")
        if kept == about and len(samples) == self.plan.responses:
            return samples
        self.told(f"{name}: {self.plan.responses} responses of the reference")
        assert status.run is not None
        with models.answering_as(models.read(Side("checkpoint", status.run.path))) as policy:
            answered = self._answers(policy, LoadedSide("reference", False, 0))
        if answered is not None:
            self.sweep.write_measured(f"reference-{key}", about, answered)
        return answered

    def _pool(
        self, models: ComparisonModels, status: CellStatus, key: str, name: str, sides: Mapping[str, Sequence[Sample]]
    ) -> tuple[Mapping[str, Sequence[float]] | None, int]:
        """Scores of the reference's responses, drawn in blocks that do not depend on how many are wanted; None once
        cancelled."""
        if not self.plan.pool or not self._rewards:
            return {}, 0
        prompts = list(dict.fromkeys(sample.prompt for samples in sides.values() for sample in samples))
        kls = [fmean(math.nan if sample.kl is None else sample.kl for sample in samples) for samples in sides.values()]
        plan = plan_pool(prompts, kls, self.plan.pool)
        blocks = math.ceil(plan.each / _BLOCK)
        kept = self.sweep.pool(key)
        missing = [(prompt, block) for prompt in plan.prompts for block in range(blocks) if (prompt, block) not in kept]
        if missing:
            assert status.run is not None
            with models.answering_as(models.read(Side("checkpoint", status.run.path))) as policy:
                for number, (prompt, block) in enumerate(missing):
                    if number % 8 == 0:
                        self.told(f"{name}: {number * _BLOCK}/{len(missing) * _BLOCK} responses of the reference, for "
                                  "best-of-n")
                    scores = self._scores(policy, prompt, prompts.index(prompt), block, self._rewards)
                    if scores is None:
                        return None, 0
                    self.sweep.add_to_pool(key, prompt, block, scores)
                    kept[prompt, block] = scores
        return {prompt: [score for block in range(blocks) for score in kept[prompt, block]][:plan.each]
                for prompt in plan.prompts}, plan.most

    def _scores(
        self, policy: Policy, prompt: str, place: int, block: int, rewards: RewardSum
    ) -> list[float] | None:
        drawn = answers_of(policy, [prompt] * _BLOCK, self.settings, LoadedSide("reference", False, 0), rewards,
                           POOL_SEED + place * 2**20 + block, lambda done: None, self.cancelled)
        return None if drawn is None else [math.nan if one.score is None else one.score for one in drawn]

    def _key(self, base: str) -> str:
        """What is the same where answers to the same question are."""
        asked = {"base": base, "prompts": self._prompts, "sampling": self.settings.sampling.model_dump(),
                 "rewards": [reward.model_dump() for reward in self.settings.rewards]}
        return hashlib.sha256(to_json(asked).encode()).hexdigest()[:16]


def prompts_of(settings: RunConfig) -> list[str]:
    """What final policies are asked: the prompts that are held out, or where none are, those that are learned from."""
    held_out: list[str] = []
    if settings.data.held_out or settings.data.held_out_share:
        held_out = load_data(settings).held_out.prompts
    return list(dict.fromkeys(held_out or prompts_to_ask(settings)))


def _base_of(status: CellStatus) -> tuple[str, str]:
    """What tells the base model of a run from every other, and its name."""
    assert status.run is not None
    config, base = status.run.config().model, None
    with suppress(RlhfError):
        base = base_at(status.run, None)
    return base.hex if base else f"{config.name}@{config.revision}", config.name
