"""A method of training, described without torch: what screens, commands and files need to know of it.

A method is two modules. Its `AlgorithmConfig` (here) holds its settings and says what it needs in memory, what it
measures, what goes wrong with it, and what can be shown token by token; screens draw from that before torch is
imported. Its `algorithms.base.Algorithm` does the learning, and is imported by a run that uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from rlhf_engine import metrics
from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.rewards import RewardSection
from rlhf_engine.config.section import Section
from rlhf_engine.config.sections import (
    KLConfig,
    OptimizerConfig,
    SamplingConfig,
    SentinelConfig,
    TrainConfig,
)
from rlhf_engine.errors import RunError
from rlhf_engine.metrics import Metric
from rlhf_engine.token_trace import TokenTrace, signed_number

BatchKind = Literal["prompts", "texts", "pairs"]
StepMetrics = Sequence[Mapping[str, float]]
"""The metrics of some steps, oldest first."""


REFERENCE = "reference"
"""The role of the base with its adapters off; no adapter may be called so."""


@dataclass(frozen=True)
class Needs:
    """What a method has in memory and is fed with. Nothing else is built.

    adapters: names of the LoRA adapters that it trains; "actor" is the one that answers prompts, where there is one.
    heads: name -> the adapter that it reads, for each linear head from hidden states to one number, with a bias or
    without (`head_bias`), as sequence classifiers have theirs.
    reference: whether it asks the base with its adapters off. batch: what one step is given. rewards: whether it can do
    nothing without them, if it reads them at all.
    """

    adapters: tuple[str, ...] = ("actor",)
    heads: tuple[tuple[str, str], ...] = ()
    reference: bool = True
    batch: BatchKind = "prompts"
    rewards: bool = True
    head_bias: bool = True

    def __post_init__(self) -> None:
        if REFERENCE in self.adapters or len({*self.adapters}) < len(self.adapters):
            raise ValueError(f"adapters need names of their own, other than {REFERENCE!r}: {self.adapters}")
        if unread := [head for head, adapter in self.heads if adapter not in self.adapters]:
            raise ValueError(f"the head {unread[0]!r} reads an adapter that is none of {self.adapters}")

    @property
    def answers(self) -> bool:
        """Whether what is trained answers prompts, and so can be sampled from, compared and exported."""
        return "actor" in self.adapters


@dataclass(frozen=True)
class Condition:
    """What goes wrong with a method, as an alarm.

    kind: the alarm's name. find(start, recent, step, config): one sentence with what to try, or None; `start` and
    `recent` are the metrics of the run's first and latest `sentinel.window` steps. from_start: it compares the two, so
    it is not asked before they no longer overlap. settings: those that it reads, for the form. best_of(metrics,
    config): where it looks back, what it looks for in the metrics of a step: `start` is then the window of the run so
    far in which the mean of that was highest. Every row has the number of its `step` besides.
    """

    kind: str
    find: Callable[[StepMetrics, StepMetrics, int, Settings], str | None]
    settings: tuple[str, ...] = ()
    from_start: bool = False
    best_of: Callable[[Mapping[str, float], Settings], float] | None = None


@dataclass(frozen=True)
class Series:
    """A quantity that a trace can have for each token of a response.

    name: its key in `TokenTrace.series`. short: the head of a column. title, help: what it is. dispensable: its column
    is the first to go where there is little room. of: what it is of, as a heading above the columns that share it.
    """

    name: str
    short: str
    title: str
    help: str
    dispensable: bool = False
    of: str = ""


_FED_WITH: dict[str, BatchKind] = {
    **dict.fromkeys(("data.texts", "data.text_column", "data.response_column"), "texts"),
    **dict.fromkeys(("data.chosen", "data.rejected", "data.chosen_column", "data.rejected_column"), "pairs"),
}
"""Settings of data that only methods read which are fed with such rows."""


class Settings(Protocol):
    """A run's settings, as far as a method looks at those of other sections."""

    @property
    def algorithm(self) -> AlgorithmConfig: ...
    @property
    def data(self) -> DataConfig: ...
    @property
    def sampling(self) -> SamplingConfig: ...
    @property
    def kl(self) -> KLConfig: ...
    @property
    def optimizer(self) -> OptimizerConfig: ...
    @property
    def train(self) -> TrainConfig: ...
    @property
    def sentinel(self) -> SentinelConfig: ...
    @property
    def rewards(self) -> Sequence[RewardSection]: ...


