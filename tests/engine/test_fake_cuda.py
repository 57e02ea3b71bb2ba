"""Every method on a card that is none: no tensor of the CPU meets one of the card, and the CPU waits where it must.

See `fake_cuda` for what that shows. What a true card does stands in `test_cuda`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_architectures import save_architecture
from tiny_models import look_at_all_positions, save_tiny_model, stir, tiny_config

from engine.fake_cuda import CudaTensor, DeviceMismatch, FakeCuda, Wait, sites
from rlhf_engine.algorithms.base import Algorithm, MeasuresHeldOut, Resources, make_algorithm
from rlhf_engine.algorithms.passes import evaluate
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.data.rows import RunData, load_data
from rlhf_engine.data.source import BatchSource
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.evaluation.method_comparison import compare_methods
from rlhf_engine.models.choice import INVERSE_CDF
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a true card: see test_cuda")

HOT = SamplingConfig(max_new_tokens=12, temperature=6.0)
PROMPTS = ["Once", "There was a", "x", "Long ago"]
PAIRS = {"prompts": PROMPTS, "chosen": [" a fox ran", " cat", " and on", " b"],
         "rejected": [" man", " woman slept all day", "y", " no"]}
TEXTS = {"texts": ["Once upon a time", "There was a dog.", "x y z", "Long ago and far"]}
GROUPS = {"responses_per_step": 8, "group_size": 2, "minibatch_size": 4}
METHODS: dict[str, dict[str, Any]] = {
    "ppo": {"kind": "ppo", "responses_per_step": 8, "minibatch_size": 4, "epochs": 2},
    "ppo, sequence": {"kind": "ppo", "level": "sequence", "responses_per_step": 8, "minibatch_size": 4, "epochs": 2,
                      "importance_sampling_cap": 2.0},
    "grpo": {"kind": "grpo", "epochs": 2, **GROUPS},
    "grpo, by token": {"kind": "grpo", "loss_normalization": "token", "mask_truncated": True,
                       "drop_equal_groups": True, "ratio_level": "sequence", **GROUPS},
    "rloo": {"kind": "rloo", **GROUPS},
    "reinforce": {"kind": "reinforce", "responses_per_step": 8, "minibatch_size": 4},
    "online_dpo": {"kind": "online_dpo", **GROUPS, "minibatch_size": 2},
    "dpo": {"kind": "dpo", "pairs_per_step": 4},
    "dpo, averaged": {"kind": "dpo", "pairs_per_step": 4, "average_log_probs": True, "loss": "ipo"},
    "sft": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4},
    "sft, packed": {"kind": "sft", "texts_per_step": 4, "minibatch_size": 4, "packing": True},
    "reward_model": {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6},
    "reward_model, ensemble": {"kind": "reward_model", "pairs_per_step": 4, "reference_samples": 6, "members": 2,
                               "reads": "mean"},
}


@pytest.fixture
def card() -> Iterator[FakeCuda]:
    with FakeCuda() as there:
        yield there
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("fake_cuda")
    return {name: save_tiny_model(root / name, name) for name in ("gpt_neo", "llama")} | {
        name: save_architecture(root / name, name) for name in ("gemma2", "mistral")}


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


def learner_of(config: RunConfig) -> tuple[Algorithm, RunData]:
    policy, data = Policy.from_config(config), load_data(config)
    stir(policy)
    return make_algorithm(config, Resources.of(policy, config)), data


def step(learner: Algorithm, data: RunData, config: RunConfig, number: int) -> dict[str, float]:
    batch = BatchSource(data.train, config).batch(number - 1)
    result = learner.step(number, batch, lambda phase, fraction: None)
    assert result.nonfinite == ""
    return {name: value for name, value in result.metrics.items() if not name.startswith(("time/", "throughput/"))}


def numbers_of(config: RunConfig, steps: int = 2) -> list[dict[str, float]]:
    """What each step measures, and at the end what it measures on held-out rows."""
    learner, data = learner_of(config)
    found = [step(learner, data, config, number) for number in range(1, steps + 1)]
    if isinstance(learner, MeasuresHeldOut):
        found.append(learner.measure_held_out(data.train))
    assert learner.computes()
    learner.state()
    return found


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_on_a_card_what_it_learns_on_the_cpu(
    folders: dict[str, Path], card: FakeCuda, method: str
) -> None:
    ours, cpus = (numbers_of(config_of(folders["llama"], method, device=device)) for device in ("cuda", "cpu"))
    for one, other in zip(ours, cpus, strict=True):
        assert one == pytest.approx(other, rel=2e-3, abs=2e-3)


@pytest.mark.parametrize("method", ["ppo", "sft, packed", "reward_model", "dpo"])
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gemma2", "mistral"])
def test_half_precision_and_other_models_learn_there_too(
    folders: dict[str, Path], card: FakeCuda, architecture: str, method: str
) -> None:
    numbers_of(config_of(folders[architecture], method, dtype="bfloat16"))
