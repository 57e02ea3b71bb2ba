"""The loop: what it writes, what it obeys, and that a resumed run is the run."""

from __future__ import annotations

import gc
import shutil
import textwrap
import threading
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
import warm
from resumed_runs import resumable_from, timeless
from safetensors.torch import load_file
from scale import few_or_many
from tiny_models import tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ModelError, RewardError, RunError
from rlhf_engine.events import (
    Alarm,
    CheckpointSaved,
    EditApplied,
    EditRefused,
    Event,
    RunStarted,
    RunState,
    StateChanged,
    StepFinished,
)
from rlhf_engine.requests import Edit, Pause, RequestQueue, SaveCheckpoint, Stop, Unpause
from rlhf_engine.rewards.length import LengthReward
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

# resumes every run it is given, with the live edits that the whole run saw after its third step
EDITS = {"kl.coef": 0.5, "optimizer.learning_rate": 2e-3, "rewards.0.penalty_per_word": 0.3}
RESUME = textwrap.dedent(f"""
    import sys
    from pathlib import Path
    from rlhf_engine.events import StepFinished
    from rlhf_engine.requests import Edit, RequestQueue
    from rlhf_engine.runs.run_dir import RunDir
    from rlhf_engine.training.trainer import Trainer
    EDITS = {EDITS}
    for path in sys.argv[1:]:
        requests = RequestQueue()
        def emit(event):
            if isinstance(event, StepFinished) and event.step == 3:
                for setting, value in EDITS.items():
                    requests.ask(Edit(setting, value))
        if path.endswith("-3"):
            emit(StepFinished(3, 0, {{}}, (), 0.0))
        Trainer.resume(RunDir.open(Path(path)), requests=requests, emit=emit).run()
""")


def train(
    config: RunConfig, root: Path, name: str, requests: RequestQueue | None = None
) -> tuple[RunDir, list[Event]]:
    run_dir, events = RunDir.create(root, config, name=name), []
    Trainer(config, run_dir=run_dir, requests=requests or RequestQueue(), emit=events.append).run()
    return run_dir, events


def weights(run_dir: RunDir, step: int) -> dict[str, torch.Tensor]:
    return load_file(run_dir.path / "checkpoints" / f"step-{step:06d}" / "tensors.safetensors")


