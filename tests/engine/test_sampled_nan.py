"""Probabilities that are no numbers: no index leaves the vocabulary, nothing is learnt, and a run goes back or ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from moments import trusted
from tiny_models import stir, tiny_config
from torch import Tensor
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import NonFiniteError, RlhfError
from rlhf_engine.evaluation.compare import compare
from rlhf_engine.evaluation.generate import generate_texts
from rlhf_engine.evaluation.questions import answer_question
from rlhf_engine.events import (
    Alarm,
    ComparisonFinished,
    Event,
    GenerationFinished,
    Notice,
    RolledBack,
    RunState,
    StepFinished,
)
from rlhf_engine.models.choice import GUMBEL, INVERSE_CDF, Draw
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample
from rlhf_engine.requests import Compare, Generate
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.checkpoint import TrainingState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

PROMPTS = ["Once", "There was a", "x", "Long ago"]
NAN, INF = float("nan"), float("inf")


def broken_rows(count: int) -> dict[str, Tensor]:
    """Rows [1, count] that no softmax of finite logits gives."""
    even = torch.full((1, count), 1 / count)
    last, first = even.clone(), even.clone()
    last[0, -1], first[0, 0] = NAN, NAN
    return {
        "all NaN": torch.full((1, count), NAN), "NaN at the end": last, "NaN at the start": first,
        "nothing": torch.zeros(1, count), "infinite": torch.full((1, count), INF),
    }


@pytest.mark.parametrize("draw", [GUMBEL, INVERSE_CDF])
@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 130, 258])
def test_whatever_the_probabilities_the_drawn_id_is_one_of_the_vocabulary(
    draw: Draw, count: int
) -> None:
    healthy = torch.randn(3, count, generator=torch.Generator().manual_seed(1)).softmax(1)
    for name, row in broken_rows(count).items():
        for seed in range(5):
            noise = draw.noise(torch.Generator().manual_seed(seed), 1, 4, count)(0)
            drawn = draw.pick(torch.cat([healthy, row]), noise)
            assert 0 <= int(drawn.min()) <= int(drawn.max()) < count, name
            # and it is nobody else's business
            whole = draw.pick(torch.cat([healthy, healthy[:1]]), noise)
            assert torch.equal(drawn[:3], whole[:3]), name


def test_a_clock_of_zero_noise_leaves_a_certain_id_certain() -> None:
    certain = torch.zeros(1, 5)
    certain[0, 3] = 1.0
    assert GUMBEL.pick(certain, torch.zeros(1, 5)).tolist() == [3]


def spoil(policy: Policy, value: float) -> None:
    with torch.no_grad():
        for parameter in policy.adapters["actor"].values():
            parameter.fill_(value)


class Logits:
    """Stands before the model's logits and can replace them."""

    def __init__(self, policy: Policy, monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor]) -> None:
        own = policy.next_logits
        monkeypatch.setattr(policy, "next_logits", lambda hidden, temperature: change(own(hidden, temperature)))


def one_infinite(logits: Tensor) -> Tensor:
    logits = logits.clone()
    logits[0, 7] = INF
    return logits


@pytest.mark.parametrize("change", [
    one_infinite, lambda logits: torch.full_like(logits, -INF), lambda logits: logits * NAN,
])
@pytest.mark.parametrize("draw", [GUMBEL, INVERSE_CDF])
@pytest.mark.parametrize("truncation", [{}, {"top_k": 3, "allow_truncation": True},
                                        {"top_p": 0.5, "allow_truncation": True}])
def test_sampling_from_broken_logits_is_refused_by_name(
    neo_config: RunConfig, monkeypatch: pytest.MonkeyPatch, change: Callable[[Tensor], Tensor],
    draw: Draw, truncation: dict,
) -> None:
    policy = Policy.from_config(neo_config)
    Logits(policy, monkeypatch, change)
    with pytest.raises(NonFiniteError, match=r"probabilities are not finite.*float32"):
        sample(policy, PROMPTS, SamplingConfig(max_new_tokens=5, **truncation), torch.Generator().manual_seed(0),
               draw=draw)


