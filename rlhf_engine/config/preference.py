"""The settings of a reward that a reward model gives, one that a run learnt from preferences."""

from __future__ import annotations

from typing import ClassVar, Literal

from rlhf_engine.config.rewards import RewardSection, reward_name
from rlhf_engine.config.section import COUNT, MOST_LETTERS, setting


class PreferenceRewardConfig(RewardSection):
    """What a reward model of yours says: a run of kind reward_model, or its exported folder."""

    implementation: ClassVar = "rlhf_engine.rewards.preference:PreferenceReward"

    kind: Literal["preference"] = "preference"
    name: str = reward_name("preference")
    model: str = setting(
        ..., "a run that trained a reward model (a name in runs/, or its directory), or a folder that one was exported "
        "to", min_length=1, max_length=MOST_LETTERS, allowed="the name of a run, a run's directory, or a folder")
    step: int | None = setting(None, "its checkpoint of that step; none: the best, or else the newest", ge=0, le=COUNT)
    aggregate: Literal["mean", "min", "mean_minus_deviation"] = setting(
        "mean", "what several members make of a response: their mean, the lowest (cautious: nothing is liked that one "
        "of them does not), or the mean less deviation_factor times their standard deviation", live=True)
    deviation_factor: float = setting(1.0, "λ of mean_minus_deviation", live=True, ge=0, le=100,
                                      label="deviation factor")
    sha256: str | None = setting(
        None, "digest of the reward model, recorded when a run starts; a run that is resumed does not go on with "
        "another one", pattern="^[0-9a-f]{64}$", allowed="64 hexadecimal digits")
