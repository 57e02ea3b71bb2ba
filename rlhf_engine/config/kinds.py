"""Which methods and rewards there are, by `kind`: those that ship with us, and those of other packages.

A package names its `AlgorithmConfig` or `RewardSection` in its own pyproject.toml:

    [project.entry-points."rlhf_tui.algorithms"]
    my_method = "my_package.my_method:MyMethodConfig"

    [project.entry-points."rlhf_tui.rewards"]
    my_reward = "my_package.my_reward:MyRewardConfig"
"""

from __future__ import annotations

from typing import Any

from rlhf_engine.config.classifier import ClassifierRewardConfig
from rlhf_engine.config.methods.base import AlgorithmConfig
from rlhf_engine.config.methods.dpo import DPOConfig
from rlhf_engine.config.methods.grpo import GRPOConfig
from rlhf_engine.config.methods.online_dpo import OnlineDPOConfig
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.config.methods.reinforce import ReinforceConfig
from rlhf_engine.config.methods.reward_model import RewardModelConfig
from rlhf_engine.config.methods.rloo import RLOOConfig
from rlhf_engine.config.methods.sft import SFTConfig
from rlhf_engine.config.packages import Kinds
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.rewards import (
    FunctionRewardConfig,
    LengthRewardConfig,
    RewardSection,
    WordListRewardConfig,
)
from rlhf_engine.config.verifiable import AnswerRewardConfig, RegexRewardConfig

DEFAULT = "ppo"
_METHODS: Kinds[AlgorithmConfig] = Kinds("rlhf_tui.algorithms", AlgorithmConfig, "algorithm", {
    "ppo": PPOConfig, "grpo": GRPOConfig, "rloo": RLOOConfig, "reinforce": ReinforceConfig, "dpo": DPOConfig,
    "online_dpo": OnlineDPOConfig, "sft": SFTConfig, "reward_model": RewardModelConfig}, DEFAULT)
_REWARDS: Kinds[RewardSection] = Kinds("rlhf_tui.rewards", RewardSection, "reward", {
    "word_list": WordListRewardConfig, "length": LengthRewardConfig, "function": FunctionRewardConfig,
    "regex": RegexRewardConfig, "answer": AnswerRewardConfig, "classifier": ClassifierRewardConfig,
    "preference": PreferenceRewardConfig})


def algorithm_kinds() -> dict[str, type[AlgorithmConfig]]:
    """The settings of every method by its kind, ours first."""
    return _METHODS.all()


def algorithm_kind(kind: str) -> type[AlgorithmConfig]:
    """The settings of the method called `kind`. Raises ValueError saying which there are."""
    return _METHODS.one(kind)


def algorithm_from(value: Any) -> Any:
    """A table [algorithm] as the settings of its method; see `Kinds.read`."""
    return _METHODS.read(value)


def reward_kinds() -> dict[str, type[RewardSection]]:
    """The settings of every reward by its kind, ours first."""
    return _REWARDS.all()


def reward_kind(kind: str) -> type[RewardSection]:
    """The settings of the reward called `kind`. Raises ValueError saying which there are."""
    return _REWARDS.one(kind)


def reward_from(value: Any) -> Any:
    """A table [[rewards]] as the settings of its kind; see `Kinds.read`."""
    return _REWARDS.read(value)