@pytest.mark.parametrize("value", [NAN, INF, 1e25])
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_a_decoder_that_met_broken_weights_is_as_good_as_new_with_whole_ones(
    model_folders: dict[str, Path], architecture: str, value: float
) -> None:
    policy = Policy.from_config(tiny_config(model_folders[architecture]))
    stir(policy)
    kept = {name: parameter.detach().clone() for name, parameter in policy.adapters["actor"].items()}
    told: list[str] = []
    decoder = PreparedDecoder(policy, told.append)

    def roll(prompts: list[str]) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        hot = SamplingConfig(max_new_tokens=8, temperature=6.0)
        return sample(policy, prompts, hot, generator, decoder=decoder, draw=INVERSE_CDF).response_ids

    def put_back() -> None:
        with torch.no_grad():
            for name, parameter in policy.adapters["actor"].items():
                parameter.copy_(kept[name])

    spoil(policy, value)
    with pytest.raises(NonFiniteError):
        roll(PROMPTS)  # nothing may be recorded, or ruled out, on the grounds of such weights
    put_back()
    before = roll(PROMPTS)
    plain = decoder.why_plain
    spoil(policy, value)
    with pytest.raises(NonFiniteError):
        roll(PROMPTS)  # replayed, into the caches that are used again
    put_back()
    assert torch.equal(roll(PROMPTS), before)
    assert decoder.why_plain == plain
    assert plain == ""
    assert told == []


class Run:
    """A run of a tiny model whose actor's weights are set to a value after some of its steps."""

    def __init__(
        self, folder: Path, root: Path, value: float, after: Callable[[int, Run], bool],
        sections: Mapping[str, object] | None = None, **train: int,
    ) -> None:
        self.config = tiny_config(folder, train=train, **(sections or {}))
        self.run_dir = RunDir.create(root, self.config)
        self.events: list[Event] = []
        self._value, self._after = value, after
        self.trainer = Trainer(self.config, run_dir=self.run_dir, emit=self)

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, StepFinished) and self._after(event.step, self) and self.trainer.policy:
            spoil(self.trainer.policy, self._value)

    def of(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]


VALUES = [NAN, INF, 1e25, 1e18]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("architecture", ["gpt_neo", "llama"])
def test_weights_that_broke_between_saves_end_a_run_as_diverged_at_its_last_good_checkpoint(
    model_folders: dict[str, Path], tmp_path: Path, value: float, architecture: str
) -> None:
    run = Run(model_folders[architecture], tmp_path, value, lambda step, _: step == 2,
              steps=20, checkpoint_every=20, checkpoint_budget_mb=0, max_nonfinite_steps=3)
    assert run.trainer.run() is RunState.DIVERGED
    status = run.run_dir.status()
    assert status is not None
    assert "probabilities are not finite" in status.message
    assert "checkpoint of step 0" in status.message
    steps = run.of(StepFinished)
    assert [event.metrics["train/skipped_updates"] for event in steps[:2]] == [0, 0]
    broken = steps[2:]
    assert 1 <= len(broken) <= 3  # at once, if the weights themselves are no numbers
    assert all(event.metrics["train/skipped_updates"] == 8 for event in broken)
    assert all(event.metrics["policy/updates"] == 0 and event.samples == () for event in broken)
    assert {alarm.kind for alarm in run.of(Alarm)} == {"non-finite"}
    assert "probabilities are not finite" in run.of(Alarm)[0].text


@pytest.mark.parametrize("value", VALUES)
def test_weights_that_broke_are_gone_back_from_as_often_as_configured(
    model_folders: dict[str, Path], tmp_path: Path, value: float
) -> None:
    def twice(step: int, run: Run) -> bool:
        return step == 2 and len(run.of(RolledBack)) < 2

    run = Run(model_folders["llama"], tmp_path, value, twice,
              steps=4, checkpoint_every=1, max_nonfinite_steps=1, max_rollbacks=2)
    assert run.trainer.run() is RunState.FINISHED
    assert [event.step for event in run.of(RolledBack)] == [1, 1]  # what broke after step 2 was never saved
    assert [line.step for line in run.run_dir.metrics()] == [1, 2, 3, 4]
    for path in checkpoint.candidates(run.run_dir):
        assert all(tensor.abs().max() < 1e6 for name, tensor in checkpoint.load(path).tensors.items()
                   if name.startswith("actor/"))