@pytest.mark.scaled
@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"algorithm": {"level": "sequence"}, "lora": {"dropout": 0.1}, "kl": {"controller": "budget", "target": 0.01}},
        {"algorithm": {"kind": "grpo", "group_size": 4}},
        {
            "kl": {"controller": "adaptive", "target": 0.01, "horizon": 20},
            "algorithm": {"score_normalization": "standardize"},
        },
    ],
    ids=["token", "sequence with dropout and a KL budget", "GRPO", "adaptive KL"],
)
def test_a_run_resumed_from_any_checkpoint_in_another_process_is_the_same_run_bit_for_bit(
    model_folders: dict[str, Path], tmp_path: Path, sections: dict
) -> None:
    config = tiny_config(
        model_folders["gpt_neo"],
        **sections,
        train={"steps": 7, "checkpoint_every": 1, "keep_checkpoints": 10},
        optimizer={"warmup_steps": 2, "decay": "linear"},
    )
    whole, requests = RunDir.create(tmp_path, config, name="whole"), RequestQueue()

    def edit_live(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 3:
            for path, value in EDITS.items():
                requests.ask(Edit(path, value))

    Trainer(config, run_dir=whole, requests=requests, emit=edit_live).run()
    assert {edit.path for edit in whole.edits()} == set(EDITS)
    steps = few_or_many([0, 2, 4], [*range(5)])  # the edits hold from step 4 on
    resumed = [resumable_from(whole, step, tmp_path / f"from-{step}") for step in steps]
    done = warm.run(["-c", RESUME, *(str(run.path) for run in resumed)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for run in resumed:
        assert timeless(run) == timeless(whole), run.name
        assert [s.response for s in run.samples()] == [s.response for s in whole.samples()]
        assert run.edits() == whole.edits()
        a, b = weights(whole, 7), weights(run, 7)
        assert set(a) == set(b)
        assert all(torch.equal(a[name], b[name]) for name in a), run.name


def test_a_run_leaves_everything_in_its_directory(neo_config: RunConfig, tmp_path: Path) -> None:
    run_dir, events = train(neo_config, tmp_path, "complete")
    assert isinstance(events[0], RunStarted)
    assert [e.step for e in events if isinstance(e, StepFinished)] == [1, 2, 3]
    assert [line.step for line in run_dir.metrics()] == [1, 2, 3]
    assert {s.step for s in run_dir.samples()} == {1, 2, 3}
    assert run_dir.status().state == RunState.FINISHED
    assert [e.step for e in events if isinstance(e, CheckpointSaved)] == [0, 1, 2, 3]
    states = [e.state for e in events if isinstance(e, StateChanged)]
    assert states == [RunState.LOADING, RunState.TRAINING, RunState.FINISHED]


def test_equal_seeds_train_alike(neo_config: RunConfig, tmp_path: Path) -> None:
    first, _ = train(neo_config, tmp_path, "first")
    second, _ = train(neo_config, tmp_path, "second")
    a, b = weights(first, 3), weights(second, 3)
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_live_edits_take_effect_at_the_next_step_and_are_recorded(neo_config: RunConfig, tmp_path: Path) -> None:
    requests, events = RequestQueue(), []
    run_dir = RunDir.create(tmp_path, neo_config, name="edited")

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 1:
            requests.ask(Edit("kl.coef", 0.5))
            requests.ask(Edit("lora.rank", 8))
            requests.ask(Edit("algorithm.clip_range", 7))

    Trainer(neo_config, run_dir=run_dir, requests=requests, emit=emit).run()
    assert [line.metrics["kl_coef"] for line in run_dir.metrics()] == [0.1, 0.5, 0.5]
    assert [e for e in events if isinstance(e, EditApplied)] == [EditApplied(2, "kl.coef", 0.1, 0.5)]
    assert [(e.step, e.path, e.new) for e in run_dir.edits()] == [(2, "kl.coef", 0.5)]
    refused = {e.path: e.reason for e in events if isinstance(e, EditRefused)}
    assert "cannot change while training" in refused["lora.rank"]
    assert "algorithm.clip_range" in refused["algorithm.clip_range"]


def test_an_edit_made_after_the_last_checkpoint_survives_a_stop(neo_config: RunConfig, tmp_path: Path) -> None:
    requests = RequestQueue()
    run_dir = RunDir.create(tmp_path, neo_config, name="edited")

    def edit_then_stop(event: Event) -> None:
        if isinstance(event, CheckpointSaved) and event.step == 1:
            requests.ask(Edit("kl.coef", 0.5))
            requests.ask(Stop())

    Trainer(neo_config, run_dir=run_dir, requests=requests, emit=edit_then_stop).run()
    Trainer.resume(run_dir, emit=lambda event: None).run()
    assert [line.metrics["kl_coef"] for line in run_dir.metrics()] == [0.1, 0.5, 0.5]
    assert [edit.path for edit in run_dir.edits()] == ["kl.coef"]


def test_an_edit_that_no_checkpoint_holds_is_undone_by_a_resume(neo_config: RunConfig, tmp_path: Path) -> None:
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"checkpoint_every": 2})})
    run_dir, requests = RunDir.create(tmp_path, config, name="killed"), RequestQueue()

    class Killed(BaseException):
        """As a SIGKILL: nothing is saved."""

    def edit_then_die(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 2:
            requests.ask(Edit("kl.coef", 0.5))
        if isinstance(event, StepFinished) and event.step == 3:
            raise Killed

    with pytest.raises(Killed):
        Trainer(config, run_dir=run_dir, requests=requests, emit=edit_then_die).run()
    assert len(run_dir.edits()) == 1
    Trainer.resume(run_dir, emit=lambda event: None).run()
    assert run_dir.edits() == []
    assert [line.metrics["kl_coef"] for line in run_dir.metrics()] == [0.1, 0.1, 0.1]


def test_stop_ends_after_the_step_under_way_and_saves(neo_config: RunConfig, tmp_path: Path) -> None:
    requests, events = RequestQueue(), []
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"checkpoint_every": 100})})
    run_dir = RunDir.create(tmp_path, config, name="stopped")

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 2:
            requests.ask(Stop())

    assert Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run() == RunState.STOPPED
    assert events[-1].state == RunState.STOPPED
    assert weights(run_dir, 2)
    assert len(run_dir.metrics()) == 2


