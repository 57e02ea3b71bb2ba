"""Operations are counted as torch counts them: products with weights and inside attention."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_models import make_ppo, tiny_config
from torch.utils.flop_counter import FlopCounterMode

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.events import Event, Notice, StepFinished
from rlhf_engine.models.flops import BatchCost, ModelSize, matmul_peak
from rlhf_engine.models.known_peak import MEASURED, known_peak, raise_peak
from rlhf_engine.models.micro_batch import bytes_kept, choose_micro_batch_size
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample
from rlhf_engine.training import profiling
from rlhf_engine.training.trainer import Trainer


def test_a_pass_is_as_many_operations_as_torch_counts(model_folders: dict[str, Path]) -> None:
    policy = Policy.from_config(tiny_config(model_folders["gpt_neo"]))
    size, time = ModelSize.of_model(policy.base), 7
    ids = torch.randint(0, 200, (1, time))
    mask = torch.ones_like(ids, dtype=torch.bool)
    with policy.as_role("reference"), FlopCounterMode(display=False) as counted, torch.no_grad():
        policy.forward(ids, mask)
    # torch counts whole squares of attention, we the half that is looked at
    assert counted.get_total_flops() == size.forward(time, time * time)


def test_the_operations_of_passes_by_hand() -> None:
    size = ModelSize(body=10, head=3, layers=1, width=2)
    cost = BatchCost(size, torch.tensor([4, 2]), torch.tensor([3, 1]))
    body = 2 * (4 + 2) * 10 + 4 * (10 + 3) * 1 * 2
    back = 2 * (4 + 2) * 10 + 8 * (10 + 3) * 1 * 2
    head = 2 * 3 * (3 + 1)
    assert cost.forward(None, head=False) == body
    assert cost.forward(torch.arange(2), head=True) == body + head
    assert cost.backward(torch.arange(2), head=True) == back + head
    assert cost.forward(torch.tensor([1]), head=True) == 2 * 2 * 10 + 4 * 3 * 2 + 2 * 3


def test_a_step_counts_each_pass_that_it_took(neo_config: RunConfig) -> None:
    """Sampled once, evaluated three times, and updated: what was reused is counted once."""
    ppo = make_ppo(replace(neo_config, {"algorithm.epochs": 1, "algorithm.minibatch_size": 8}))
    rollout = sample(ppo.policy, ["Once"] * 8, neo_config.sampling, torch.Generator().manual_seed(0))
    response = rollout.response_mask.sum(1)
    cost = BatchCost(ppo.on_policy.size, rollout.prompt_mask.sum(1) + response, response)
    rows, heads = torch.arange(8), {"reference": True, "critic": False, "actor": True}
    evaluated = ppo.on_policy.evaluate(rollout, ppo.forwards, ["actor"], rows)
    found = ppo.on_policy.operations(rollout, heads, [rows], ["actor", "critic"], evaluated)
    forward, headless = cost.forward(None, head=True), cost.forward(None, head=False)
    update = cost.backward(None, head=True) + headless + cost.backward(None, head=False)
    assert found == pytest.approx(3 * forward + headless + update)


def test_a_step_tells_its_operations(neo_config) -> None:
    ppo = make_ppo(neo_config)
    assert 1e7 < ppo.step(1, PromptBatch(["Once"] * 8)).operations < 1e9


def test_a_matmul_peak_is_what_a_machine_can_have() -> None:
    state = torch.get_rng_state()
    assert 1e8 < matmul_peak(torch.float32, torch.device("cpu"), seconds=0.01) < 1e15
    assert torch.equal(state, torch.get_rng_state())


def test_a_share_of_the_peak_is_never_more_than_all_of_it(
    neo_config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Planted: while the peak was measured others had the machine, so it came out a millionth of what it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # where nothing is known yet
    monkeypatch.setattr(profiling, "matmul_peak", lambda dtype, device: 1e3)
    events: list[Event] = []
    Trainer(neo_config, run_dir=None, emit=events.append).run()
    shares = [event.metrics["throughput/matmul_share"] for event in events if isinstance(event, StepFinished)]
    assert len(shares) == 3
    assert all(0 < share <= 1 for share in shares)
    assert shares[0] == 1
    assert sum("matmul peak" in event.text for event in events if isinstance(event, Notice)) == 1


def test_a_peak_measured_too_low_is_measured_again_and_then_holds(
    neo_config: RunConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured = [1e3, 1e15, 1e15]
    monkeypatch.setattr(profiling, "matmul_peak", lambda dtype, device: measured.pop(0))
    events: list[Event] = []
    Trainer(neo_config, run_dir=None, emit=events.append).run()
    shares = [event.metrics["throughput/matmul_share"] for event in events if isinstance(event, StepFinished)]
    assert len(measured) == 1
    assert all(0 < share < 0.01 for share in shares)


def test_a_device_that_is_nearly_full_is_measured_with_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, rand = [], torch.rand

    def short_of_memory(rows: int, columns: int, **options: object) -> torch.Tensor:
        sizes.append(rows)
        if rows > 256:
            raise torch.OutOfMemoryError
        return rand(rows, columns, **options)

    monkeypatch.setattr(torch, "rand", short_of_memory)
    assert matmul_peak(torch.float32, torch.device("cpu"), seconds=0.01) > 1e8
    assert sizes[:4] == [1024, 512, 256, 256]


def test_kept_bytes_are_those_of_the_graph_and_decide_the_micro_batch(neo_config) -> None:
    policy = Policy.from_config(neo_config)
    short, long = bytes_kept(policy, 8), bytes_kept(policy, 32)
    assert 4 * short < long < 16 * short  # linear in the tokens but for attention
    assert short > 8 * 32 * 4 * 2  # at least the input of each layer norm, in each of two layers
    assert choose_micro_batch_size(policy, rows=4, width=32) == 4  # small: all at once
    assert 8 <= choose_micro_batch_size(policy, rows=100_000, width=32) < 100_000  # 256 tokens, whatever they take
    for free, fit in ((10**15, 100_000), (2 * 100 * long, 64), (2 * 127 * long, 64), (2 * 130 * long, 128), (1, 8)):
        assert choose_micro_batch_size(policy, rows=100_000, width=32, free=free) == fit  # of a GPU


def test_a_peak_is_measured_in_the_first_starts_only_and_the_highest_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu, measured = torch.device("cpu"), iter([3e9, 5e9, 4e9])
    assert MEASURED == 3

    def peak(dtype: torch.dtype) -> float:
        return known_peak(dtype, cpu, lambda dtype, device: next(measured))

    assert [peak(torch.float32) for _ in range(5)] == [3e9, 5e9, 5e9, 5e9, 5e9]
    raise_peak(torch.float32, cpu, 2e9)
    assert peak(torch.float32) == 5e9
    raise_peak(torch.float32, cpu, 7e9)
    assert peak(torch.float32) == 7e9
    measured = iter([9e9])
    assert peak(torch.bfloat16) == 9e9  # of its own


@pytest.mark.parametrize("damaged", ["", "[]", "{", '{"KEY": [1e400, 3]}', '{"KEY": "fast"}', '{"KEY": [-1, 3]}'])
def test_a_damaged_file_of_peaks_is_as_good_as_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damaged: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cpu = torch.device("cpu")
    known_peak(torch.float32, cpu, lambda dtype, device: 3e9)
    (file,) = tmp_path.rglob("*peaks*.json")
    file.write_text(damaged.replace("KEY", next(iter(json.loads(file.read_text())))))
    assert known_peak(torch.float32, cpu, lambda dtype, device: 2e9) == 2e9