class AlgorithmConfig(Section):
    """The settings of a method, in the section [algorithm] of a preset; `kind` says which method."""

    kind: str

    title: ClassVar[str]
    """What people call it: "PPO"."""
    implementation: ClassVar[str]
    """module:Class of the `Algorithm`, imported when a run starts."""
    explanation: ClassVar[str]
    """How it works, in a paragraph for the help screen."""
    needs: ClassVar[Needs]
    """What it has in memory; a property where that depends on its settings."""
    scores_texts: ClassVar[bool] = False
    """Whether its heads say what a whole response is worth: it is exported as sequence classifiers, one a head."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What its steps measure, in the order in which they are offered."""
    held_out_metrics: ClassVar[tuple[Metric, ...]] = ()
    """What is measured on held-out rows, besides answers to them (`metrics.OF_HELD_OUT`): by the method itself, see
    `algorithms.base.MeasuresHeldOut`, or its objective there."""
    charts: ClassVar[tuple[str, ...]]
    """The metrics that its charts show until somebody chooses others, the most telling first."""
    conditions: ClassVar[tuple[Condition, ...]] = ()
    token_series: ClassVar[tuple[Series, ...]] = ()
    """What "see why" can show token by token, the most telling first."""
    comes_with: ClassVar[Mapping[str, str]] = {}
    """What those of its metrics need that not each step of each run has, for a chart that is empty."""
    troubles: ClassVar[Mapping[str, str]] = {}
    """What is seen to go wrong -> what helps, for the help screen."""
    glossary: ClassVar[Mapping[str, str]] = {}
    """Terms that the help screen explains besides those that every method has."""
    best_metric: ClassVar[str | None] = None
    """What `train.keep_best = "auto"` keeps the best checkpoint of, for want of a `best_held_out_metric`."""
    best_held_out_metric: ClassVar[str | None] = None
    """The same where something is held out and looked at: what is learnt by heart is no better for it."""
    learns_ties: ClassVar[bool] = False
    """Of a method that is fed with pairs: whether it learns from those of which neither is better, which a column `tie`
    then tells. Others are given pairs with a winner alone."""
    learning_rates: ClassVar[tuple[str, ...]] = ("optimizer.learning_rate",)
    """Settings that a roll-back lowers."""
    basic_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that the form shows first."""
    labels: ClassVar[Mapping[str, str]] = {}
    """path -> short name, of shared settings that mean something of their own to it."""
    unused: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the paths of shared settings that it does not read: "kl.", "probe."."""

    @classmethod
    def __pydantic_init_subclass__(cls, **options: Any) -> None:
        super().__pydantic_init_subclass__(**options)
        for metric in (*getattr(cls, "metrics", ()), *cls.held_out_metrics):
            metrics.register(metric)

    @property
    def rows_per_step(self) -> int:
        """Prompts, texts or pairs that one step takes."""
        raise NotImplementedError

    @property
    def learned_per_step(self) -> int:
        """Responses, texts or pairs that one step learns from: more than its rows where each is answered often."""
        return self.rows_per_step

    @property
    def rows_per_update(self) -> int:
        """Responses, texts or pairs that one optimizer step learns from."""
        return self.rows_per_step

    @property
    def longest_pair(self) -> int | None:
        """Tokens that a response of a pair may have with its prompt; pairs with longer ones are left out, as are those
        beyond the model's context. None: how much of a pair is read, the method says itself."""
        return None

    def uses(self, path: str) -> bool:
        """Whether the method reads the setting at `path`."""
        fed_with = _FED_WITH.get(path)
        if path.startswith(self.unused) or (fed_with is not None and fed_with != self.needs.batch):
            return False
        if path.startswith("sentinel.") and path not in ("sentinel.enabled", "sentinel.window"):
            return any(path in condition.settings for condition in self.conditions)
        return True

    def best_metric_of(self, config: Settings) -> str | None:
        """The metric of which the best checkpoint is kept under `config`, if nobody chose one. As long as a
        held-out one has never been measured (nothing held out fits it), checkpoints go by `best_metric`."""
        if self.best_held_out_metric and config.data.holds_out and config.data.evaluate_every:
            return self.best_held_out_metric
        return self.best_metric

    def require_answers(self) -> None:
        """Raises RunError where what is trained answers no prompts; see `Needs.answers`."""
        if not self.needs.answers:
            others = "to generate with or to compare" if self.scores_texts else (
                "to generate with, to compare or to export")
            raise RunError(f"What {self.title} trains answers no prompts: there is nothing {others}.")

    def require_fit(self, config: Settings) -> None:
        """Raises ValueError for settings elsewhere in `config` that it cannot work with."""

    def advice(self, config: Settings) -> list[str]:
        """One sentence for each combination of settings that does nothing, or not what it seems to."""
        return []

    def summary(self, config: Settings) -> str:
        """One line for a model card."""
        return self.title

    def about_token(self, trace: TokenTrace, index: int, token: str) -> str:
        """Why the update does what it does with a token, in sentences; what it does first. token: how it is shown."""
        told = [f"{item.title} {signed_number(trace.series[item.name][index])}" for item in self.token_series
                if item.name in trace.series]
        return f"{token}: {', '.join(told)}." if told else token

    def title_of(self, series: Series, trace: TokenTrace) -> str:
        """What to call a series, where the trace has more to say of it than its name."""
        return series.title

    def about_credit(self, kl_coef: float) -> str:
        """One line that says what sets its advantages and pushes apart from those of other methods: baseline,
        normalization, where the KL stands, what is clipped. kl_coef: β. See `algorithms.credit.AssignsCredit`."""
        return ""

    def require_sound_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Raises ValueError naming the first number of a checkpoint that no run of this method has."""

    def forked_numbers(self, numbers: Mapping[str, Any], before: Settings, after: Settings) -> dict[str, Any]:
        """A checkpoint's numbers for a fork that goes on under other settings."""
        return dict(numbers)
