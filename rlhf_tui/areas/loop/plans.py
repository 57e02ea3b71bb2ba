"""The runs that the next stages of a loop begin. Reads presets, so not for the screen's thread."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.config import fields, presets
from rlhf_engine.config.preset_writer import to_toml
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError, RunError
from rlhf_engine.pipelining.loop import REWARD_MODEL, LoopState
from rlhf_engine.pipelining.stages import (
    POLICY_PRESET,
    REWARD_PRESET,
    learns_from_a_reward_model,
    policy_config,
    reward_settings,
    rewarded_by,
)


@dataclass(frozen=True)
class PlannedRun:
    """preset: what the config came from. name: of the run; None for one that is free."""

    config: RunConfig
    preset: str
    name: str | None = None


def answering(state: LoopState, edited: RunConfig, preset: str) -> RunConfig:
    """Whose answers are judged, and the rewards that guess. Raises RlhfError.

    edited, preset: the settings on the workbench, and where they came from. A label file that is called after another
    preset holds that one's answers. No answers come from a reward model; but once there is one of these labels it is
    what guesses, for that is what is to learn what a person likes.
    """
    if state.loop.pipeline and state.plan:
        config = policy_config(state.loop.pipeline, state.plan, state.rounds_done + 1)
    else:
        config, named = edited, state.loop.labels.stem
        if named != Path(preset).stem:
            with suppress(ConfigError):  # called after a run, say
                config = presets.load(named)
        config = presets.load(POLICY_PRESET) if config.algorithm.kind == REWARD_MODEL else config
    if state.reward is None or not state.reward.finished:
        return config
    learns = config if learns_from_a_reward_model(config) else presets.load(POLICY_PRESET)
    return config.model_copy(update={"rewards": rewarded_by(learns, state.reward.summary.path).rewards})


def reward_model(state: LoopState, edited: RunConfig, edited_preset: str) -> PlannedRun:
    """A reward model of the labels, on the base of those whose answers were judged. Raises RlhfError."""
    if state.plan:
        preset, name = state.plan.reward_preset, state.name_of("reward")
        return PlannedRun(presets.load_with_overrides(preset, reward_settings(state.loop.labels, state.plan)), preset,
                          name)
    config, base = presets.load(REWARD_PRESET).model_dump(), answering(state, edited, edited_preset)
    data = config["data"] | {"source": str(state.loop.labels.resolve()), "chat_template": base.data.chat_template,
                             "system": base.data.system}
    own = {"data": data, "model": base.model.model_dump(), "lora": base.lora.model_dump()}
    return PlannedRun(fields.validate(config | own), REWARD_PRESET)


def policy(state: LoopState, edited: RunConfig, preset: str) -> PlannedRun:
    """A policy that the newest reward model rewards. preset: of `edited`. Raises RlhfError."""
    reward = state.reward
    if reward is None:
        raise RunError("There is no reward model yet.")
    pipeline, plan = state.loop.pipeline, state.plan
    if pipeline and plan:
        round_ = state.rounds_done + 1
        config = rewarded_by(policy_config(pipeline, plan, round_), reward.summary.path)
        pipeline.write_preset(round_, to_toml(config))
        return PlannedRun(config, str(pipeline.preset_of(round_)), state.name_of("policy"))
    if learns_from_a_reward_model(edited):
        return PlannedRun(rewarded_by(edited, reward.summary.path), preset)
    config = presets.load(POLICY_PRESET)
    base = config.model_dump() | {"model": reward.config.model.model_dump()}
    return PlannedRun(rewarded_by(fields.validate(base), reward.summary.path), POLICY_PRESET)
