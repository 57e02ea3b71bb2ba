"""What each method holds beside PPO, counted in bytes: weights that learn with their optimizers, and live tensors."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import stir, tiny_config
from torch.utils._python_dispatch import TorchDispatchMode

from rlhf_engine.algorithms.base import Algorithm, Resources, make_algorithm
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import load_data
from rlhf_engine.models.policy import Policy

PROMPTS = ["Once", "There", "A fox", "Long ago"]
WORDS = " a fox ran home"  # about as many tokens as responses have that are sampled
SIZES: dict[str, dict[str, int]] = {
    "ppo": {"responses_per_step": 8, "minibatch_size": 8, "epochs": 1},
    "grpo": {"responses_per_step": 8, "minibatch_size": 8, "group_size": 2},
    "rloo": {"responses_per_step": 8, "minibatch_size": 8, "group_size": 2},
    "reinforce": {"responses_per_step": 8, "minibatch_size": 8},
    "dpo": {"pairs_per_step": 4},
    "sft": {"texts_per_step": 8, "minibatch_size": 8},
}


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors that were alive at once, of those that came to be inside it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                key, size = storage._cdata, storage.nbytes()
                if key not in self._known:
                    self._known.add(key)
                    self.now += size
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, key, size)
        return made

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def config_of(folder: Path, kind: str, coef: float = 0.3) -> RunConfig:
    sections = tiny_config(folder, sampling={"max_new_tokens": 16}, kl={"coef": coef},
                           train={"micro_batch_size": 4}).model_dump()
    sections["algorithm"] = {"kind": kind, **SIZES[kind]}
    rows = (PROMPTS * 2)[:8]
    sections["data"] = {"prompts": rows, "shuffle": False}
    if kind == "dpo":
        sections["data"] = {"prompts": PROMPTS, "chosen": [WORDS] * 4, "rejected": [WORDS[::-1]] * 4, "shuffle": False}
    if kind == "sft":
        sections["data"] |= {"texts": [prompt + WORDS for prompt in rows]}
    return RunConfig.model_validate(sections)


def made(config: RunConfig) -> tuple[Policy, Algorithm]:
    policy = Policy.from_config(config)
    stir(policy)
    policy.end_ids = ()  # all responses are equally long
    return policy, make_algorithm(config, Resources.of(policy, config))


def stepped(config: RunConfig) -> tuple[int, int]:
    """Bytes of what learns, with its optimizer and gradients; and the most bytes alive during a second step."""
    policy, algorithm = made(config)
    rows = load_data(config).train
    batch = rows.batch(range(config.algorithm.rows_per_step))
    algorithm.step(1, batch, lambda phase, fraction: None)
    held = sum(tensor.numel() * tensor.element_size() for tensor in algorithm.state().tensors.values())
    held += sum(p.grad.numel() * p.grad.element_size() for p in policy.parameters.values() if p.grad is not None)
    gc.collect()
    with LiveBytes() as live:
        algorithm.step(2, batch, lambda phase, fraction: None)
    return held, live.most


def test_live_bytes_are_counted_as_they_come_and_go() -> None:
    with LiveBytes() as live:
        first = torch.zeros(1000)
        view = first[:10]
        assert live.now == live.most == 4000
        del first, view
        second = torch.zeros(500)
        assert (live.now, live.most) == (2000, 4000)
        del second
    assert live.now == 0


def test_methods_without_a_critic_hold_less_than_ppo(model_folders: dict[str, Path]) -> None:
    found = {kind: stepped(config_of(model_folders["gpt_neo"], kind)) for kind in SIZES}
    held, live = found.pop("ppo")
    for kind, (own, alive) in found.items():
        assert own < 0.6 * held, kind  # one adapter where PPO has two, and a head
        assert alive < live, kind


@pytest.mark.parametrize("kind", ["grpo", "rloo", "reinforce", "sft"])
def test_a_method_that_needs_no_reference_asks_none(model_folders: dict[str, Path], kind: str) -> None:
    config = config_of(model_folders["gpt_neo"], kind, coef=0.0)
    policy, algorithm = made(config)
    roles: list[str] = []
    real = policy.log_probs

    def log_probs(role: str, *given: Any, **options: Any) -> Any:
        roles.append(role)
        return real(role, *given, **options)

    policy.log_probs = log_probs  # type: ignore[method-assign]
    batch = load_data(config).train.batch(range(config.algorithm.rows_per_step))
    result = algorithm.step(1, batch, lambda phase, fraction: None)
    assert "reference" not in roles
    assert "objective/kl" not in result.metrics
    assert not any("reference_log_probs" in sample.trace.series for sample in result.samples if sample.trace)
