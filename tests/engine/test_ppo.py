"""What one PPO step computes, against plain formulas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as with_fields
from pathlib import Path

import pytest
import torch
from tiny_models import make_ppo, stir, tiny_config

from rlhf_engine.algorithms.base import State
from rlhf_engine.algorithms.experience import Experience, estimate_advantages, state_values
from rlhf_engine.algorithms.on_policy import Evaluated
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.algorithms.score_normalizer import ScoreNormalizer
from rlhf_engine.config.fields import replace
from rlhf_engine.config.methods.ppo import PPOConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import OptimizerConfig, SamplingConfig
from rlhf_engine.data.batch import PromptBatch
from rlhf_engine.errors import NonFiniteError
from rlhf_engine.events import Sample
from rlhf_engine.learning.optimizer import learning_rate_factor
from rlhf_engine.learning.update import AdapterUpdate
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample

HOT = SamplingConfig(max_new_tokens=16, temperature=6.0)  # so that some responses end early: ragged batches


def make(folder: Path, **sections: object) -> PPO:
    config = tiny_config(folder, **{"sampling": {"temperature": 6.0, "max_new_tokens": 16}, **sections})
    policy = Policy.from_config(config)
    stir(policy)
    return make_ppo(config, policy=policy)


@pytest.fixture(params=["token", "sequence"])
def ppo(request: pytest.FixtureRequest, model_folders: dict[str, Path]) -> PPO:
    return make(model_folders["gpt_neo"], algorithm={"level": request.param})


def experience_of(ppo: PPO, rollout: Rollout | None = None, kl_coef: float | None = None) -> Experience:
    """What a ragged rollout teaches; scores from -1 to 2."""
    rollout = rollout or ragged_rollout(ppo.policy, 5)
    evaluated = ppo.on_policy.evaluate(rollout, ppo.forwards, [], torch.arange(4))
    return taught(ppo, rollout, evaluated, kl_coef)


def taught(ppo: PPO, rollout: Rollout, evaluated: Evaluated, kl_coef: float | None = None) -> Experience:
    (log_probs, entropy), (values,) = evaluated.outputs["actor"], evaluated.outputs["critic"]
    return estimate_advantages(
        rollout, torch.linspace(-1, 2, len(rollout)), log_probs=log_probs, entropy=entropy,
        reference_log_probs=evaluated.outputs["reference"][0],
        values=state_values(values, rollout.response_mask, ppo.settings),
        kl_coef=ppo.kl_coef if kl_coef is None else kl_coef, settings=ppo.settings)


def ragged_rollout(policy: Policy, seed: int) -> Rollout:
    """Eight responses of very different lengths: half are cut short as if they had ended there."""
    prompts = ["Once", "There was a", "x", "Long ago"] * 2
    rollout = sample(policy, prompts, HOT, torch.Generator().manual_seed(seed))
    mask = rollout.response_mask.clone()
    for row in range(0, len(prompts), 2):
        mask[row, row + 1 :] = False
    return with_fields(rollout, response_mask=mask, response_ids=torch.where(mask, rollout.response_ids, policy.pad_id))


def gradients(ppo: PPO, experience: Experience, micro: int = 0) -> tuple[list[torch.Tensor], list[int]]:
    """What one update of actor and critic over all rows is made of, and how many rows each of its passes had.

    micro: the most responses that go through at once; 0: as many as fit.
    """
    ppo.on_policy.limit.size = micro or ppo.on_policy.limit.size
    sizes: list[int] = []
    part = type(experience).part
    watched = with_fields(experience)
    object.__setattr__(watched, "part", lambda rows: sizes.append(len(rows)) or part(experience, rows))
    rows = torch.arange(len(experience))
    ppo.actor.step(rows, watched, 0.0, 1e9)
    ppo.critic.step(rows, watched, 0.0, 1e9)
    parameters = (*ppo.policy.adapters["actor"].values(), *ppo.policy.adapters["critic"].values())
    return [p.grad.clone() for p in parameters], sizes


def test_the_ratio_is_one_and_nothing_is_clipped_before_the_first_update(ppo: PPO) -> None:
    found = ppo.actor.step(torch.arange(4), experience_of(ppo), 0.0, 1.0)
    assert abs(found["val/ratio"] - 1) < 1e-5
    assert found["policy/clipfrac_avg"] == 0
    assert found["policy/approxkl_avg"] < 1e-9


def test_micro_batches_of_ragged_responses_give_the_same_gradient(ppo: PPO) -> None:
    for parameter in ppo.policy.parameters.values():
        parameter.grad = None
    ppo.config = replace(ppo.config, {"optimizer.max_grad_norm": 1e9, "algorithm.critic_max_grad_norm": 1e9})
    experience = experience_of(ppo)
    lengths = experience.mask.sum(1)
    assert len(set(lengths.tolist())) > 2, "ragged, or any divisor would do"
    whole, at_once = gradients(ppo, experience, 8)
    split, one_by_one = gradients(ppo, experience, 1)
    ragged, in_threes = gradients(ppo, experience, 3)
    assert (at_once, one_by_one, in_threes) == ([8] * 2, [1] * 16, [3, 3, 2] * 2)
    largest = max(float(a.abs().max()) for a in whole)
    assert largest > 1e-3
    for a, b, c in zip(whole, split, ragged, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5 * largest, rtol=1e-4)
        torch.testing.assert_close(a, c, atol=2e-5 * largest, rtol=1e-4)


def test_advantages_are_whitened_over_what_was_said_and_no_padding(ppo: PPO) -> None:
    experience = experience_of(ppo)
    assert experience.sequence_level or not experience.action_mask.all(), "ragged, or there is no padding"
    raw = experience.raw_advantages[experience.action_mask]
    expected = (raw - raw.mean()) / raw.var(unbiased=False).sqrt()
    torch.testing.assert_close(experience.advantages[experience.action_mask], expected, atol=1e-4, rtol=1e-4)


def test_nothing_after_the_end_token_counts(ppo: PPO) -> None:
    clean = experience_of(ppo)
    rollout = clean.rollout
    garbage = torch.where(rollout.response_mask, rollout.response_ids, 65)
    dirty_rollout = with_fields(rollout, response_ids=garbage)
    dirty = experience_of(ppo, dirty_rollout)
    for name in ("action_log_probs", "old_values", "advantages", "returns"):
        mask = clean.action_mask
        torch.testing.assert_close(getattr(clean, name)[mask], getattr(dirty, name)[mask], atol=1e-6, rtol=1e-5)
    for a, b in zip(gradients(ppo, clean)[0], gradients(ppo, dirty)[0], strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("baseline", ["prompt", "response"])
def test_the_sequence_level_by_hand(model_folders: dict[str, Path], baseline: str) -> None:
    """One response at a time: summed log-probs, KL taken off the score, the value before the first token or, as the
    textbook says, at the last one; target = reward."""
    ppo = make(model_folders["gpt_neo"], kl={"coef": 0.3},
               algorithm={"level": "sequence", "whiten_advantages": False, "sequence_baseline": baseline})
    experience = experience_of(ppo)
    policy, rollout = ppo.policy, experience.rollout
    for row in range(len(rollout)):
        prompt = rollout.prompt_ids[row][rollout.prompt_mask[row]]
        ids = torch.cat([prompt, rollout.response_ids[row][rollout.response_mask[row]]])[None]
        width, mask = int(rollout.response_mask[row].sum()), torch.ones_like(ids, dtype=torch.bool)
        with torch.no_grad():
            actor = policy.log_probs("actor", ids, mask, width, 6.0).log_probs.sum()
            reference = policy.log_probs("reference", ids, mask, width, 6.0).log_probs.sum()
            with policy.as_role("critic"):
                hidden = policy.forward(ids, mask)[0]
            value = policy.heads["value"](hidden[-1] if baseline == "response" else hidden[len(prompt) - 1])[0]
        reward = torch.linspace(-1, 2, 8)[row] - 0.3 * (actor - reference)
        torch.testing.assert_close(experience.action_log_probs[row], actor, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(experience.returns[row], reward, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(experience.advantages[row], reward - value, atol=1e-4, rtol=1e-5)


def test_a_perfect_critic_leaves_an_advantage_unless_it_has_read_the_response() -> None:
    """Two responses to one prompt with scores 1 and 0: before the first token the value is their mean, after the last
    one the score itself."""
    mask, scores = torch.ones(2, 3, dtype=torch.bool), torch.tensor([1.0, 0.0])
    told = torch.tensor([[0.5, 0.7, 1.0], [0.5, 0.3, 0.0]])
    rollout = Rollout(["x", "x"], ["a", "b"], torch.ones(2, 1).long(), torch.ones(2, 1).bool(),
                      torch.ones(2, 3).long(), mask, torch.ones(2).bool(), torch.zeros(2, 3))
    nothing = torch.zeros(2, 3)
    found = {}
    for baseline in ("prompt", "response"):
        settings = PPOConfig(level="sequence", sequence_baseline=baseline, whiten_advantages=False)
        found[baseline] = estimate_advantages(
            rollout, scores, log_probs=nothing, reference_log_probs=nothing, entropy=nothing,
            values=state_values(told, mask, settings), kl_coef=0.1, settings=settings).advantages.tolist()
    assert found == {"prompt": [0.5, -0.5], "response": [0.0, 0.0]}


def test_at_token_level_the_rewards_of_a_row_add_up_to_score_minus_kl(model_folders: dict[str, Path]) -> None:
    ppo = make(model_folders["gpt_neo"], algorithm={"whiten_advantages": False, "trace_decay": 1.0}, kl={"coef": 0.3})
    experience = experience_of(ppo)
    expected = torch.linspace(-1, 2, 8) - 0.3 * experience.response_kl
    torch.testing.assert_close(experience.returns[:, 0], expected, atol=1e-4, rtol=1e-5)


def test_critic_warm_up_leaves_the_actor_as_it_is(model_folders: dict[str, Path]) -> None:
    ppo = make(model_folders["gpt_neo"], algorithm={"critic_warmup_steps": 2})
    actor = {name: p.detach().clone() for name, p in ppo.policy.adapters["actor"].items()}
    critic = {name: p.detach().clone() for name, p in ppo.policy.adapters["critic"].items()}
    for step in (1, 2):
        assert ppo.step(step, PromptBatch(["Once", "x"])).metrics["policy/updates"] == 0
    assert all(torch.equal(p, actor[name]) for name, p in ppo.policy.adapters["actor"].items())
    assert any(not torch.equal(p, critic[name]) for name, p in ppo.policy.adapters["critic"].items())
    ppo.step(3, PromptBatch(["Once", "x"]))
    assert any(not torch.equal(p, actor[name]) for name, p in ppo.policy.adapters["actor"].items())


def test_the_reference_is_untouched_by_updates(model_folders: dict[str, Path]) -> None:
    ppo = make(model_folders["gpt_neo"], optimizer={"learning_rate": 0.05}, algorithm={"critic_learning_rate": 0.05})
    ids = torch.tensor([[79, 110, 99, 101, 33, 44]])

    def reference_logits() -> torch.Tensor:
        with torch.no_grad(), ppo.policy.as_role("reference"):
            return ppo.policy.base(input_ids=ids).logits

    before = reference_logits()
    for step in (1, 2, 3):
        ppo.step(step, PromptBatch(["Once", "x", "y", "z"]))
    assert torch.equal(before, reference_logits())
    with torch.no_grad():
        assert not torch.equal(before, ppo.policy.base(input_ids=ids).logits)


def test_dropout_is_there_in_updates_when_asked_for(model_folders: dict[str, Path]) -> None:
    norms = []
    for dropout in (0.0, 0.5):
        ppo = make(model_folders["llama"], lora={"dropout": dropout}, algorithm={"epochs": 1, "minibatch_size": 8})
        norms.append(ppo.step(1, PromptBatch(["Once", "x", "y", "z"] * 2)).metrics["grad_norm/actor"])
    assert norms[0] != pytest.approx(norms[1], rel=1e-3)


def test_an_early_stop_ends_a_steps_updates(model_folders: dict[str, Path]) -> None:
    prompts = ["Once", "x", "y", "z"] * 2
    free = make(model_folders["gpt_neo"], optimizer={"learning_rate": 0.05}, algorithm={"epochs": 5})
    held = make(model_folders["gpt_neo"], optimizer={"learning_rate": 0.05}, algorithm={"epochs": 5, "target_kl": 1e-4})
    assert free.step(1, PromptBatch(prompts)).metrics["policy/updates"] == 10
    # the first moves from nothing: it is taken
    assert 2 <= held.step(1, PromptBatch(prompts)).metrics["policy/updates"] < 10
    roomy = make(model_folders["gpt_neo"], optimizer={"learning_rate": 0.05}, algorithm={"epochs": 5, "target_kl": 1e3})
    assert roomy.step(1, PromptBatch(prompts)).metrics["policy/updates"] == 10


def test_the_order_of_minibatches_is_shuffled_from_its_own_generator(model_folders: dict[str, Path]) -> None:
    """The same weights and the same rollout, learnt from in another order, lead elsewhere."""
    found = []
    for seed in (1, 1, 2):
        ppo = make(model_folders["llama"], optimizer={"learning_rate": 0.01},
                   algorithm={"epochs": 1, "minibatch_size": 2})
        tensors, numbers = ppo.state()
        ppo.load_state(State(tensors | {"generator/shuffle": torch.Generator().manual_seed(seed).get_state()}, numbers))
        result = ppo.step(1, PromptBatch(["Once", "There was a", "x", "Long ago"] * 2))
        tensors = {name: tensor.clone() for name, tensor in ppo.state()[0].items() if name.startswith("actor/")}
        found.append(([sample.response for sample in result.samples], tensors))
    assert found[0][0] == found[1][0] == found[2][0]
    assert all(torch.equal(tensor, found[1][1][name]) for name, tensor in found[0][1].items())
    assert not all(torch.equal(tensor, found[2][1][name]) for name, tensor in found[0][1].items())


def test_actor_and_critic_have_rates_and_clip_norms_of_their_own(model_folders: dict[str, Path]) -> None:
    """Seen in how far each moves: one held back by its rate or its norm does not hold back the other."""

    def moved(**settings: float) -> tuple[float, float]:
        usual = {"optimizer.learning_rate": 0.01, "algorithm.critic_learning_rate": 0.01, "optimizer.adam_eps": 1.0,
                 "optimizer.max_grad_norm": 1e9, "algorithm.critic_max_grad_norm": 1e9}
        sizes = {"algorithm.epochs": 1, "algorithm.minibatch_size": 8}
        config = replace(tiny_config(model_folders["llama"]), usual | sizes | settings)
        ppo = make_ppo(config)
        both = (ppo.policy.adapters["actor"], ppo.policy.adapters["critic"])
        before = [{name: p.detach().clone() for name, p in parameters.items()} for parameters in both]
        ppo.step(1, PromptBatch(["Once", "There was a", "x", "Long ago"] * 2))
        actor, critic = (max(float((p.detach() - old[name]).abs().max()) for name, p in parameters.items())
                         for parameters, old in zip(both, before, strict=True))
        return actor, critic

    actor, critic = moved()
    for held, free in (("actor", 1), ("critic", 0)):
        at = "optimizer." if held == "actor" else "algorithm.critic_"
        for name, value in ((f"{at}learning_rate", 1e-5), (f"{at}max_grad_norm", 1e-6)):
            found = moved(**{name: value})
            assert found[free] == pytest.approx((actor, critic)[free], rel=1e-4), name
            assert found[1 - free] < 0.1 * (actor, critic)[1 - free], name


def test_a_gradient_that_is_not_finite_changes_no_weight(model_folders: dict[str, Path]) -> None:
    ppo = make(model_folders["gpt_neo"])
    experience = experience_of(ppo)
    poisoned = with_fields(experience, advantages=torch.full_like(experience.advantages, float("nan")))
    before = {name: p.detach().clone() for name, p in ppo.policy.adapters["actor"].items()}
    with pytest.raises(NonFiniteError, match="actor"):
        ppo.actor.step(torch.arange(8), poisoned, 1e-3, 1.0)
    assert all(torch.equal(p, before[name]) for name, p in ppo.policy.adapters["actor"].items())


def test_the_adaptive_coefficient_moves_towards_its_target_and_the_fixed_one_stays(
    model_folders: dict[str, Path],
) -> None:
    adaptive = make(model_folders["gpt_neo"], kl={"controller": "adaptive", "target": 1e6, "horizon": 80})
    adaptive.step(1, PromptBatch(["Once", "x", "y", "z"] * 2))
    assert adaptive.kl_coef == pytest.approx(0.1 * (1 - 0.2 * 8 / 80))
    fixed = make(model_folders["gpt_neo"])
    fixed.step(1, PromptBatch(["Once", "x"]))
    assert fixed.kl_coef == 0.1


def test_a_step_tells_every_metric_as_a_plain_finite_number(ppo: PPO) -> None:
    result = ppo.step(1, PromptBatch(["Once", "x", "y", "z"]))
    told = {metric.name for metric in PPOConfig.metrics}
    # the first is the trainer's, the second needs scores and lengths that differ
    assert told - {"throughput/matmul_share", "completions/score_length_corr"} <= set(result.metrics)
    assert {"rewards/length/mean", "rewards/length/std"} <= set(result.metrics)
    assert all(type(value) is float and abs(value) < float("inf") for value in result.metrics.values())
    assert all(sample.step == 1 and sample.prompt for sample in result.samples)


def test_what_a_step_tells_adds_up(ppo: PPO) -> None:
    """KL is summed over each response, and taken off the score; a policy with random adapters is far from its base."""
    result = ppo.step(1, PromptBatch(["Once", "There was a", "x", "Long ago"] * 2))
    told = result.metrics
    assert len(result.samples) == 8
    for one in result.samples:
        assert one.trace
        assert one.kl == pytest.approx(sum(one.trace.series["kl"]), rel=1e-4, abs=1e-4)
    kl, score = (sum(values) / 8 for values in zip(*((one.kl, one.score) for one in result.samples), strict=True))
    lengths = [one.tokens for one in result.samples]
    assert abs(kl) > 0.5
    assert told["objective/kl"] == pytest.approx(kl, rel=1e-4)
    assert told["objective/scores"] == pytest.approx(score)
    assert told["objective/non_score_reward"] == pytest.approx(-0.1 * kl, rel=1e-4)
    assert told["objective/rlhf_reward"] == pytest.approx(score - 0.1 * kl, rel=1e-4)
    assert told["completions/mean_length"] == pytest.approx(sum(lengths) / 8)
    surprise = [-sum(one.trace.series["log_probs"]) for one in result.samples if one.trace]
    assert told["objective/entropy"] == pytest.approx(sum(surprise) / 8, rel=1e-4)
    likely = [sum(one.trace.series["reference_log_probs"]) for one in result.samples if one.trace]
    assert told["objective/ref_logprob"] == pytest.approx(sum(likely) / sum(lengths), rel=1e-4)


def test_learning_rate_warms_up_and_decays() -> None:
    settings = OptimizerConfig(warmup_steps=2, decay="linear")
    assert [learning_rate_factor(step, settings, 6) for step in range(1, 8)] == pytest.approx(
        [0.5, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]
    )
    assert learning_rate_factor(100, OptimizerConfig(), 6) == 1.0


def test_scores_are_centred_by_their_running_mean() -> None:
    normalizer = ScoreNormalizer()
    first = normalizer(torch.tensor([1.0, 3.0]), "center")
    assert first.tolist() == [-1.0, 1.0]
    second = normalizer(torch.tensor([12.0, 12.0]), "center")  # mean 0.9 * 2 + 0.1 * 12 = 3
    assert second.tolist() == pytest.approx([9.0, 9.0])
    assert ScoreNormalizer()(torch.tensor([1.0, 3.0]), "none").tolist() == [1.0, 3.0]
    assert ScoreNormalizer()(torch.tensor([1.0, 5.0]), "standardize").tolist() == pytest.approx([-1.0, 1.0])
    assert ScoreNormalizer()(torch.tensor([4.0, 4.0]), "standardize").isfinite().all()
    single = ScoreNormalizer()  # one response a step: the spread is that between steps
    assert max(abs(single(torch.tensor([float(score)]), "standardize").item()) for score in (1, 2, 1, 3, 2, 1)) < 10


@pytest.mark.parametrize("mode", ["center", "standardize"])
@pytest.mark.parametrize("score", [1000.1, 1e6 + 0.1, 1e-3, -7.3])
def test_equal_scores_are_normalised_to_nothing_however_large(mode: str, score: float) -> None:
    normalizer = ScoreNormalizer()
    for _ in range(30):
        assert normalizer(torch.full((7,), score, dtype=torch.float64), mode).tolist() == [0.0] * 7  # type: ignore[arg-type]


def traced(samples: Sequence[Sample], name: str) -> list[float]:
    """A number of each action of these samples."""
    traces = [told.trace for told in samples if told.trace]
    return [value for trace in traces for value in trace.series.get(name, ()) or (trace.whole[name],)]


def test_a_step_of_equal_large_scores_has_nothing_to_learn(model_folders: dict[str, Path]) -> None:
    """Seen in the traces of the step: no reward, no advantage, and a critic that explains nothing."""
    reward = {"kind": "length", "name": "length", "min_words": 10_000, "penalty_per_word": 9.0, "max_penalty": 1000.0,
              "weight": 1.0001}
    for normalization, level in (("standardize", "token"), ("none", "sequence"), ("none", "token")):
        ppo = make(model_folders["gpt_neo"], rewards=[reward], kl={"coef": 0.0}, optimizer={"learning_rate": 0.0},
                   algorithm={"score_normalization": normalization, "level": level, "trace_decay": 1.0,
                        "responses_per_step": 7, "minibatch_size": 7})
        result = ppo.step(1, PromptBatch(["Once", "x", "y", "z", "There was a", "Long ago", "ab"]))
        assert result.metrics["objective/scores"] == pytest.approx(-1000.1)
        if normalization == "standardize":
            assert all(value == 0 for value in traced(result.samples, "rewards"))
        assert result.metrics["val/explained_variance"] == 0


def test_a_critic_that_is_right_leaves_no_advantage_to_whiten(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All scores 1000.1, and values that are so but for a rounding error: whitening must not make noise of that."""
    reward = {"kind": "length", "name": "length", "min_words": 10_000, "penalty_per_word": 9.0, "max_penalty": 1000.0,
              "weight": 1.0001}
    for level in ("token", "sequence"):
        ppo = make(model_folders["gpt_neo"], rewards=[reward], kl={"coef": 0.0}, algorithm={"level": level})
        with torch.no_grad():
            ppo.policy.heads["value"].weight.zero_()
            ppo.policy.heads["value"].bias.fill_(-1000.1001)
        result = ppo.step(1, PromptBatch(["Once", "x", "y", "z"] * 2))
        assert result.samples
        assert all(value == 0 for value in traced(result.samples, "advantages"))
        assert any(value != 0 for value in traced(result.samples, "raw_advantages"))


