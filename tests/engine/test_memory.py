"""Out of memory: half as many responses at once, the same gradients, and a sentence for the user."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_models import make_ppo, tiny_config

from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import ModelError
from rlhf_engine.events import ComparisonFinished, Event, GenerationFinished, Notice, RunState, StepFinished
from rlhf_engine.models.memory import MicroBatchLimit, out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import Compare, Generate, Request, RunConfig
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

CPU_FULL = RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you "
                        "tried to allocate 1000000000000 bytes. Error code 12 (Cannot allocate memory)")
PROMPTS = ["Once", "There was a", "x", "Long ago"] * 2


def test_what_torch_raises_without_memory_is_known() -> None:
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))
    assert out_of_memory(CPU_FULL)
    assert out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"))
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60, dtype=torch.float32)
    assert out_of_memory(real.value)


def gradients(ppo: PPO) -> list[torch.Tensor]:
    """Of the first actor and the first critic update of a step."""
    found: list[torch.Tensor] = []
    for optimizer, parameters in ((ppo.critic.optimizer, ppo.policy.adapters["critic"]),
                                  (ppo.actor.optimizer, ppo.policy.adapters["actor"])):
        clip = optimizer.clip

        def keep(most: float, clip: object = clip, parameters: dict = parameters) -> torch.Tensor:
            found.extend(p.grad.clone() for p in parameters.values())
            return clip(most)  # type: ignore[operator]

        optimizer.clip = keep  # type: ignore[method-assign]
    ppo.step(1, PromptBatch(PROMPTS))
    return found


def make(folder: Path, told: list[str], level: str) -> PPO:
    ppo = {"responses_per_step": 8, "minibatch_size": 8, "epochs": 1, "level": level}
    config = tiny_config(folder, algorithm=ppo)
    return make_ppo(config, told.append)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), CPU_FULL], ids=["gpu", "cpu"])
@pytest.mark.parametrize("place", ["log_probs", "head_values"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_twice_out_of_memory_changes_no_gradient(
    model_folders: dict[str, Path], error: Exception, place: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = gradients(make(model_folders["gpt_neo"], [], level))
    told: list[str] = []
    ppo = make(model_folders["gpt_neo"], told, level)
    whole, calls = getattr(ppo.policy, place), []

    def tight(*given: object, **options: object) -> object:
        if torch.is_grad_enabled():
            calls.append(ppo.on_policy.limit.size)
            if calls in ([8], [8, 4, 4]):  # at once, and with half of the gradient summed up
                raise error
        return whole(*given, **options)

    monkeypatch.setattr(ppo.policy, place, tight)
    disturbed = gradients(ppo)
    assert calls[:4] == [8, 4, 4, 2]
    halved = [text for text in told if "out of memory" in text]
    assert len(halved) == 2
    assert "out of memory with 8 responses at once: from now on 4" in halved[0]
    assert len(undisturbed) == len(disturbed)
    norm = float(torch.stack([a.norm() for a in undisturbed]).norm())
    for a, b in zip(undisturbed, disturbed, strict=True):
        assert float((a - b).abs().max()) <= 1e-6 * max(1.0, norm)


def test_when_one_response_is_too_much_the_user_is_told_what_to_lower() -> None:
    def never() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    told: list[str] = []
    with pytest.raises(ModelError, match=r"one response at a time.*max_new_tokens"):
        MicroBatchLimit(6, told.append).fit(never)
    assert len(told) == 3  # 6, 3, 2, 1


def test_the_user_sees_it_and_the_run_goes_on(model_folders: dict[str, Path], tmp_path: Path,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(model_folders["gpt_neo"])
    events: list[Event] = []
    values, failures = Policy.head_values, [torch.OutOfMemoryError("CUDA out of memory")]

    def once_too_much(*given: object, **options: object) -> object:
        if failures:
            raise failures.pop()
        return values(*given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "head_values", once_too_much)
    run_dir = RunDir.create(tmp_path, config)
    assert Trainer(config, run_dir=run_dir, emit=events.append).run() is RunState.FINISHED
    assert [event.text for event in events if isinstance(event, Notice) and "out of memory" in event.text] == [
        "out of memory with 4 responses at once: from now on 2, with the same result; train.micro_batch_size = 2 "
        "would begin so"]
    assert sum(isinstance(event, StepFinished) for event in events) == 3


@pytest.mark.parametrize("request_of", [
    lambda config: Generate(1, config, "Once", tuned=True, temperature=1.0, max_new_tokens=4, seed=0),
    lambda config: Compare(1, config, responses=2, seed=0),
])
def test_a_question_too_large_is_refused_and_the_run_goes_on(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, request_of: Callable[[RunConfig], Request]
) -> None:
    def full(*given: object, **options: object) -> object:
        raise CPU_FULL

    monkeypatch.setattr("rlhf_engine.evaluation.generate._response_kl", full)
    config, events = tiny_config(model_folders["gpt_neo"]), []
    trainer = Trainer(config, run_dir=None, emit=events.append)
    trainer.requests.ask(request_of(config))
    assert trainer.run() is RunState.FINISHED
    (answer,) = [event for event in events if isinstance(event, GenerationFinished | ComparisonFinished)]
    assert "out of memory: ask for fewer tokens" in answer.error


def test_no_memory_to_sample_in_is_one_sentence(model_folders: dict[str, Path],
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: object) -> object:
        raise CPU_FULL

    monkeypatch.setattr(Policy, "next_logits", full)
    trainer = Trainer(tiny_config(model_folders["gpt_neo"]), run_dir=None, emit=lambda event: None)
    with pytest.raises(ModelError, match=r"while sampling: lower algorithm.responses_per_step"):
        trainer.run()
