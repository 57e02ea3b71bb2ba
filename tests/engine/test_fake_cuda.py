"""Every method on a card that is none: no tensor of the CPU meets one of the card, and the CPU waits where it must.

See `fake_cuda` for what that shows. What a true card does stands in `test_cuda`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from engine.fake_cuda import CudaTensor, DeviceMismatch, FakeCuda, Wait, sites
from engine.tiny_methods import METHODS, MOST_WAITS, PROMPTS, config_of, learner_of, step
from resumed_runs import resumable_from, timeless
from tiny_architectures import save_architecture
from tiny_models import save_tiny_model, stir

from rlhf_engine.algorithms.base import MeasuresHeldOut
from rlhf_engine.algorithms.passes import evaluate
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.data.source import BatchSource
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.evaluation.method_comparison import compare_methods
from rlhf_engine.events import RunState
from rlhf_engine.models.choice import INVERSE_CDF
from rlhf_engine.models.decoding.plain import PlainDecoder
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a true card: see test_cuda")

HOT = SamplingConfig(max_new_tokens=12, temperature=6.0)
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


def waits_of(card: FakeCuda, work: Callable[[], object]) -> list[Wait]:
    with card.watched() as waits:
        work()
    return waits


@pytest.mark.parametrize("method", METHODS)
def test_a_method_learns_there_what_it_learns_on_the_cpu_and_waits_seldom(
    folders: dict[str, Path], card: FakeCuda, method: str
) -> None:
    learner, data = learner_of(config_of(folders["llama"], method))
    cpus, _ = learner_of(config_of(folders["llama"], method, device="cpu"))
    assert step(learner, data, 1) == pytest.approx(step(cpus, data, 1), rel=1e-3, abs=1e-3)
    if hasattr(learner, "on_policy"):  # prepared decoding is checked in the first three rollouts
        batch = BatchSource(data.train, learner.config).batch(0)
        for _ in range(2):
            learner.on_policy.roll_out(batch.repeated(8 // len(batch.prompts)), lambda phase, fraction: None)
    seldom = waits_of(card, lambda: step(learner, data, 2))
    limit = learner.on_policy.limit if hasattr(learner, "on_policy") else learner.limit
    limit.size = max(1, limit.size // 2)
    more_passes = waits_of(card, lambda: step(learner, data, 3))
    assert len(more_passes) == len(seldom), sites(more_passes)
    assert len(seldom) <= MOST_WAITS[method], sites(seldom)
    if isinstance(learner, MeasuresHeldOut):
        learner.measure_held_out(data.train)
    assert learner.computes()
    learner.state()


@pytest.mark.parametrize(("architecture", "method"), [
    ("gpt_neo", "ppo"), ("gpt_neo", "sft, packed"), ("llama", "grpo"), ("llama", "dpo"), ("gemma2", "ppo"),
    ("gemma2", "reward_model"), ("mistral", "ppo"), ("mistral", "sft")])
def test_half_precision_and_other_models_learn_there_too(
    folders: dict[str, Path], card: FakeCuda, architecture: str, method: str
) -> None:
    learner, data = learner_of(config_of(folders[architecture], method, dtype="bfloat16"))
    for number in (1, 2):
        step(learner, data, number)


# --- rollouts and evaluations ---


def rolled(policy: Policy, tokens: int, decoder: Any, seed: int = 0) -> Rollout:
    sampling = HOT.model_copy(update={"max_new_tokens": tokens})
    return sample(policy, PROMPTS * 2, sampling, torch.Generator(policy.device).manual_seed(seed), decoder=decoder,
                  draw=INVERSE_CDF)


@pytest.mark.parametrize(("architecture", "kind"), [
    ("llama", "captured"), ("gpt_neo", "prepared"), ("gpt_neo", "plain"), ("gemma2", "prepared")])
def test_a_rollout_asks_the_card_for_nothing_between_its_tokens(
    folders: dict[str, Path], card: FakeCuda, architecture: str, kind: str
) -> None:
    policy = Policy.from_config(config_of(folders[architecture]))
    policy.end_ids = ()  # so that no response ends early
    decoder = PlainDecoder(policy) if kind == "plain" else PreparedDecoder(policy)
    for tokens in (1, 1, 1, 16, 34):  # what is prepared is checked in the first, and each shape is captured
        rolled(policy, tokens, decoder)
    few, many = (waits_of(card, partial(rolled, policy, tokens, decoder)) for tokens in (16, 34))
    if isinstance(decoder, PreparedDecoder):
        assert decoder.captures is not None
        assert (decoder.captures.why_not == "") == (kind == "captured")
    assert len(many) - len(few) <= 2, sites(many)  # after 16 and 32 tokens: have all rows ended?


def test_what_is_captured_samples_what_the_cpu_samples(folders: dict[str, Path], card: FakeCuda) -> None:
    sampled = []
    for device in ("cuda", "cpu"):
        policy = Policy.from_config(config_of(folders["llama"], device=device))
        decoder = PreparedDecoder(policy)
        for seed in range(3):
            stir(policy, seed)  # what is replayed must follow the adapters
            rollout = rolled(policy, 12, decoder, seed)
            sampled.append((rollout.responses, rollout.log_probs.cpu()))
        if device == "cuda":
            assert decoder.captures is not None
            assert decoder.captures.shapes != []
    for (ours, said), (cpus, by_cpu) in zip(sampled[:3], sampled[3:], strict=True):
        assert ours == cpus
        torch.testing.assert_close(said, by_cpu, atol=1e-5, rtol=1e-4)


def test_an_evaluation_asks_the_card_for_nothing(folders: dict[str, Path], card: FakeCuda) -> None:
    learner, _ = learner_of(config_of(folders["llama"]))
    rollout = rolled(learner.policy, 12, PreparedDecoder(learner.policy))
    assert rollout.lengths  # which are asked for once
    assert waits_of(card, lambda: evaluate(rollout, learner.forwards, 2)) == []


def test_what_stands_beside_a_run_answers_there(folders: dict[str, Path], card: FakeCuda) -> None:
    config = config_of(folders["llama"], data={"prompts": PROMPTS})
    policy = Policy.from_config(config)
    stir(policy)
    for tuned in (True, False):
        told = answer(policy, PROMPTS, config.sampling, tuned=tuned, seed=1, rewards=build_rewards(config.rewards))
        assert len(told) == len(PROMPTS)
    found = compare_methods(policy, config, "Once", responses=4, seed=1)
    assert found is not None
    assert len(found.methods) > 3


# --- a whole run ---


def test_a_resumed_run_is_the_run_there(
    folders: dict[str, Path], card: FakeCuda, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rlhf_engine.training.profiling.known_peak", lambda *_: 1e12)
    config = config_of(folders["llama"], train={"steps": 3, "checkpoint_every": 1},
                       data={"prompts": PROMPTS, "held_out_share": 0.25})
    whole = RunDir.create(tmp_path, config, name="whole")
    assert Trainer(config, run_dir=whole, emit=lambda event: None).run() is RunState.FINISHED
    cut = resumable_from(whole, 1, tmp_path / "cut")
    Trainer.resume(cut, emit=lambda event: None).run()
    assert timeless(cut) == timeless(whole)


def test_a_full_card_halves_what_goes_through_at_once_with_the_same_result(
    folders: dict[str, Path], card: FakeCuda
) -> None:
    roomy, tight = (learner_of(config_of(folders["llama"])) for _ in range(2))
    expected = step(*roomy, 1)
    tight[0].on_policy.roll_out(BatchSource(tight[1].train, tight[0].config).batch(0), lambda *_: None)
    tight[0].learners.sampling_generator.manual_seed(tight[0].config.train.seed)
    before, card.largest = tight[0].on_policy.limit.size, 40_000
    found = step(*tight, 1)
    assert tight[0].on_policy.limit.size < before
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-4)


def test_copies_of_weights_and_passes_take_what_a_card_has_left(folders: dict[str, Path], card: FakeCuda) -> None:
    policy = Policy.from_config(config_of(folders["llama"]))
    stir(policy)
    rows, copied = [], []
    for free in (20_000, 10**7, 10**9):
        card.free = free
        rows.append(choose_micro_batch_size(policy, 4096, 24))
        decoder, before = PreparedDecoder(policy, capture=lambda run, rewind: run), card.made_bytes
        sampled = rolled(policy, 4, decoder).responses
        assert sampled == rolled(policy, 4, PlainDecoder(policy)).responses, "either way the same is said"
        copied.append(card.made_bytes - before)
    assert rows == sorted(rows)
    assert rows[0] < rows[1] < rows[2]
    assert copied[0] < copied[2]


# --- the card itself ---


def test_a_cpu_tensor_is_refused_beside_one_of_the_card(card: FakeCuda) -> None:
    there, here = torch.ones(2, 3, device="cuda"), torch.ones(2, 3)
    assert (there + torch.tensor(2.0)).tolist() == [[3.0] * 3] * 2, "a number may stand beside it"
    for meet in (lambda: there + here, lambda: torch.cat([there, here]), lambda: here.gather(1, there.long()),
                 lambda: here[there.long()], lambda: there @ here.t(), lambda: torch.stack([there[0, 0], here[0, 0]])):
        with pytest.raises(DeviceMismatch):
            meet()


def test_a_wait_is_counted_where_the_cpu_needs_a_number_of_the_card(card: FakeCuda) -> None:
    there, rows = torch.arange(6.0, device="cuda").view(2, 3), torch.tensor([1])
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "item": (lambda: there[0, 1].item(), 1), "bool": (lambda: bool((there > 2).any()), 1),
        "list": (there.tolist, 1), "nonzero": (there.nonzero, 1), "mask": (lambda: there[there > 2], 1),
        "filled by a mask": (lambda: there.__setitem__(there < 0, 0.0), 0), "unique": (there.unique, 1),
        "rows of the CPU": (lambda: there[rows], 1), "list as index": (lambda: there[[0, 1]], 1),
        "rows brought there": (lambda: there[rows.to("cuda", non_blocking=True)], 0),
        "to": (lambda: rows.to("cuda"), 1), "made of numbers": (lambda: torch.tensor([1.0], device="cuda"), 1),
        "made there": (lambda: torch.full((2,), 1.0, device="cuda"), 0), "arithmetic": (lambda: there.sum() * 2, 0),
        "a number as index": (lambda: there[0][there[0].argmax()], 1), "taken": (lambda: there.take(there.argmax()), 0),
    }
    assert {name: len(waits_of(card, work)) for name, (work, _) in ways.items()} == {
        name: count for name, (_, count) in ways.items()}


def test_a_graph_does_again_what_was_captured_and_nothing_else(card: FakeCuda) -> None:
    count, other = torch.zeros(3, device="cuda"), torch.ones(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        count.add_(other * 2)
    assert count.tolist() == [0.0] * 3, "nothing is computed while it is captured"
    graph.replay()
    other.fill_(3.0)
    graph.replay()
    assert count.tolist() == [8.0] * 3
    for forbidden in (lambda: count.sum().item(), lambda: torch.tensor([1.0], device="cuda")):
        with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()):
            forbidden()


def test_parameters_that_are_one_stay_one_there(card: FakeCuda) -> None:
    model = torch.nn.ModuleList([torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)])
    model[1].weight = model[0].weight
    model.to("cuda")
    assert isinstance(model[0].weight, CudaTensor)
    assert model[0].weight is model[1].weight
