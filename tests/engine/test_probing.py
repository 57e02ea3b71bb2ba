"""One prompt through time: answered on schedule, from the same noise, and at no cost to the run's own course."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_models import tiny_config

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.events import Event, Notice, Probed, RunState, Sample, StepFinished
from rlhf_engine.models.policy import Policy
from rlhf_engine.requests import Edit, RequestQueue, Stop
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer


def config_of(folder: Path, every: int = 2, **sections: object) -> RunConfig:
    train = {"steps": 5, "checkpoint_every": 2, **sections.pop("train", {})}  # type: ignore[dict-item]
    return tiny_config(folder, optimizer={"learning_rate": 0.01}, probe={"every": every, "prompt": "Once"}, train=train,
                       **sections)


def train(run_dir: RunDir, config: RunConfig, until: int | None = None) -> list[Event]:
    requests, events = RequestQueue(), list[Event]()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, StepFinished) and event.step == until:
            requests.ask(Stop())

    Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
    return events


def resume(run_dir: RunDir) -> list[Event]:
    events: list[Event] = []
    Trainer.resume(run_dir, emit=events.append).run()
    return events


def told(events: list[Event]) -> list[Sample]:
    return [event.sample for event in events if isinstance(event, Probed)]


@pytest.fixture(scope="module")
def whole(model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, list[Event]]:
    config = config_of(model_folders["gpt_neo"])
    run_dir = RunDir.create(tmp_path_factory.mktemp("runs"), config, name="whole")
    return run_dir, train(run_dir, config)


def test_the_reference_answers_first_and_then_the_actor_on_schedule(whole: tuple[RunDir, list[Event]]) -> None:
    run_dir, events = whole
    steps = [(type(event), event.step) for event in events if isinstance(event, Probed | StepFinished)]
    assert steps == [(Probed, 0), (StepFinished, 1), (StepFinished, 2), (Probed, 2), (StepFinished, 3),
                     (StepFinished, 4), (Probed, 4), (StepFinished, 5)]
    assert run_dir.probes() == told(events)
    assert told(events)[0].kl == 0
    assert {sample.prompt for sample in told(events)} == {"Once"}


def test_an_answer_is_the_models_own_under_the_runs_sampling_and_seed(whole: tuple[RunDir, list[Event]]) -> None:
    run_dir, events = whole
    config = run_dir.config()
    policy = Policy.from_config(config)
    rewards = build_rewards(config.rewards)
    (reference,) = answer(policy, ["Once"], config.sampling, tuned=False, seed=1, rewards=rewards)
    assert told(events)[0] == reference
    state = load_file(run_dir.path / "checkpoints" / "step-000004" / "tensors.safetensors")
    for name, parameter in policy.adapters["actor"].items():
        parameter.data.copy_(state[f"actor/{name}"])
    (tuned,) = answer(policy, ["Once"], config.sampling, tuned=True, seed=1, rewards=rewards, step=4)
    assert told(events)[-1] == tuned


def test_a_run_with_probes_and_one_without_are_the_same_run(
    whole: tuple[RunDir, list[Event]], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    run_dir, _ = whole
    without = RunDir.create(tmp_path, config_of(model_folders["gpt_neo"], every=0), name="without")
    assert told(train(without, without.config())) == []
    assert curves(without) == curves(run_dir)
    a, b = (load_file(run.path / "checkpoints" / "step-000005" / "tensors.safetensors") for run in (run_dir, without))
    assert set(a) == set(b)
    assert all(torch.equal(a[name], b[name]) for name in a)


def curves(run_dir: RunDir) -> list[tuple[int, dict[str, float]]]:
    return [(line.step, {name: value for name, value in line.metrics.items() if not name.startswith(("time", "thr"))})
            for line in run_dir.metrics()]


@pytest.mark.parametrize("stop_at", [1, 2, 3])
def test_a_resumed_run_probes_as_if_it_had_never_stopped(
    whole: tuple[RunDir, list[Event]], tmp_path: Path, stop_at: int
) -> None:
    run_dir, _ = whole
    stopped = RunDir.create(tmp_path, run_dir.config())
    train(stopped, run_dir.config(), until=stop_at)
    resume(stopped)
    assert stopped.probes() == run_dir.probes()
    assert curves(stopped) == curves(run_dir)


def test_answers_that_no_checkpoint_holds_are_dropped_and_drawn_again(
    whole: tuple[RunDir, list[Event]], model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = config_of(model_folders["gpt_neo"], train={"checkpoint_every": 3})

    class Killed(BaseException):
        """As a SIGKILL: nothing is saved."""

    def die(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 5:
            raise Killed

    run_dir = RunDir.create(tmp_path, config)
    with pytest.raises(Killed):
        Trainer(config, run_dir=run_dir, emit=die).run()
    assert [probe.step for probe in run_dir.probes()] == [0, 2, 4]
    assert [probe.step for probe in told(resume(run_dir))] == [4]
    assert run_dir.probes() == whole[0].probes()


def test_a_fork_begins_with_its_parents_answers_where_they_compare(
    whole: tuple[RunDir, list[Event]], tmp_path: Path
) -> None:
    run_dir, _ = whole
    child = fork(run_dir, step=2, changes={"kl.coef": 0.5}, root=tmp_path)
    assert child.probes() == run_dir.probes()[:2]
    other = fork(run_dir, step=2, changes={"probe.prompt": "Long ago"}, root=tmp_path)
    assert other.probes() == []
    resume(other)
    assert [(probe.step, probe.prompt) for probe in other.probes()] == [(step, "Long ago") for step in (0, 2, 4)]


def test_probing_that_is_turned_on_later_begins_with_the_reference(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config, requests = config_of(model_folders["gpt_neo"], every=0), RequestQueue()
    run_dir = RunDir.create(tmp_path, config)

    def emit(event: Event) -> None:
        if isinstance(event, StepFinished) and event.step == 3:
            requests.ask(Edit("probe.every", 2))

    Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
    assert [probe.step for probe in run_dir.probes()] == [0, 4]


def test_a_probe_that_cannot_be_answered_is_said_once_and_the_run_goes_on(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = config_of(model_folders["gpt_neo"])
    config = config.model_copy(update={"probe": config.probe.model_copy(update={"prompt": "x" * 60})})
    events: list[Event] = []
    state = Trainer(config, run_dir=None, emit=events.append).run()
    assert state is RunState.FINISHED
    said = [event.text for event in events if isinstance(event, Notice) and "probe" in event.text]
    assert len(said) == 1
    assert said[0].startswith("probe.prompt is not answered any more in this run: ")
    assert told(events) == []
    with pytest.raises(ModelError):
        answer(Policy.from_config(config), ["x" * 60], config.sampling, tuned=False, seed=1)


def test_without_a_prompt_of_its_own_the_runs_first_is_answered(model_folders: dict[str, Path]) -> None:
    config = tiny_config(model_folders["gpt_neo"], train={"steps": 1})
    events: list[Event] = []
    Trainer(config, run_dir=None, emit=events.append).run()
    assert [(sample.step, sample.prompt) for sample in told(events)] == [(0, config.data.prompts[0])]


class Drawing:
    """A reward that draws from torch's own random numbers."""

    name = "drawing"

    def score(self, prompts: Sequence[str], responses: Sequence[str]) -> list[Score]:
        return [Score(float(torch.rand(())), {}) for _ in responses]


def test_a_reward_that_draws_numbers_takes_none_of_the_run_s(shared_policy: Policy) -> None:
    before = torch.get_rng_state()
    rewards = RewardSum([(Drawing(), 1.0)])
    answer(shared_policy, ["Once"], SamplingConfig(max_new_tokens=3), tuned=True, seed=0, rewards=rewards)
    assert torch.equal(torch.get_rng_state(), before)