@pytest.mark.parametrize("architecture", ["gpt_neo", "llama", "gpt2"])
def test_tokens_are_sampled_with_the_probabilities_they_are_scored_with(
    model_folders: dict[str, Path], architecture: str
) -> None:
    ppo = make(model_folders[architecture], sampling={"temperature": 3.0})
    for step in (1, 2, 3):
        result = ppo.step(step, PromptBatch(["Once", "There was a", "x", "Long ago"] * 2))
        assert result.metrics["sampling/logprob_gap"] <= 1e-5


def sampling_too_cold(ppo: PPO, monkeypatch: pytest.MonkeyPatch) -> None:
    own = ppo.policy.next_logits
    monkeypatch.setattr(ppo.policy, "next_logits", lambda hidden, temperature: own(hidden, 0.7 * temperature))


@dataclass
class Watched:
    """An update that lets see what it learns from."""

    of: AdapterUpdate
    seen: dict
    key: object

    def step(self, rows: torch.Tensor, lesson: Experience, *rest: object) -> dict[str, float]:
        self.seen.setdefault(self.key, lesson)
        return self.of.step(rows, lesson, *rest)  # type: ignore[arg-type]


def test_a_wrong_temperature_shows_in_the_gap_and_its_weights_correct_for_it(
    model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = ["Once", "There was a", "x", "Long ago"] * 2
    for level in ("token", "sequence"):
        seen: dict[float | None, Experience] = {}
        for cap in (None, 1.5):
            ppo = make(model_folders["llama"], sampling={"temperature": 2.0},
                       algorithm={"level": level, "importance_sampling_cap": cap})
            sampling_too_cold(ppo, monkeypatch)
            monkeypatch.setattr(ppo, "actor", Watched(ppo.actor, seen, cap))
            result = ppo.step(1, PromptBatch(prompts))
            assert result.metrics["sampling/logprob_gap"] > 0.05
        plain, weighted = seen[None], seen[1.5]
        assert torch.equal(plain.log_probs, weighted.log_probs)
        assert torch.equal(plain.raw_advantages, weighted.raw_advantages)
        sampled = plain.rollout.log_probs
        if level == "sequence":
            sampled = torch.where(plain.mask, sampled, 0.0).sum(1)
        mask = plain.action_mask
        expected = plain.advantages * (plain.action_log_probs - sampled).exp().clamp(max=1.5)
        torch.testing.assert_close(weighted.advantages[mask], expected[mask], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(weighted.advantages[mask], plain.advantages[mask])


def test_a_coefficient_far_off_comes_near_within_a_short_run_with_the_horizon_of_none(
    model_folders: dict[str, Path]
) -> None:
    for target, factor in ((1e6, 0.8**5), (1e-6, 1.2**5)):
        ppo = make(model_folders["llama"], kl={"controller": "adaptive", "target": target}, train={"steps": 18})
        for step in range(1, 6):
            ppo.step(step, PromptBatch(["Once", "x", "y", "z"] * 2))
        assert ppo.kl_coef == pytest.approx(0.1 * factor)


def test_generators_of_another_kind_of_device_do_not_stop_a_resume(neo_config: RunConfig) -> None:
    ppo = make_ppo(neo_config)
    tensors, numbers = ppo.state()
    on_a_gpu = {"generator/sampling": torch.zeros(16, dtype=torch.uint8)}  # what a CUDA generator's state looks like
    before = ppo.learners.sampling_generator.get_state()
    ppo.load_state(State(tensors | on_a_gpu, numbers))
    assert torch.equal(ppo.learners.sampling_generator.get_state(), before)


def test_live_edits_reach_the_step(neo_config: RunConfig) -> None:
    ppo = make_ppo(neo_config)
    changed = neo_config.model_copy(update={"kl": neo_config.kl.model_copy(update={"coef": 0.7})})
    ppo.reconfigure(changed)
    assert ppo.kl_coef == 0.7


def test_the_passes_that_are_reused_are_those_an_update_would_repeat(ppo: PPO) -> None:
    rollout, rows = ragged_rollout(ppo.policy, 5), torch.tensor([6, 1, 3, 4])
    evaluated = ppo.on_policy.evaluate(rollout, ppo.forwards, ["actor", "critic"], rows)
    experience, plain = taught(ppo, rollout, evaluated), experience_of(ppo, rollout)
    assert set(evaluated.reused) == {"actor", "critic"}
    for name in ("log_probs", "token_kl", "entropy", "old_values", "advantages", "returns"):
        mask = plain.action_mask if name in ("old_values", "advantages", "returns") else plain.mask
        torch.testing.assert_close(getattr(experience, name)[mask], getattr(plain, name)[mask], atol=1e-5, rtol=1e-5)
    for name, update in (("actor", ppo.actor), ("critic", ppo.critic)):
        reused = update.step(rows, experience, 0.0, 1.0, evaluated.reused[name])
        gradients = [p.grad.clone() for p in ppo.policy.adapters[name].values()]
        again = update.step(rows, experience, 0.0, 1.0)
        assert reused == again
        for gradient, parameter in zip(gradients, ppo.policy.adapters[name].values(), strict=True):
            assert torch.equal(gradient, parameter.grad)


@pytest.mark.parametrize(("sections", "reused"), [({}, {"actor", "critic"}), ({"lora": {"dropout": 0.1}}, set())])
def test_passes_are_reused_only_where_an_update_repeats_them_exactly(
    model_folders: dict[str, Path], sections: dict[str, object], reused: set[str]
) -> None:
    ppo = make(model_folders["gpt_neo"], **sections)
    rollout = ragged_rollout(ppo.policy, 5)
    found = ppo.on_policy.evaluate(rollout, ppo.forwards, ["actor", "critic"], torch.arange(4))
    assert set(found.reused) == reused
    alone = ppo.on_policy.evaluate(rollout, ppo.forwards, ["critic"], torch.arange(4))
    assert set(alone.reused) == reused - {"actor"}
