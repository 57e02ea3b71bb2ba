"""Every method on a tiny model, as tests on a GPU and on one that is none let it learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tiny_models import stir, tiny_config

from rlhf_engine.algorithms.base import Resources, make_algorithm
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import RunData, load_data
from rlhf_engine.data.source import BatchSource
from rlhf_engine.models.policy import Policy

PROMPTS = ["Once", "There was a", "x", "Long ago"]
PAIRS = {"prompts": PROMPTS, "chosen": [" a fox ran", " cat", " and on", " b"],
         "rejected": [" man", " woman slept all day", "y", " no"]}
TEXTS = {"texts": ["Once upon a time", "There was a dog.", "x y z", "Long ago and far"]}
GROUPS = {"responses_per_step": 8, "group_size": 2, "minibatch_size": 4}
METHODS: dict[str, dict[str, Any]] = {
    "ppo": {"kind": "ppo", "responses_per_step": 8, "minibatch_size": 4, "epochs": 2},
    "ppo, sequence": {"kind": "ppo", "level": "sequence", "responses_per_step": 8, "minibatch_size": 4, "epochs": 1,
                      "importance_sampling_cap": 2.0},
    "grpo": {"kind": "grpo", "epochs": 1, **GROUPS},
    "grpo, by token": {"kind": "grpo", "loss_normalization": "token", "mask_truncated": True,
                       "drop_equal_groups": True, "ratio_level": "sequence", **GROUPS},
    "rloo": {"kind": "rloo", **GROUPS},
    "reinforce": {"kind": "reinforce", "responses_per_step": 8, "minibatch_size": 4},
    "online_dpo": {"kind": "online_dpo", **GROUPS},
    "dpo": {"kind": "dpo", "pairs_per_step": 4},
    "dpo, averaged": {"kind": "dpo", "pairs_per_step": 4, "average_log_probs": True, "loss": "ipo"},
    "sft": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4},
    "sft, packed": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4, "packing": True},
    "reward_model": {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6},
    "reward_model, ensemble": {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6, "members": 2,
                               "reads": "mean"},
}

# how often the CPU waits in a step: at the end of a rollout, to see whether what was evaluated is finite, once an
# update, and for what is told. More of it lets a card stand still: lower it where you can
MOST_WAITS = {"ppo": 26, "ppo, sequence": 23, "grpo": 19, "grpo, by token": 18, "rloo": 20, "reinforce": 20,
              "online_dpo": 19, "dpo": 12, "dpo, averaged": 12, "sft": 5, "sft, packed": 6, "reward_model": 10,
              "reward_model, ensemble": 13}


def config_of(folder: Path, method: str = "ppo", *, device: str = "cuda", dtype: str = "float32", **sections: Any
              ) -> RunConfig:
    made = tiny_config(folder, model={"device": device, "dtype": dtype}, train={"steps": 4}).model_dump()
    made["algorithm"] = METHODS[method]
    for kinds, data in ((("dpo", "reward_model"), PAIRS), (("sft",), TEXTS)):
        if METHODS[method]["kind"] in kinds:
            made |= {"data": data, "rewards": []}
    for name, values in sections.items():
        made[name] = made[name] | values
    return RunConfig.model_validate(made)


def learner_of(config: RunConfig) -> tuple[Any, RunData]:
    policy, data = Policy.from_config(config), load_data(config)
    stir(policy)
    return make_algorithm(config, Resources.of(policy, config)), data


def step(learner: Any, data: RunData, number: int) -> dict[str, float]:
    batch = BatchSource(data.train, learner.config).batch(number - 1)
    result = learner.step(number, batch, lambda phase, fraction: None)
    assert result.nonfinite == ""
    return {name: value for name, value in result.metrics.items() if not name.startswith(("time/", "throughput/"))}