def test_pause_holds_between_steps_and_resume_goes_on(neo_config: RunConfig) -> None:
    requests, events, paused = RequestQueue(), [], threading.Event()
    requests.ask(Pause())

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StateChanged) and event.state == RunState.PAUSED:
            paused.set()

    trainer = Trainer(neo_config, run_dir=None, requests=requests, emit=emit)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    assert paused.wait(60)
    assert not any(isinstance(e, StepFinished) for e in events)
    requests.ask(Unpause())
    thread.join(60)
    assert sum(isinstance(e, StepFinished) for e in events) == 3


def test_nothing_is_left_of_a_model_whose_run_has_ended(neo_config: RunConfig, tmp_path: Path) -> None:
    trainer = Trainer(neo_config, run_dir=RunDir.create(tmp_path / "runs", neo_config),
                      emit=lambda event: None)
    trainer.run()
    assert trainer.policy is not None
    weights = weakref.WeakSet(trainer.policy.base.parameters())
    assert len(weights) > 10
    del trainer
    gc.collect()
    assert not weights


def test_two_processes_never_drive_one_run(neo_config: RunConfig, tmp_path: Path) -> None:
    run_dir = RunDir.create(tmp_path, neo_config, name="taken")
    events: list[Event] = []
    with run_dir.lock(), pytest.raises(RunError):
        Trainer(neo_config, run_dir=RunDir.open(run_dir.path), emit=events.append).run()
    assert events[-1].state == RunState.FAILED  # type: ignore[attr-defined]
    assert run_dir.status() is None
    assert RunDir.open(run_dir.path).config() == neo_config


def test_a_broken_reward_stops_the_run_with_its_name(
    neo_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, events = RunDir.create(tmp_path, neo_config, name="broken"), []

    def break_reward(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished):
            monkeypatch.setattr(LengthReward, "score", lambda self, prompts, responses: 1 / 0)

    trainer = Trainer(neo_config, run_dir=run_dir, emit=break_reward)
    with pytest.raises(RewardError, match=r"length.*ZeroDivisionError"):
        trainer.run()
    assert events[-1].state == RunState.FAILED
    assert run_dir.status().state == RunState.FAILED


def test_a_diverging_run_says_so_and_keeps_its_last_checkpoint(model_folders: dict[str, Path], tmp_path: Path) -> None:
    config = tiny_config(model_folders["gpt_neo"])
    run_dir, events = RunDir.create(tmp_path, config, name="diverged"), []

    def poison(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 2:
            next(iter(trainer.policy.adapters["actor"].values())).data.fill_(float("nan"))  # type: ignore[union-attr]

    trainer = Trainer(config, run_dir=run_dir, emit=poison)
    assert trainer.run() == RunState.DIVERGED
    assert run_dir.status().state == RunState.DIVERGED
    assert all(t.isfinite().all() for t in weights(run_dir, 1).values() if t.is_floating_point())
    assert "back at the checkpoint of step 1" in events[-1].message
    assert all(p.isfinite().all() for p in trainer.policy.adapters["actor"].values())  # type: ignore[union-attr]


def test_a_full_disk_ends_the_run_with_an_event(
    neo_config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir, events = RunDir.create(tmp_path, neo_config, name="full"), []

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, CheckpointSaved) and event.step == 1:
            for name in ("append_metrics", "write_status"):
                monkeypatch.setattr(run_dir, name, _full)

    with pytest.raises(RunError, match="disk is full"):
        Trainer(neo_config, run_dir=run_dir, emit=emit).run()
    assert events[-1].state == RunState.FAILED
    assert "disk is full" in events[-1].message


def _full(*_: object, **__: object) -> None:
    raise RunError("metrics.jsonl could not be written: the disk is full.")


def test_the_best_checkpoint_by_the_chosen_metric_outlives_the_newest(neo_config: RunConfig, tmp_path: Path) -> None:
    train = {"steps": 8, "keep_checkpoints": 1, "checkpoint_budget_mb": 0, "keep_best": "rewards/length/mean"}
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update=train)})
    run_dir, _ = train_until_the_reward_falls(config, tmp_path)
    best = checkpoint.best(run_dir)
    assert best is not None
    assert [path.name for path in checkpoint.candidates(run_dir)] == ["step-000008", best.name]
    quality = checkpoint.load(best).quality
    assert quality is not None
    values = [line.metrics["rewards/length/mean"] for line in run_dir.metrics()]
    smoothed = [sum(values[max(0, end - 5):end]) / len(values[max(0, end - 5):end]) for end in range(1, 9)]
    assert quality.value == pytest.approx(max(smoothed))
    assert checkpoint.step_of(best) == smoothed.index(max(smoothed)) + 1


