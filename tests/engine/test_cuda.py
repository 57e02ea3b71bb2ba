"""What a GPU must not change. Run on a machine with CUDA; elsewhere there is nothing to test.

Most of the time goes into loading and capturing, on one core each: `pytest -n 4` shares it. Families of models and
number formats are crossed only where both matter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from engine.tiny_methods import METHODS, MOST_WAITS, learner_of, step
from engine.tiny_methods import config_of as method_config
from resumed_runs import resumable_from, timeless
from tiny_models import look_at_all_positions, save_tiny_model, stir, tiny_config

from rlhf_engine.algorithms.passes import evaluate
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.models.choice import GUMBEL, INVERSE_CDF, Draw
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

HOT = SamplingConfig(max_new_tokens=20, temperature=6.0)
PROMPTS = ["Once", "There was a", "x", "Long ago"] * 2
HALF = ("bfloat16", "float16")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture(scope="module", params=["gpt_neo", "llama", "gpt2"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("cuda") / request.param, request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("cuda") / "llama", "llama")


def config_on(device: str, folder: Path, dtype: str = "float32", **sections: object) -> RunConfig:
    return tiny_config(folder, model={"device": device, "dtype": dtype}, **sections)


def policy_on(device: str, folder: Path, dtype: str = "float32") -> Policy:
    policy = Policy.from_config(config_on(device, folder, dtype))
    stir(policy)
    return policy


def answers(policy: Policy) -> list[torch.Tensor]:
    """Log-probs and entropy of actor and reference, values, and the gradients of a loss of all of them."""
    ids, mask = policy.encode(["Once upon a time", "There was"])
    actor = policy.log_probs("actor", ids, mask, 4, 1.3, with_entropy=True)
    with torch.no_grad():
        reference = policy.log_probs("reference", ids, mask, 4, 1.3)
    values = policy.head_values("value", ids, mask, 4)
    (actor.log_probs.square().sum() + values.square().sum()).backward()
    assert actor.entropy is not None
    found = [actor.log_probs, actor.entropy, reference.log_probs, values]
    found += [p.grad for p in policy.parameters.values() if p.grad is not None]
    return [tensor.detach().float().cpu() for tensor in found]


def test_in_float32_passes_and_gradients_are_those_of_the_cpu(folder: Path) -> None:
    for ours, cpus in zip(answers(policy_on("cuda", folder)), answers(policy_on("cpu", folder)), strict=True):
        torch.testing.assert_close(ours, cpus, atol=1e-5 * max(1.0, float(cpus.abs().max())), rtol=1e-4)


@pytest.mark.parametrize("dtype", HALF)
def test_half_precision_differs_by_its_rounding_only(llama: Path, dtype: str) -> None:
    ours, cpus = answers(policy_on("cuda", llama, dtype))[:4], answers(policy_on("cpu", llama))[:4]
    for a, b in zip(ours, cpus, strict=True):
        assert float((a - b).abs().max()) < 2**-5 * max(1.0, float(b.abs().max()))


def test_a_float32_model_is_exact_after_one_in_half_precision_too(llama: Path) -> None:
    before = answers(policy_on("cuda", llama))
    policy_on("cuda", llama, "bfloat16")
    for old, new in zip(before, answers(policy_on("cuda", llama)), strict=True):
        assert torch.equal(old, new)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_captured_rollout_samples_what_a_plain_one_does(folder: Path, dtype: str) -> None:
    policy = policy_on("cuda", folder, dtype)
    if "gpt_neo" in str(folder):  # a window of 8 is decoded without a graph
        look_at_all_positions(policy)
    decoder = PreparedDecoder(policy)
    for seed, prompts in enumerate([PROMPTS, PROMPTS[::-1], PROMPTS[:3], PROMPTS]):
        stir(policy, seed)  # what is replayed must follow the adapters
        ours = sample(policy, prompts, HOT, generator(seed), decoder=decoder, draw=INVERSE_CDF)
        plain = sample(policy, prompts, HOT, generator(seed), draw=INVERSE_CDF)
        assert decoder.why_plain == ""
        if dtype == "float32":
            assert torch.equal(ours.response_ids, plain.response_ids)
        else:  # rounding may turn a choice, and all that follow it
            assert (ours.response_ids[:, 0] == plain.response_ids[:, 0]).float().mean() > 0.7
    assert decoder.captures.why_not == ""
    assert len(decoder.captures.shapes) == 2


def generator(seed: int) -> torch.Generator:
    return torch.Generator("cuda").manual_seed(seed)


def waits_of(work: Callable[[], object]) -> int:
    """How often the CPU waits for the GPU."""
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        work()
    torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in heard)


def test_a_rollout_asks_the_gpu_for_nothing_between_its_tokens(llama: Path) -> None:
    policy = policy_on("cuda", llama)
    decoder = PreparedDecoder(policy)
    waits = []
    for new_tokens in (20, 30):
        sampling = SamplingConfig(max_new_tokens=new_tokens, temperature=6.0)
        work = partial(sample, policy, PROMPTS, sampling, generator(0), decoder=decoder)
        work()
        waits.append(waits_of(work))
    assert decoder.captures.why_not == ""
    assert waits[1] - waits[0] <= 1


def test_an_evaluation_asks_the_gpu_for_nothing_between_its_passes(llama: Path) -> None:
    policy = policy_on("cuda", llama)
    rollout = sample(policy, PROMPTS, HOT, generator(0))

    def actor(ids: torch.Tensor, mask: torch.Tensor, width: int) -> tuple[torch.Tensor]:
        return (policy.log_probs("actor", ids, mask, width, 1.0).log_probs,)

    few, many = (waits_of(partial(evaluate, rollout, {"actor": actor}, rows)) for rows in (8, 1))
    assert many <= few


@pytest.mark.parametrize("draw", [GUMBEL, INVERSE_CDF])
def test_probabilities_that_are_no_numbers_end_no_process(draw: Draw) -> None:
    for count in (1, 63, 64, 65, 130, 50_257):
        rows = torch.full((4, count), 1 / count, device="cuda")
        rows[0] = float("nan")
        rows[1, -1] = float("nan")
        rows[2] = 0.0
        drawn = draw.pick(rows, draw.noise(generator(0), 1, 4, count)(0))
        looked_up = torch.arange(count, device="cuda")[drawn]
        torch.cuda.synchronize()  # where an index out of range would be told, and nothing work any more
        assert torch.equal(looked_up, drawn)


@pytest.mark.parametrize("dtype", ["float32", *HALF])
@pytest.mark.parametrize("value", [float("nan"), 1e25])
def test_broken_weights_are_refused_and_a_captured_step_forgets_them(llama: Path, dtype: str, value: float) -> None:
    policy = policy_on("cuda", llama, dtype)
    decoder = PreparedDecoder(policy)

    def roll(draw: Draw) -> torch.Tensor:
        return sample(policy, PROMPTS, HOT, generator(1), decoder=decoder, draw=draw).response_ids

    for _ in range(3):  # the first rollouts are held to the model's own answers
        before = [roll(GUMBEL), roll(INVERSE_CDF)]
    for parameter in policy.adapters["actor"].values():
        parameter.data.fill_(value)
    for draw in (GUMBEL, INVERSE_CDF):
        with pytest.raises(NonFiniteError, match="not finite"):
            roll(draw)
    stir(policy)
    assert all(torch.equal(*pair) for pair in zip(before, [roll(GUMBEL), roll(INVERSE_CDF)], strict=True))


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_resumed_run_is_the_run_bit_for_bit(llama: Path, tmp_path: Path, level: str) -> None:
    config = config_on("cuda", llama, algorithm={"level": level}, lora={"dropout": 0.1}, train={"steps": 4})
    whole = RunDir.create(tmp_path, config, name="whole")
    Trainer(config, run_dir=whole, emit=lambda event: None).run()
    cut = resumable_from(whole, 1, tmp_path / "cut")
    Trainer.resume(cut, emit=lambda event: None).run()
    assert timeless(cut) == timeless(whole)
    assert [sample.response for sample in cut.samples()] == [sample.response for sample in whole.samples()]


@pytest.mark.parametrize("method", ["grpo", "dpo", "sft", "sft, packed", "reward_model"])
def test_other_methods_repeat_themselves_in_half_precision(llama: Path, method: str) -> None:
    """What a resumed run rests on: no sum of theirs depends on the order in which a GPU's threads come."""
    config = method_config(llama, method, dtype="bfloat16")
    runs = [learner_of(config) for _ in range(2)]
    for number in (1, 2, 3):
        first, second = (step(learner, data, number) for learner, data in runs)
        assert first == second


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_no_oftener_than_on_a_card_that_is_none(llama: Path, method: str) -> None:
    """By torch's own count: what `fake_cuda` takes for a wait is held to what is one."""
    learner, data = learner_of(method_config(llama, method))
    for number in (1, 2, 3):
        step(learner, data, number)
    assert waits_of(lambda: step(learner, data, 4)) <= MOST_WAITS[method]


