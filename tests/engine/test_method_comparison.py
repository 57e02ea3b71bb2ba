"""Methods side by side on one group: each says what its own step would do, by hand and by brute force."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engine.test_session import Served
from moments import trusted
from tiny_models import stir, tiny_config
from torch import Tensor

from rlhf_engine.algorithms.base import Resources, algorithm_class, make_algorithm
from rlhf_engine.algorithms.credit import Credit, EvaluatedGroup
from rlhf_engine.config.kinds import algorithm_kind
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import ConfigError, PromptError
from rlhf_engine.evaluation.credit import GroupCredit, group_size
from rlhf_engine.evaluation.method_comparison import compare_methods
from rlhf_engine.events import Event, MethodsCompared, RunState, StateChanged, StepFinished
from rlhf_engine.maths.estimators import gae, kl_k1, kl_k3, shape_rewards, whiten
from rlhf_engine.maths.groups import STD_FLOOR
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.requests import Cancel, Close, CompareMethods, Pause, RequestQueue, Start, Stop, Unpause
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import ScoredBatch
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer

SCORES = [1.0, 2.0, 3.0, 6.0]
LENGTHS = [2, 3, 1, 2]
BETA = 0.3
KINDS = ("ppo", "reinforce", "rloo", "grpo")


# --- four responses by hand ---


def group_of(scores: list[float], numbers: Mapping[str, Any] | None = None) -> EvaluatedGroup:
    """Responses of 2, 3, 1 and 2 tokens that actor and reference find equally likely; no critic."""
    mask = torch.arange(3).expand(4, 3) < torch.tensor(LENGTHS).unsqueeze(1)
    log_probs = torch.where(mask, -1.5, 0.0)
    ids = torch.zeros(4, 3, dtype=torch.long)
    rollout = Rollout(["p"] * 4, list("abcd"), ids[:, :1], torch.ones(4, 1, dtype=torch.bool), ids, mask,
                      torch.ones(4, dtype=torch.bool), log_probs)
    scored = ScoredBatch([Score(score, {}) for score in scores], {})
    policy: Any = SimpleNamespace(heads={})
    return EvaluatedGroup(rollout, scored, torch.tensor(scores, dtype=torch.float64), log_probs,
                          torch.ones(4, 3), log_probs, policy, numbers=numbers or {})


def credit(kind: str, scores: list[float], numbers: Mapping[str, Any] | None = None, **algorithm: object) -> Credit:
    config = RunConfig.model_validate({
        "data": {"prompts": ["p"]}, "algorithm": {"kind": kind, **algorithm}, "sampling": {"max_new_tokens": 10},
        "kl": {"coef": 0.0}, "rewards": [{"kind": "length", "name": "length"}]})
    found = algorithm_class(config.algorithm).assign_credit(config, group_of(scores, numbers))
    assert isinstance(found, Credit)
    return found


ROOT = math.sqrt(14 / 3)  # the deviation of 1, 2, 3, 6
AWAY = [-2.0, -1.0, 0.0, 3.0]


@pytest.mark.parametrize(("kind", "settings", "advantages", "divisors"), [
    ("grpo", {}, [away / (ROOT + STD_FLOOR) for away in AWAY], [4 * length for length in LENGTHS]),
    ("grpo", {"loss_normalization": "token"}, [away / (ROOT + STD_FLOOR) for away in AWAY], [8] * 4),
    ("grpo", {"advantage_scale": "none", "loss_normalization": "constant"}, AWAY, [4 * 10] * 4),  # Dr. GRPO
    ("rloo", {}, [1 - 11 / 3, 2 - 10 / 3, 3 - 9 / 3, 6 - 6 / 3], [4] * 4),
    ("reinforce", {}, AWAY, [4] * 4),
    ("ppo", {"level": "sequence", "whiten_advantages": False}, SCORES, [4] * 4),  # an untrained critic says 0
])
def test_four_responses_by_hand(
    kind: str, settings: dict[str, object], advantages: list[float], divisors: list[int]
) -> None:
    found = credit(kind, SCORES, **settings)
    assert found.advantages.tolist() == pytest.approx(advantages, abs=1e-6)
    for row, (advantage, divisor, length) in enumerate(zip(advantages, divisors, LENGTHS, strict=True)):
        expected = [advantage / divisor] * length + [0.0] * (3 - length)
        assert found.pushes[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_ppo_by_token_discounts_what_is_far_ahead_by_hand() -> None:
    found = credit("ppo", SCORES, trace_decay=0.5, whiten_advantages=False)
    expected = [[0.5, 1.0, 0.0], [0.5, 1.0, 2.0], [3.0, 0.0, 0.0], [3.0, 6.0, 0.0]]
    assert torch.allclose(found.advantages, torch.tensor(expected))
    assert torch.allclose(found.pushes, torch.tensor(expected) / 8)  # a mean over 8 tokens
    assert "critic" in found.lacks


def test_running_means_of_the_run_are_used_and_not_moved() -> None:
    moments = {"mean": 2.0, "variance": 4.0, "steps": 3}
    options: dict[str, Any] = {"level": "sequence", "whiten_advantages": False, "score_normalization": "center"}
    found = credit("ppo", SCORES, {"scores": moments}, **options)
    mean = 2.0 + 0.1 * (3.0 - 2.0)
    assert found.advantages.tolist() == pytest.approx([score - mean for score in SCORES], abs=1e-6)
    assert moments == {"mean": 2.0, "variance": 4.0, "steps": 3}


@pytest.mark.parametrize("kind", ["reinforce", "rloo", "grpo"])
def test_equal_scores_push_nothing(kind: str) -> None:
    found = credit(kind, [2.5] * 4)
    assert not found.advantages.any()
    assert not found.pushes.any()


def test_what_grpo_leaves_out_is_not_pushed() -> None:
    found = credit("grpo", [2.5] * 4, drop_equal_groups=True)
    assert not found.pushes.any()
    assert credit("grpo", SCORES, drop_equal_groups=True).pushes.any()


# --- against a step of each method ---


def config_of(folder: Path, kind: str, **algorithm: object) -> RunConfig:
    """A step is one group of 8 to one prompt, in one minibatch, whose gradient is left behind unclipped."""
    sections = tiny_config(folder, sampling={"temperature": 6.0, "max_new_tokens": 16}, kl={"coef": BETA},
                           optimizer={"max_grad_norm": 1e9}).model_dump()
    grouped = {"group_size": 8} if kind in ("rloo", "grpo") else {}
    epochs = {} if kind == "reinforce" else {"epochs": 1}
    sections["algorithm"] = {
        "kind": kind, "responses_per_step": 8, "minibatch_size": 8, **grouped, **epochs, **algorithm}
    sections["rewards"] = [{"kind": "length", "name": "length", "min_words": 3, "penalty_per_word": 1.0},
                           {"kind": "word_list", "name": "words", "liked": ["a", "b", "c"], "disliked": ["d", "e"]}]
    return RunConfig.model_validate(sections)


def policy_of(config: RunConfig) -> Policy:
    policy = Policy.from_config(config)
    stir(policy)
    policy.end_ids = (256, *range(20))  # so that responses end early, and the group is ragged
    return policy


def compared(config: RunConfig, policy: Policy | None = None, **options: Any) -> GroupCredit:
    found = compare_methods(policy or policy_of(config), config, "Once", responses=8, seed=config.train.seed, **options)
    assert found is not None
    return found


@pytest.mark.parametrize(("kind", "settings"), [
    ("ppo", {}), ("ppo", {"level": "sequence"}), ("ppo", {"importance_sampling_cap": 2.0, "whiten_advantages": False}),
    ("reinforce", {}), ("rloo", {}), ("rloo", {"whiten_advantages": True}), ("grpo", {}),
    ("grpo", {"ratio_level": "sequence", "loss_normalization": "token"}), ("grpo", {"mask_truncated": True}),
])
def test_pushes_are_the_gradient_of_a_step_of_that_method(
    model_folders: dict[str, Path], kind: str, settings: dict[str, object]
) -> None:
    config = config_of(model_folders["gpt_neo"], kind, **settings)
    own = compared(config).methods[0]
    assert own.kind == kind

    policy = policy_of(config)
    method = make_algorithm(config, Resources.of(policy, config))
    actor = policy.adapters["actor"]
    before = {name: weight.detach().clone() for name, weight in actor.items()}
    prompts = ["Once"] * config.algorithm.rows_per_step
    result = method.step(1, PromptBatch(prompts), lambda phase, fraction: None)
    left_behind = [weight.grad for weight in actor.values()]
    told = [sample.trace for sample in result.samples]
    for trace, advantages in zip(told, own.advantages, strict=True):
        assert trace is not None
        known = trace.series.get("advantages", (trace.whole.get("advantages"),) * len(advantages))
        assert advantages == pytest.approx(known, abs=1e-5)

    with torch.no_grad():
        for name, weight in actor.items():
            weight.copy_(before[name])
    rollout = make_algorithm(config, Resources.of(policy_of(config), config)).on_policy.roll_out(  # type: ignore[attr-defined]
        PromptBatch(["Once"] * 8), lambda phase, fraction: None)
    assert rollout.responses == [sample.response for sample in result.samples]
    ids, mask, response_mask = rollout.batch(torch.arange(8))
    log_probs = policy.log_probs("actor", ids, mask, response_mask.shape[1], 6.0).log_probs
    pushes = torch.zeros_like(log_probs)
    for row, values in enumerate(own.pushes):
        pushes[row, :len(values)] = torch.tensor(values)
    gradients = torch.autograd.grad(-(pushes * log_probs).sum(), list(actor.values()))
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    assert largest > 1e-4, "nothing would be compared"
    for found, expected in zip(gradients, left_behind, strict=True):
        torch.testing.assert_close(found, expected, atol=2e-4 * largest, rtol=1e-3)


class Numbers:
    """A comparison's group as tensors, padded; log-probs with gradient."""

    def __init__(self, found: GroupCredit) -> None:
        self.scores = [sample.score or 0.0 for sample in found.samples]
        self.lengths = [sample.tokens for sample in found.samples]
        self.mask = torch.arange(max(self.lengths)).expand(8, -1) < torch.tensor(self.lengths).unsqueeze(1)
        self.log_probs = self._padded("log_probs", found).requires_grad_()
        self.reference = self._padded("reference_log_probs", found)
        self.old = self.log_probs.detach()

    def _padded(self, name: str, found: GroupCredit) -> Tensor:
        rows = [torch.tensor(sample.trace.series[name]) for sample in found.samples if sample.trace]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    @property
    def response_log_probs(self) -> Tensor:
        return torch.where(self.mask, self.log_probs, 0.0).sum(1)

    def rewards(self) -> list[float]:
        kl = torch.where(self.mask, kl_k1(self.old, self.reference), 0.0).sum(1).tolist()
        return [score - BETA * nats for score, nats in zip(self.scores, kl, strict=True)]


