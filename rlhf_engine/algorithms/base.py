"""What a method of training is to the trainer. How it is described to screens and files: `config.methods.base`."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.rewards import RewardSection
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch
from rlhf_engine.data.rows import Rows, RunData, load_data
from rlhf_engine.data.source import CheckedData
from rlhf_engine.errors import ConfigError, kind_and_message
from rlhf_engine.events import Sample
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.base import Columns
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.composite import RewardSum

Progress = Callable[[str, float], None]
"""What is being done within a step ("rollout", "update"), and how far, 0 to 1."""


@dataclass
class Resources:
    """What the trainer lends a method. It builds each once and keeps `rewards` and `rows` up to date with live edits.

    rows, held_out: all that is learned from, wherever it is from, and what never is, of the same kind. rewards: None
    where the run has none. decoder: samples responses fast, in the role that the policy plays. tell: takes a sentence
    for the user.
    """

    policy: Policy
    rows: Rows
    held_out: Rows
    rewards: RewardSum | None
    decoder: PreparedDecoder
    tell: Callable[[str], None] = lambda text: None
    row_count: int = 0
    _built_from: list[RewardSection] = field(default_factory=list)
    _scored: tuple[Rows, ...] = ()
    """All rows whose responses the rewards score."""

    @classmethod
    def of(
        cls, policy: Policy, config: RunConfig, tell: Callable[[str], None] = lambda text: None,
        data: RunData | None = None,
    ) -> Resources:
        """Those of a run under `config`; data: by default what that names. Raises ConfigError for rewards that cannot
        be built, or score responses to its rows, or data that cannot be read."""
        data = data or load_data(config)
        made = cls(policy, data.train, data.held_out_rows, None, PreparedDecoder(policy, tell), tell,
                   len(data.train) + len(data.held_out_rows))
        # responses are learned from in place of what a row holds only where rows are prompts
        made._scored = (data.train, data.held_out) if data.train.kind == "prompts" else (data.held_out,)
        made.use_rewards_of(config)
        return made

    def use_rows_of(self, checked: CheckedData) -> None:
        """Those that the model can take."""
        self.rows, self.held_out = checked.source.rows, checked.held_out_rows

    def use_rewards_of(self, config: RunConfig) -> None:
        """Build the rewards anew, if `config` has others. Raises ConfigError, with those of before kept, where they
        cannot be built, or cannot score responses to the rows."""
        if config.rewards != self._built_from:
            rewards = build_rewards(config.rewards)
            rewards.columns_of = self._columns_of
            rewards.use_policy(self.policy)
            for rows in self._scored if config.algorithm.needs.answers else ():
                if len(rows):
                    rewards.require_rows(rows.prompts, rows.columns)
            self.rewards, self._built_from = rewards, list(config.rewards)

    def _columns_of(self, prompts: Sequence[str]) -> Columns | None:
        """For a prompt that is answered by itself, as a probe is."""
        return next((found for rows in self._scored if (found := rows.columns_of(prompts))), None)


@dataclass(frozen=True)
class StepResult:
    """What one step leaves behind, as plain values.

    metrics: by name. samples: some of what was answered, to read. operations: floating-point operations by formula, 0
    if not known (see `models.flops`). nonfinite: why updates were skipped; empty if none were.
    """

    metrics: dict[str, float]
    samples: tuple[Sample, ...] = ()
    operations: float = 0.0
    nonfinite: str = ""


class State(NamedTuple):
    """All that must survive a restart. tensors: by name, those of an adapter as `<adapter>/<parameter>`, and those of
    optimizers and generators under `optimizer/` and `generator/`; numbers: what JSON can hold."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]


class Algorithm(Protocol):
    """What one step does with one batch. The trainer does all else: files, events, pauses, edits, checkpoints,
    divergence and roll-back.

    It is made with (config, resources). Equal states and batches must give equal steps: a resumed run repeats itself.
    """

    def step(self, number: int, batch: Batch, progress: Progress) -> StepResult:
        """Learn from `batch` in step `number` (from 1). An update that is not finite is skipped, with the weights as
        they were, and told in the result. Raises RewardError and ModelError."""
        ...

    def reconfigure(self, config: RunConfig) -> None:
        """Apply live edits from the next step on."""
        ...

    def computes(self) -> bool:
        """Whether the weights, as they are, still give finite numbers."""
        ...

    def state(self) -> State:
        """What a checkpoint holds; the tensors are the living ones."""
        ...

    def require_fit(self, state: State) -> None:
        """Raises CheckpointError unless this is what `state` can have given: every name, shape and type."""
        ...

    def load_state(self, state: State) -> None:
        """Take over what `state` gave, bit for bit. Raises CheckpointError, with nothing changed, for what does not
        fit."""
        ...


@runtime_checkable
class MeasuresHeldOut(Protocol):
    """What an `Algorithm` may bring besides: metrics of its own on rows that it never learns from, which
    `AlgorithmConfig.held_out_metrics` describes."""

    def measure_held_out(self, rows: Rows) -> dict[str, float]:
        """The metrics of some rows of the kind that it learns from, one at least, under the weights of the moment. It
        changes nothing, random numbers included: a run that is evaluated and one that is not are the same run."""
        ...


@runtime_checkable
class EndsItself(Protocol):
    """What an `Algorithm` may bring besides, that knows when there is nothing more to learn."""

    def why_done(self) -> str:
        """Why the run ends here, in words that follow "finished: ", asked before each step; empty: it goes on. It
        depends on nothing but settings and state, so that a run that has ended so ends again when it is resumed."""
        ...


def algorithm_class(section: AlgorithmConfig) -> Any:
    """The class of the method that `section` describes. Raises ConfigError if another package's cannot be imported."""
    module, _, name = section.implementation.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"algorithm.kind: {section.kind} cannot be imported from {section.implementation} "
                          f"({kind_and_message(error)})") from error


def make_algorithm(config: RunConfig, resources: Resources) -> Algorithm:
    """The method that `config.algorithm` describes. Raises ConfigError if another package's cannot be imported."""
    algorithm: Algorithm = algorithm_class(config.algorithm)(config, resources)
    return algorithm