def test_no_reward_is_asked_about_what_was_never_sampled(model_folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "rewards.py").write_text(
        "import pathlib\n"
        "def score(prompts, responses):\n"
        f"    with open({str(tmp_path / 'calls')!r}, 'a') as file:\n"
        "        print('called', file=file)\n"
        "    return [float(len(text)) for text in responses]\n"
    )
    reward = {"kind": "function", "name": "own", "function": f"{trusted(tmp_path / 'rewards.py')}:score"}
    run = Run(model_folders["llama"], tmp_path / "runs", 1e25, lambda step, _: step == 1,
              {"rewards": [reward], "probe": {"every": 0}},
              steps=9, checkpoint_every=9, checkpoint_budget_mb=0, max_nonfinite_steps=2)
    assert run.trainer.run() is RunState.DIVERGED
    assert len(run.of(StepFinished)) == 3
    assert (tmp_path / "calls").read_text().splitlines() == ["called"]


def test_a_probe_of_broken_weights_is_left_out_and_those_after_a_roll_back_are_not(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    run = Run(model_folders["llama"], tmp_path, 1e25, lambda step, run: step == 2 and not run.of(RolledBack),
              {"probe": {"every": 1}}, steps=4, checkpoint_every=4, max_nonfinite_steps=1, max_rollbacks=1)
    assert run.trainer.run() is RunState.FINISHED
    said = [event.text for event in run.of(Notice) if "probe" in event.text]
    assert said
    assert all("probabilities are not finite" in text for text in said)
    assert [past.step for past in run.run_dir.probes()] == [0, 1, 2, 3, 4]


@pytest.fixture
def broken_run(model_folders: dict[str, Path], tmp_path: Path) -> tuple[RunDir, RunConfig]:
    """A run whose newest checkpoint holds weights that are finite but compute no numbers, as older versions saved."""
    config = tiny_config(model_folders["llama"], train={"steps": 1})
    run_dir = RunDir.create(tmp_path, config)
    Trainer(config, run_dir=run_dir, emit=lambda event: None).run()
    state = checkpoint.load_newest(run_dir)[0]
    tensors = {name: torch.full_like(tensor, 1e25) if name.startswith("actor/") else tensor
               for name, tensor in state.tensors.items()}
    checkpoint.save(run_dir, TrainingState(state.step, tensors, state.numbers, state.config), keep=9)
    return run_dir, config


def test_generate_and_compare_say_in_a_sentence_that_the_model_is_broken(
    broken_run: tuple[RunDir, RunConfig]
) -> None:
    run_dir, config = broken_run
    with pytest.raises(RlhfError, match="probabilities are not finite"):
        generate_texts(run_dir, prompts=["Once"], tuned=True, seed=0)
    assert generate_texts(run_dir, prompts=["Once"], tuned=False, seed=0)[0]  # the reference is whole
    called = CliRunner().invoke(make_app(), ["generate", str(run_dir.path), "--prompt", "Once"])
    assert (called.exit_code, called.stdout) == (1, "")
    assert called.stderr.startswith("error: ")
    assert called.stderr.count("\n") == 1
    policy = Policy.from_config(config)
    spoil(policy, NAN)
    with pytest.raises(RlhfError, match=r"tuned: .*probabilities are not finite"):
        compare(policy, config, responses=4, seed=0)
    told: list[Event] = []
    for request in (Generate(1, config, "Once", True, 1.0, 5, 0), Compare(2, config, 4, 0)):
        answer_question(request, policy, config, 1, told.append)
    finished = [event for event in told if isinstance(event, GenerationFinished | ComparisonFinished)]
    assert ["probabilities are not finite" in event.error for event in finished] == [True, True]
