"""bfloat16 on a CPU: only where the processor has units for it, a trial says that it is faster, and for the whole
run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_models import tiny_config

from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.events import CheckpointSaved, Event, ModelLoaded, Notice
from rlhf_engine.models import dtype_trial
from rlhf_engine.models.dtype_trial import Found, found_faster, response_seconds
from rlhf_engine.models.processor import multiplies_bfloat16, processor
from rlhf_engine.requests import RequestQueue, Stop
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer


@pytest.fixture
def config(model_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """It leaves the number format open, on a machine where nothing is known yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tiny_config(model_folders["gpt_neo"], model={"dtype": "auto"})


class Stopwatch:
    """Says how long each number format takes, and keeps what it was asked."""

    def __init__(self, float32: float, bfloat16: float) -> None:
        self.takes, self.asked = {"float32": float32, "bfloat16": bfloat16}, list[str]()

    def __call__(self, config: RunConfig) -> float:
        self.asked.append(config.model.dtype)
        return self.takes[config.model.dtype]


@pytest.mark.parametrize(
    ("abilities", "environment", "expected"),
    [
        ({"avx512_bf16": True}, {}, True),
        ({"amx_bf16": True}, {}, True),
        ({"avx512_f": True}, {}, False),
        ({"avx512_bf16": False}, {}, False),
        ({}, {}, False),
        ({"avx512_bf16": True}, {"ONEDNN_MAX_CPU_ISA": "avx2"}, False),
        ({"avx512_bf16": True}, {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True),
    ],
)
def test_a_processor_has_units_for_bfloat16_unless_it_is_told_to_leave_them(
    abilities: dict[str, bool], environment: dict[str, str], expected: bool
) -> None:
    assert multiplies_bfloat16(abilities, environment) is expected


def test_the_processor_of_this_machine_is_known() -> None:
    assert processor()


@pytest.mark.parametrize(("bfloat16", "chosen"), [(0.5, "bfloat16"), (0.95, "float32"), (2.0, "float32")])
def test_a_trial_decides_once_for_a_model_and_a_machine(config: RunConfig, bfloat16: float, chosen: str) -> None:
    watch = Stopwatch(1.0, bfloat16)
    found = found_faster(config, capable=True, seconds=watch)
    assert found.dtype == chosen
    assert "model.dtype" in found.why
    assert sorted(watch.asked) == ["bfloat16", "float32"]
    other = replace(config, {"lora.rank": 8, "sampling.max_new_tokens": 5})
    assert found_faster(other, capable=True, seconds=watch) == Found(chosen)
    assert len(watch.asked) == 2


def test_without_units_nothing_is_tried(config: RunConfig) -> None:
    watch = Stopwatch(1.0, 0.1)
    assert found_faster(config, capable=False, seconds=watch) == Found("float32")
    assert watch.asked == []


def test_a_model_that_does_not_pass_in_bfloat16_is_computed_in_float32(config: RunConfig) -> None:
    def seconds(config: RunConfig) -> float:
        if config.model.dtype == "bfloat16":
            raise ModelError("numbers that are not finite")
        return 1.0

    found = found_faster(config, capable=True, seconds=seconds)
    assert found.dtype == "float32"
    assert "not finite" in found.why


def test_what_another_process_found_meanwhile_holds(config: RunConfig) -> None:
    def slow(asked: RunConfig) -> float:
        found_faster(config, capable=True, seconds=Stopwatch(1.0, 0.5))
        return {"float32": 1.0, "bfloat16": 2.0}[asked.model.dtype]

    assert found_faster(config, capable=True, seconds=slow).dtype == "bfloat16"


def test_a_real_trial_times_either_format_and_leaves_threads_and_random_numbers(config: RunConfig) -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    assert all(0 < response_seconds(replace(config, {"model.dtype": dtype})) < 60 for dtype in ("float32", "bfloat16"))
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_run_keeps_the_format_that_it_began_with_bit_by_bit(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dtype_trial, "found_faster", lambda config: Found("bfloat16", "model.dtype: it is faster"))
    whole, events = RunDir.create(tmp_path, config, name="whole"), list[Event]()
    Trainer(config, run_dir=whole, emit=events.append).run()
    assert [event.dtype for event in events if isinstance(event, ModelLoaded)] == ["bfloat16"]
    assert any("model.dtype" in event.text for event in events if isinstance(event, Notice))
    assert [(edit.path, edit.new) for edit in whole.edits()] == [("model.dtype", "bfloat16")]

    halves, requests = RunDir.create(tmp_path, config, name="halves"), RequestQueue()

    def stop(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 1:
            requests.ask(Stop())

    Trainer(config, run_dir=halves, requests=requests, emit=stop).run()
    monkeypatch.setattr(dtype_trial, "found_faster", lambda config: Found("float32"))  # as on another machine
    Trainer.resume(halves, emit=lambda event: None).run()
    one, other = (checkpoint.load_newest(run)[0] for run in (whole, halves))
    assert one.config.model.dtype == other.config.model.dtype == "bfloat16"
    assert all(torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items())


def test_a_run_that_was_begun_in_float32_goes_on_in_it(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir.create(tmp_path, replace(config, {"train.steps": 1}), name="earlier")
    Trainer(run.config(), run_dir=run, emit=lambda event: None).run()
    monkeypatch.setattr(dtype_trial, "found_faster", lambda config: Found("bfloat16"))
    events = list[Event]()
    Trainer.resume(run, emit=events.append).run()
    assert [event.dtype for event in events if isinstance(event, ModelLoaded)] == ["float32"]