def alone(program: str, *arguments: str) -> str:
    """What a program prints that has the GPU's memory to itself: what other tests left in torch's cache counts too."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), *arguments], capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def test_a_full_gpu_halves_the_micro_batch_and_the_run_goes_on(tmp_path: Path) -> None:
    told = alone("""
        import sys
        import torch
        from tiny_models import tiny_config
        from rlhf_engine.requests import RequestQueue
        from rlhf_engine.events import Notice, StepFinished
        from rlhf_engine.training.trainer import Trainer
        config = tiny_config(
            sys.argv[1], model={"device": "cuda"}, train={"steps": 2}, sampling={"max_new_tokens": 48},
            algorithm={"responses_per_step": 2048, "minibatch_size": 2048, "epochs": 1},
        )
        def emit(event):
            if isinstance(event, Notice | StepFinished):
                print(event)
        torch.cuda.set_per_process_memory_fraction(800 * 2**20 / torch.cuda.mem_get_info()[1])
        Trainer(config, run_dir=None, emit=emit).run()
    """, str(save_tiny_model(tmp_path / "model", "llama")))
    assert "out of memory with 2048 responses at once" in told
    assert told.count("StepFinished") == 2


def test_a_model_that_does_not_fit_is_told_in_a_sentence(tmp_path: Path) -> None:
    told = alone("""
        import sys
        import torch
        from tiny_models import tiny_config
        from rlhf_engine.errors import ModelError
        from rlhf_engine.models.loading import load_model
        torch.cuda.set_per_process_memory_fraction(0.0)
        try:
            load_model(tiny_config(sys.argv[1], model={"device": "cuda"}).model)
        except ModelError as error:
            print(error)
    """, str(save_tiny_model(tmp_path / "model", "llama")))
    assert "does not fit into the memory of cuda" in told


def test_the_storyteller_learns_on_the_gpu(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rlhf_tui", "train", "animals", "--set", "train.steps=10", "--json",
               "--runs-dir", str(tmp_path / "runs")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ, timeout=150)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    scores = [row["metrics"]["objective/scores"] for row in rows if "metrics" in row]
    assert len(scores) == 10
    assert scores[-1] > scores[0] + 1.0


def test_the_system_screen_reads_the_gpu(tmp_path: Path) -> None:
    from rlhf_tui.areas.system.machine import Probe

    probe = Probe(tmp_path)
    (gpu, *_) = probe.read().gpus
    probe.close()
    assert gpu.name == torch.cuda.get_device_name(0)
    assert gpu.total is not None
    assert gpu.used is not None
    assert 0 <= gpu.used <= gpu.total
