"""Everything a run is told: one pydantic model, from which the form, `--set`, the presets and the docs all come.

Unknown keys are refused. What reads each field is pinned by a test: there is no flag without a reader.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator
from pydantic_core import InitErrorDetails

from rlhf_engine.config.data import DataConfig
from rlhf_engine.config.gold import AUTO
from rlhf_engine.config.kinds import algorithm_from, reward_from
from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.config.rewards import RewardSection
from rlhf_engine.config.section import MOST_LETTERS, Section, setting
from rlhf_engine.config.sections import (
    KLConfig,
    LoraConfig,
    ModelConfig,
    OptimizerConfig,
    ProbeConfig,
    SamplingConfig,
    SentinelConfig,
    TrainConfig,
)
from rlhf_engine.errors import short

MOST_REWARDS = 100


class RunConfig(Section):
    """A whole run, as a preset or a run directory states it."""

    description: str = setting("", "one line, shown in the list of presets", max_length=MOST_LETTERS)
    data: DataConfig = Field(default_factory=DataConfig)
    model: ModelConfig = Field(default_factory=ModelConfig)
    lora: LoraConfig = Field(default_factory=LoraConfig)
    sampling: SamplingConfig = Field(default_factory=SamplingConfig)
    algorithm: Annotated[SerializeAsAny[AlgorithmConfig], BeforeValidator(algorithm_from)] = Field(
        default_factory=PPOConfig)
    kl: KLConfig = Field(default_factory=KLConfig)
    optimizer: OptimizerConfig = Field(default_factory=OptimizerConfig)
    train: TrainConfig = Field(default_factory=TrainConfig)
    sentinel: SentinelConfig = Field(default_factory=SentinelConfig)
    probe: ProbeConfig = Field(default_factory=ProbeConfig)
    rewards: list[Annotated[SerializeAsAny[RewardSection], BeforeValidator(reward_from)]] = Field(
        default_factory=list, max_length=MOST_REWARDS)

    @model_validator(mode="after")
    def _names_are_unique(self) -> RunConfig:
        names = Counter(reward.name for reward in self.rewards)
        twice = sorted(name for name, count in names.items() if count > 1)
        if twice:
            raise ValueError(f"two rewards are named {', '.join(twice)}; give each its own name")
        return self

    @model_validator(mode="after")
    def _gold_is_a_reward(self) -> RunConfig:
        gold, names = self.sentinel.gold, [reward.name for reward in self.rewards]
        if gold not in (None, AUTO, *names):
            there = f"; there are {', '.join(names)}" if names else ", for there are none"
            raise ValueError(f"sentinel.gold {short(repr(gold))} is the name of no reward{there}; auto takes the first "
                             "of weight 0")
        return self

    @model_validator(mode="after")
    def _method_has_what_it_needs(self) -> RunConfig:
        lists = {"prompts": ("prompts",), "texts": ("texts",), "pairs": ("prompts", "chosen", "rejected")}
        missing: list[tuple[str, ...]] = [
            ("data", name) for name in lists[self.algorithm.needs.batch]
            if self.data.source is None and not getattr(self.data, name)]
        if self.algorithm.needs.rewards and self.algorithm.uses("rewards.") and not self.rewards:
            missing.append(("rewards",))
        if missing:
            raise ValidationError.from_exception_data(
                "RunConfig", [InitErrorDetails(type="missing", loc=place, input=None) for place in missing])
        self.algorithm.require_fit(self)
        return self
