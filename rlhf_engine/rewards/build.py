"""From what a preset says about rewards to the rewards themselves."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from rlhf_engine.config.rewards import FunctionRewardConfig, LengthRewardConfig, RewardSection, WordListRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.verifiable import AnswerRewardConfig, RegexRewardConfig
from rlhf_engine.data.rows import read_rows
from rlhf_engine.errors import ConfigError, kind_and_message
from rlhf_engine.rewards.answer import AnswerReward
from rlhf_engine.rewards.base import Reward
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.rewards.function import FunctionReward, load_function
from rlhf_engine.rewards.length import LengthReward
from rlhf_engine.rewards.regex import RegexReward
from rlhf_engine.rewards.word_list import WordListReward
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir


def build_rewards(configs: Sequence[RewardSection]) -> RewardSum:
    """The weighted sum of all rewards. Raises ConfigError for settings that no reward can be made of."""
    return RewardSum([(_reward(config), config.weight) for config in configs])


def rewards_of(config: RunConfig) -> RewardSum:
    """The weighted sum of the rewards of `config`; those that see columns find these by the prompts in its data. Raises
    ConfigError for settings that no reward can be made of, and data that cannot be read."""
    rewards = build_rewards(config.rewards)
    if rewards.sees_columns:
        rewards.columns_of = read_rows(config).rows.columns_of
    return rewards


def rewards_if_any(config: RunConfig, run_dir: RunDir | None = None) -> tuple[RewardSum | None, str]:
    """For what needs no reward: the weighted sum, or None and one sentence that says why there are no scores (empty:
    nothing is rewarded). run_dir: the run that `config` was read from, whose code is not loaded if it is another
    user's."""
    try:
        if run_dir is not None:
            require_own_run(run_dir, config)
        return rewards_of(config) if config.rewards else None, ""
    except ConfigError as error:
        return None, f"no scores: {error}"


def _reward(config: RewardSection) -> Reward:
    match config:
        case WordListRewardConfig():
            return WordListReward(config)
        case LengthRewardConfig():
            return LengthReward(config)
        case RegexRewardConfig():
            return RegexReward(config)
        case AnswerRewardConfig():
            return AnswerReward(config)
        case FunctionRewardConfig():
            return FunctionReward(config.name, load_function(config))
    return _by_implementation(config)


def _by_implementation(config: RewardSection) -> Reward:
    """One of another package, or one of ours that loads a model: torch is imported only for these."""
    where, name = f"the reward {config.name!r} of kind {config.kind}", config.implementation
    module, _, attribute = name.partition(":")
    try:
        made: Reward = getattr(importlib.import_module(module), attribute)(config)
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code
        raise ConfigError(f"{where} cannot be made by {name!r} ({kind_and_message(error)})") from error
    if getattr(made, "name", None) != config.name or not callable(getattr(made, "score", None)):
        raise ConfigError(f"{where}: {name!r} must have a `score`, and the name of its settings as `name`")
    return made