def loss_by_formula(kind: str, of: Numbers) -> Tensor:
    """Each method's loss at its defaults, as papers state it, of which only log-probs are variable."""
    ratio = torch.exp(of.log_probs - of.old)
    if kind == "grpo":
        advantages = torch.tensor([(score - fmean(of.scores)) / (stdev(of.scores) + STD_FLOOR) for score in of.scores])
        tokens = -advantages.unsqueeze(1) * ratio + BETA * kl_k3(of.log_probs, of.reference)
        return (torch.where(of.mask, tokens, 0.0).sum(1) / torch.tensor(of.lengths)).mean()
    if kind == "ppo":  # the critic of a policy that has none says 0
        rewards = shape_rewards(torch.tensor(of.scores), kl_k1(of.old, of.reference), of.mask, BETA)
        advantages, returns = gae(rewards, torch.zeros_like(rewards), of.mask, discount=1.0, trace_decay=0.95)
        whitened = whiten(advantages, of.mask, differences_of=returns)
        return -torch.where(of.mask, whitened * ratio, 0.0).sum() / of.mask.sum()
    rewards_ = of.rewards()
    if kind == "rloo":
        baselines = [(sum(rewards_) - reward) / 7 for reward in rewards_]
        whole = torch.exp(of.response_log_probs - of.response_log_probs.detach())
    else:
        baselines, whole = [fmean(rewards_)] * 8, of.response_log_probs
    advantages = torch.tensor([reward - base for reward, base in zip(rewards_, baselines, strict=True)])
    return -(advantages * whole).mean()


