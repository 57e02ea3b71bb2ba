"""Where the reward models lie that rewards name. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path

from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.runs.run_dir import DEFAULT_RUNS_ROOT


def folder_named(model: str) -> Path | None:
    """The folder that a reward of kind preference names by its `model`: a path, or a run's name; None if there is none.
    """
    try:
        return next((path for path in (Path(model).expanduser(), DEFAULT_RUNS_ROOT / model) if path.is_dir()), None)
    except (OSError, ValueError, RuntimeError):  # a NUL, a name too long, no home
        return None


def missing_reward_model(config: RunConfig) -> str:
    """The first reward model that the rewards name and that is not there; empty if none is missing. One that has
    learnt on in its run is the run's own."""
    return next((reward.model for reward in config.rewards
                 if isinstance(reward, PreferenceRewardConfig) and reward.version is None
                 and folder_named(reward.model) is None), "")
