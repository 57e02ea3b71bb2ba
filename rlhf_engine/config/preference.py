"""The settings of a reward that a reward model gives, one that a run learnt from preferences."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import model_validator

from rlhf_engine.config.rewards import RewardSection, reward_name
from rlhf_engine.config.section import COUNT, MOST_LETTERS, setting

Begin = Literal["scratch", "weights"]
"""Where a refit begins."""


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
    labels: str | None = setting(
        None, "a label file (`rlhf-tui label`) that judgements are added to while the run trains; see refit_every",
        min_length=1, max_length=MOST_LETTERS, allowed="the name of a label file")
    refit_every: int | None = setting(
        None, "learn on from all pairs of labels, between two steps, as soon as that many judgements stand there that "
        "the model has not learnt from; none: never", unit="judgements", live=True, ge=1, le=COUNT,
        label="refit every")
    refit_from: Begin | None = setting(
        None, "where a refit begins: scratch, a fresh adapter and head, which learn from all pairs of labels as the "
        "model's own run did; weights, what the model is. None: scratch where it has learnt from labels alone, so that "
        "nothing is lost by it, and weights of others", live=True, label="refit from")
    refit_passes: int | None = setting(
        None, "times that a refit goes through all pairs; none: from scratch five times, but in no more optimizer "
        "steps than the model's own run has (train.steps), else once", unit="passes", live=True, ge=1, le=1000,
        label="refit passes")
    refit_learning_rate: float | None = setting(
        None, "learning rate of a refit; none: from scratch that of the model's own run, else a fifth of it", live=True,
        gt=0, le=1, label="refit learning rate")
    judgements: int | None = setting(
        None, "judgements of labels that the model has learnt from already, recorded when a run starts", ge=0, le=COUNT)
    version: str | None = setting(
        None, "what the model has become by learning on in this run, recorded with each refit: a number and the "
        "beginning of a digest; none: it is as it was", pattern="^[0-9]{3,6}-[0-9a-f]{12}$",
        allowed="a version of the run, such as 002-0123456789ab")
    refused: str | None = setting(
        None, "what the model would have become last, but for being worse on held-out pairs than it was, recorded when "
        "that was found; it does not reward", pattern="^[0-9]{3,6}-[0-9a-f]{12}$",
        allowed="a version of the run, such as 002-0123456789ab")
    version_folder: str | None = setting(
        None, "where the versions of the run lie; filled in when its settings are read", max_length=MOST_LETTERS,
        allowed="a folder")

    @model_validator(mode="after")
    def _refits_from_labels(self) -> PreferenceRewardConfig:
        if self.refit_every is not None and self.labels is None:
            raise ValueError("refit_every learns from new judgements; labels names the file that they are added to")
        return self


def labels_to_add_to(rewards: Iterable[RewardSection]) -> Path | None:
    """The label file that a reward model among these learns on from, the first if there are several; None if none
    does."""
    return next((Path(os.path.expanduser(reward.labels)) for reward in rewards
                 if isinstance(reward, PreferenceRewardConfig) and reward.labels and reward.refit_every), None)