@pytest.mark.parametrize("run", ["grpo", "reinforce"])
def test_pushes_of_all_methods_are_the_gradients_of_their_losses(model_folders: dict[str, Path], run: str) -> None:
    found = compared(config_of(model_folders["llama"], run))
    assert len({sample.tokens for sample in found.samples}) > 2, "ragged, or all normalizations are one"
    assert [method.kind for method in found.methods] == [run, *(kind for kind in ("ppo", "grpo", "rloo", "reinforce")
                                                                if kind != run)]
    for method in found.methods:
        of = Numbers(found)
        (gradient,) = torch.autograd.grad(loss_by_formula(method.kind, of), of.log_probs)
        for row, pushes in enumerate(method.pushes):
            assert pushes == pytest.approx((-gradient[row, :len(pushes)]).tolist(), abs=1e-6), method.kind
    assert not found.left_out


def test_the_line_of_a_method_tells_what_its_settings_change() -> None:
    def told(kind: str, **settings: object) -> str:
        return algorithm_kind(kind).model_validate({"kind": kind, **settings}).about_credit(0.25)

    assert "group's deviation" in told("grpo")
    assert "group's deviation" not in told("grpo", advantage_scale="none")
    assert "truncated" in told("grpo", mask_truncated=True)
    assert "0.8 to 1.28" in told("grpo", clip_range_high=0.28)
    assert "GAE" in told("ppo")
    assert "GAE" not in told("ppo", level="sequence")
    assert "warm-up" in told("ppo", critic_warmup_steps=3)
    assert "whitened" in told("rloo", whiten_advantages=True)
    assert all("β 0.25" in told(kind) for kind in KINDS)
    assert all("no KL" in algorithm_kind(kind).model_validate({"kind": kind}).about_credit(0.0) for kind in KINDS)


