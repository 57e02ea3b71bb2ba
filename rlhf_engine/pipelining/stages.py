"""What the runs of a loop are trained by. Nothing here imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rlhf_engine.config import fields, presets
from rlhf_engine.config.kinds import algorithm_kinds
from rlhf_engine.config.rewards import RewardSection
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ConfigError
from rlhf_engine.runs.pipeline_dir import PipelineDir, PipelinePlan

POLICY_PRESET, REWARD_PRESET = "human-feedback", "human-feedback-reward"
_OF_THE_BASE = ("model.", "lora.")
"""Settings that the reward model shares with the policy, so that both stand on one base."""


def reward_settings(labels: Path, plan: PipelinePlan) -> list[str]:
    """What a reward model of a pipeline has other than its preset, as `--set` takes it."""
    return [f"data.source={labels.resolve()}", f"train.seed={plan.seed}", *settings_of(plan, _OF_THE_BASE)]


def settings_of(plan: PipelinePlan, begins: tuple[str, ...]) -> list[str]:
    """The settings given to a pipeline whose paths begin so."""
    return [text for text in plan.settings if text.strip().startswith(begins)]


def learns_from_a_reward_model(config: RunConfig) -> bool:
    """Whether a reward model rewards it."""
    return any(reward.kind == "preference" for reward in config.rewards)


def rewarded_by(config: RunConfig, reward_model: Path) -> RunConfig:
    """The config with this run in the place of the reward models that it names. Raises ConfigError."""
    return fields.validate(config.model_dump() | {"rewards": [
        _rewarded(reward, str(reward_model.resolve())) if reward.kind == "preference" else reward.model_dump()
        for reward in config.rewards]})


def policy_config(pipeline: PipelineDir, plan: PipelinePlan, round_: int) -> RunConfig:
    """What the policy of a round is trained by: the preset, its preference rewards by the round's reward model, and the
    rater's rewards as gold. A method that learns from pairs gets those that were judged. Raises ConfigError."""
    given = [text.partition("=") for text in plan.settings]
    named = [value.strip() for path, _, value in given if path.strip() == fields.METHOD]
    kind, kinds = named[-1] if named else presets.load(plan.preset).algorithm.kind, algorithm_kinds()
    pairs = kind in kinds and kinds[kind](kind=kind).needs.batch == "pairs"
    source = [f"data.source={pipeline.labels.resolve()}"] if pairs else []
    config = presets.load_with_overrides(plan.preset, [*plan.settings, *source])
    reward_model = str((pipeline.root / pipeline.run_name(f"reward-{round_}")).resolve())
    learnt = [_rewarded(reward, reward_model) for reward in config.rewards if reward.kind == "preference"]
    gold = [reward.model_dump() | {"name": f"hidden-{reward.name}"[:32], "weight": 0.0}
            for reward in (presets.load(plan.rater).rewards if plan.rater else [])]
    changed = fields.validate(config.model_dump() | {"rewards": [*learnt, *gold]})
    if not learnt and not pairs:
        raise ConfigError(f"{plan.preset} has no reward of kind preference: nothing would be learnt from the labels")
    return changed


def _rewarded(reward: RewardSection, reward_model: str) -> dict[str, Any]:
    return reward.model_dump() | {"model": reward_model, "step": None, "sha256": None}
