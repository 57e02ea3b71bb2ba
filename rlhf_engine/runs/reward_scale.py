"""How many nats of log-odds a unit of a run's scores is, read from files alone. No torch here; where the rewards are in
memory they say it themselves (`rewards.base.TellsOdds`)."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from statistics import fmean

from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.runs.checkpoint_list import STATE, candidates, step_of
from rlhf_engine.runs.reward_versions import ABOUT, versions_of
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import read_object
from rlhf_engine.runs.run_settings import settings_now


def recorded_log_odds(run_dir: RunDir) -> float | None:
    """Of the scores that a run has recorded: by its reward model, if that alone rewards it, and 1 by other rewards.
    None where it is not known, or a reward model has become another one meanwhile, with a scale of its own. Raises
    RlhfError where the run's settings cannot be read."""
    counting = [reward for reward in settings_now(run_dir).rewards if reward.weight]
    if len(counting) != 1 or not isinstance(reward := counting[0], PreferenceRewardConfig):
        return 1.0
    if not all(version.refused for version in versions_of(run_dir)):
        return None
    with suppress(RlhfError, OSError, KeyError, TypeError, ValueError):
        return fmean(float(value) for value in _scale(reward)) / reward.weight
    return None


def _scale(reward: PreferenceRewardConfig) -> list[float]:
    folder = Path(reward.model)
    if (folder / ABOUT).is_file():
        return list(read_object(folder / ABOUT)["scale"])
    path = next((path for path in candidates(RunDir(folder)) if step_of(path) == reward.step), folder)
    return list(read_object(path / STATE)["numbers"]["scale"])