def test_a_controller_s_coefficient_is_that_of_all_methods(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo")
    found = compared(config, numbers={"kl_coef": 0.7})
    assert found.kl_coef == 0.7
    assert all("0.7" in method.told for method in found.methods)
    same = compared(config.model_copy(update={"kl": config.kl.model_copy(update={"coef": 0.7})}))
    assert same.methods == found.methods


def test_a_critic_that_there_is_gives_the_values(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "ppo", whiten_advantages=False)
    policy = policy_of(config)
    with_critic = compared(config, policy).methods[0]
    with torch.no_grad():
        for weight in policy.heads["value"].parameters():
            weight.zero_()
    silent = compared(config, policy).methods[0]
    assert with_critic.advantages != silent.advantages
    assert "no critic" not in with_critic.told + silent.told


def test_a_run_that_samples_groups_compares_on_groups_as_large(model_folders: dict[str, Path]) -> None:
    assert group_size(config_of(model_folders["gpt_neo"], "ppo")) == 8
    config = config_of(model_folders["gpt_neo"], "grpo")
    assert group_size(config.model_copy(update={
        "algorithm": config.algorithm.model_copy(update={"group_size": 4})})) == 4


def test_rewards_see_the_columns_of_the_row_that_the_prompt_is_of(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": prompt, "worth": worth}) + "\n"
                            for prompt, worth in (("Long ago", 2.0), ("Once", 5.0))))
    code = tmp_path / "worth.py"
    code.write_text("def score(prompts, responses, columns):\n    return [float(x) for x in columns['worth']]\n")
    trusted(code)
    config = tiny_config(model_folders["gpt_neo"], data={"prompts": [], "source": str(rows)},
                         rewards=[{"kind": "function", "name": "worth", "function": f"{code}:score"}])
    found = compared(config)
    assert [sample.score for sample in found.samples] == [5.0] * 8