def train_until_the_reward_falls(config: RunConfig, root: Path) -> tuple[RunDir, list[Event]]:
    """From the fourth step on each word too few costs more."""
    run_dir, events, requests = RunDir.create(root, config), [], RequestQueue()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == 3:
            requests.ask(Edit("rewards.0.penalty_per_word", 3.0))

    Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
    return run_dir, events


def test_a_checkpoint_that_is_saved_just_before_the_lock_is_taken_is_the_one_that_counts(
    neo_config: RunConfig, tmp_path: Path
) -> None:
    """The process that drives the run may save once more between our first look and its leaving."""
    run_dir, _ = train(neo_config, tmp_path, "raced")
    newest = checkpoint.candidates(run_dir)[0]
    later = newest.rename(tmp_path / newest.name)
    events: list[Event] = []
    late = Trainer.resume(run_dir, emit=events.append)
    later.rename(newest)
    assert late.run() is RunState.FINISHED
    assert next(event for event in events if isinstance(event, RunStarted)).first_step == 3


def test_what_an_alarm_says_is_kept_and_not_said_again_after_a_resume(neo_config: RunConfig, tmp_path: Path) -> None:
    sections = {"kl": {"target": 1e-6}, "sentinel": {"window": 2}, "train": {"steps": 6}}
    config = RunConfig.model_validate(neo_config.model_dump() | {
        name: neo_config.model_dump()[name] | values for name, values in sections.items()})
    requests, first = RequestQueue(), []
    run_dir = RunDir.create(tmp_path, config)

    def emit(event: Event) -> None:
        first.append(event)
        if isinstance(event, StepFinished) and event.step == 4:
            requests.ask(Stop())

    Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
    raised = [event for event in first if isinstance(event, Alarm)]
    assert [alarm.kind for alarm in raised] == ["kl"]
    assert run_dir.alarms() == raised
    again: list[Event] = []
    Trainer.resume(run_dir, emit=again.append).run()
    assert sum(isinstance(event, StepFinished) for event in again) == 2
    assert not any(isinstance(event, Alarm) for event in again)
    assert run_dir.alarms() == raised


def test_a_checkpoint_asked_for_twice_is_confirmed_twice(neo_config: RunConfig, tmp_path: Path) -> None:
    requests, saved = RequestQueue(), []
    requests.ask(SaveCheckpoint())

    def emit(event: Event) -> None:
        if isinstance(event, CheckpointSaved):
            saved.append((event.step, Path(event.path).is_dir()))

    Trainer(neo_config, run_dir=RunDir.create(tmp_path, neo_config), requests=requests, emit=emit).run()
    assert saved[:2] == [(0, True), (0, True)]


@pytest.mark.parametrize("has", ["nothing", "a note", "a checkpoint"])
def test_a_start_whose_model_cannot_be_loaded_leaves_only_what_somebody_would_miss(
    model_folders: dict[str, Path], tmp_path: Path, has: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_folders["gpt_neo"], folder)
    config = tiny_config(folder, train={"steps": 1})
    run_dir = RunDir.create(tmp_path / "runs", config)
    requests, events = RequestQueue(), []
    if has == "a checkpoint":
        Trainer(config, run_dir=run_dir, requests=requests, emit=lambda _: None).run()
    elif has == "a note":
        run_dir.write_note("the first of many")
    shutil.rmtree(folder)
    make = Trainer.resume if has == "a checkpoint" else partial(Trainer, config)
    with pytest.raises(ModelError):
        make(run_dir=run_dir, requests=requests, emit=events.append).run()
    assert run_dir.path.exists() == (has != "nothing")
    assert events[-1].state is RunState.FAILED
    assert ("no run was kept" in events[-1].message) == (has == "nothing")
    if has != "nothing":
        assert run_dir.status().state is RunState.FAILED