def test_a_run_of_another_kind_is_compared_too(model_folders: dict[str, Path]) -> None:
    config = tiny_config(model_folders["gpt_neo"], algorithm={"kind": "grpo"}, data={
        "prompts": ["Once"], "chosen": [" a fox"], "rejected": [" a boy"]}).model_dump()
    config["algorithm"] = {"kind": "dpo", "pairs_per_step": 1}
    found = compared(RunConfig.model_validate(config))
    assert {method.kind for method in found.methods} == set(KINDS)


# --- what is refused ---


def test_bad_input_gets_a_sentence(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo")
    policy = policy_of(config)
    for responses in (1, 65):
        with pytest.raises(ConfigError, match=f"responses: {responses} .*from 2 to 64"):
            compare_methods(policy, config, "Once", responses=responses, seed=0)
    with pytest.raises(PromptError, match="context of 64"):
        compare_methods(policy, config, "x" * 100, responses=2, seed=0)
    with pytest.raises(ConfigError, match="no rewards"):
        compare_methods(policy, config.model_copy(update={"rewards": []}), "Once", responses=2, seed=0)


def test_given_up_it_has_no_result(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo")
    assert compare_methods(policy_of(config), config, "Once", responses=2, seed=0, cancelled=lambda: True) is None


# --- nothing moves ---


def everything(trainer: Trainer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    assert trainer.algorithm is not None
    state = trainer.algorithm.state()
    gradients = {f"grad/{name}": weight.grad.clone() for name, weight in trainer.policy.parameters.items()  # type: ignore[union-attr]
                 if weight.grad is not None}
    return {name: tensor.clone() for name, tensor in state.tensors.items()} | gradients, {
        **state.numbers, "torch": torch.get_rng_state().tolist()}


@pytest.mark.parametrize(("kind", "settings"), [("ppo", {"score_normalization": "standardize"}), ("grpo", {})])
def test_a_run_that_is_asked_and_one_that_is_not_are_the_same_run(
    model_folders: dict[str, Path], tmp_path: Path, kind: str, settings: dict[str, object]
) -> None:
    config = config_of(model_folders["gpt_neo"], kind, **settings)
    config = config.model_copy(update={"kl": config.kl.model_copy(update={"controller": "adaptive", "target": 0.1})})

    def run(name: str, *, asked: bool) -> tuple[list[dict[str, float]], RunDir, list[MethodsCompared]]:
        requests, steps, answers = RequestQueue(), list[dict[str, float]](), list[MethodsCompared]()
        run_dir = RunDir.create(tmp_path, config, name=name)

        def emit(event: Event) -> None:
            if isinstance(event, StepFinished):
                steps.append({key: value for key, value in event.metrics.items()
                              if not key.startswith(("time/", "throughput/"))})
                if asked:
                    requests.ask(CompareMethods(event.step, config, "Once", 4, 7))
            elif isinstance(event, MethodsCompared):
                answers.append(event)

        Trainer(config, run_dir=run_dir, requests=requests, emit=emit).run()
        return steps, run_dir, answers

    quiet, one, _ = run("quiet", asked=False)
    noisy, other, answers = run("noisy", asked=True)
    assert quiet == noisy
    assert len(answers) == 3
    assert all(answer.result is not None and not answer.error for answer in answers)
    assert answers[0].result.methods != answers[1].result.methods  # of the weights of the moment
    first, second = (checkpoint.load_newest(run_dir)[0] for run_dir in (one, other))
    assert first.tensors.keys() == second.tensors.keys()
    assert all(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    ignored = {"seconds", "threads"}
    assert {k: v for k, v in first.numbers.items() if k not in ignored} == {
        k: v for k, v in second.numbers.items() if k not in ignored}


def test_nothing_moves_at_all(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "ppo", score_normalization="standardize")
    trainer = Trainer(config, run_dir=None, emit=lambda event: None)
    trainer.run()
    assert trainer.policy is not None
    tensors, numbers = everything(trainer)
    compared(config, trainer.policy, numbers=trainer.algorithm.state().numbers)  # type: ignore[union-attr]
    again, same = everything(trainer)
    assert same == numbers
    assert again.keys() == tensors.keys()
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)


# --- asked of an engine thread ---


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.session.ask(Close())
    served.thread.join(60)
    assert not served.thread.is_alive()


def test_it_is_answered_between_steps_after_a_run_and_of_one_that_is_viewed(
    served: Served, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    config = config_of(model_folders["gpt_neo"], "ppo")
    served.session.ask(Start(config, tmp_path, "one"))
    served.session.ask(Pause())
    served.wait_for(StateChanged, state=RunState.PAUSED)
    served.session.ask(CompareMethods(1, config, "Once", 2, 0))
    paused: Any = served.wait_for(MethodsCompared, request_id=1)
    assert (paused.result.step, len(paused.result.samples)) == (0, 2)
    served.session.ask(Unpause())
    served.wait_for(StateChanged, state=RunState.FINISHED)
    served.session.ask(CompareMethods(2, config, "Once", 2, 0))
    after: Any = served.wait_for(MethodsCompared, request_id=2)
    served.session.ask(CompareMethods(3, config, "Once", 2, 0, run=tmp_path / "one"))
    viewed: Any = served.wait_for(MethodsCompared, request_id=3)
    assert after.result == viewed.result
    assert after.result.step == 3
    assert "no critic" not in viewed.result.methods[0].told
    served.session.ask(CompareMethods(4, config, "Once", 2, 1, run=tmp_path / "one"))
    another: Any = served.wait_for(MethodsCompared, request_id=4)
    assert another.result.step == 3
    assert another.result != viewed.result


def test_what_cannot_be_answered_is_told(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    for number, question in enumerate((
        CompareMethods(1, neo_config, "Once", 1, 0), CompareMethods(2, neo_config, "x" * 100, 2, 0),
        CompareMethods(3, neo_config, "Once", 2, 0, run=tmp_path / "none"),
    ), 1):
        served.session.ask(question)
        answer: Any = served.wait_for(MethodsCompared, request_id=number)
        assert answer.result is None
        assert answer.error


def test_one_that_waits_can_be_given_up(served: Served, neo_config: RunConfig, tmp_path: Path) -> None:
    config = neo_config.model_copy(update={"train": neo_config.train.model_copy(update={"steps": 1_000_000})})
    served.session.ask(Start(config, tmp_path, "one"))
    served.session.ask(CompareMethods(5, config, "Once", 2, 0))
    served.session.ask(Cancel(5))
    answer: Any = served.wait_for(MethodsCompared, request_id=5)
    assert answer.result is None
    served.session.ask(Stop())
    served.wait_for(StateChanged, state=RunState.STOPPED)


# --- methods of others ---

OTHER = '''
from typing import ClassVar, Literal
from rlhf_engine.config.methods.base import AlgorithmConfig, Needs


class OtherConfig(AlgorithmConfig):
    title: ClassVar = "Other"
    implementation: ClassVar = "other_method:Other"
    explanation: ClassVar = ""
    needs: ClassVar = Needs(reference=False)
    metrics: ClassVar = ()
    charts: ClassVar = ("lr",)
    kind: Literal["other"] = "other"

    def about_credit(self, kl_coef):
        return "baseline: none"


class Other:
    @classmethod
    def assign_credit(cls, config, group):
        from rlhf_engine.algorithms.credit import Credit
        advantages = group.scores.float()
        return Credit(advantages, advantages.unsqueeze(1) * group.rollout.response_mask, "nothing")
'''


@pytest.fixture
def _another_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "site"
    info = folder / "other_method-1.dist-info"
    info.mkdir(parents=True)
    (folder / "other_method.py").write_text(OTHER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-method\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[rlhf_tui.algorithms]\nother = other_method:OtherConfig\n")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("_another_method")
def test_a_method_of_another_package_stands_beside_ours(model_folders: dict[str, Path]) -> None:
    assert algorithm_kind("other").title == "Other"
    found = compared(config_of(model_folders["gpt_neo"], "grpo"))
    other = found.methods[-1]
    assert (other.kind, other.told) == ("other", "baseline: none · nothing")
    assert other.totals == pytest.approx([sample.score for sample in found.samples])


def test_a_method_that_makes_pairs_is_not_among_them(model_folders: dict[str, Path]) -> None:
    config = config_of(model_folders["gpt_neo"], "grpo")
    assert {method.kind for method in compared(config).methods} == set(KINDS)
