"""What a round of a pipeline came to: hidden scores, KL, and how often the reward model is right."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from rlhf_engine.config import presets
from rlhf_engine.config.kinds import reward_from
from rlhf_engine.data.rows import prompts_to_ask
from rlhf_engine.evaluation.generate import answer, load_tuned
from rlhf_engine.events import Sample
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.pipelining.loop import held_out_metrics
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.rewards.composite import RewardSum
from rlhf_engine.runs.pipeline_dir import PipelinePlan
from rlhf_engine.runs.run_dir import RunDir

_AT_ONCE = 64  # responses
_FAR = 2**40  # from the seeds that labels and runs count up from


def measured(policy_run: RunDir, reward_run: RunDir, plan: PipelinePlan) -> dict[str, Any]:
    """`reward_model.accuracy`: with a simulated rater, of fresh pairs of the reference, the share that the reward model
    orders as the rater does without its errors; with a person, its held-out accuracy.
    `hidden_score.*`: by the rater's rewards (None without one). `kl`: of the tuned policy, nats per response.
    """
    policy, config, step = load_tuned(policy_run)
    reward_model = build_rewards([reward_from({"kind": "preference", "name": "learnt", "model": str(reward_run.path)})])
    hidden = build_rewards(presets.load(plan.rater).rewards) if plan.rater else None
    asked = prompts_to_ask(config)
    prompts = [asked[place % len(asked)] for place in range(plan.responses)]

    def sampled(*, tuned: bool, seed: int) -> list[Sample]:
        found: list[Sample] = []
        decoder = PreparedDecoder(policy)  # it holds the weights of one role
        for first in range(0, len(prompts), _AT_ONCE):
            found += answer(policy, prompts[first:first + _AT_ONCE], config.sampling, tuned=tuned,
                            seed=_FAR + plan.seed + seed * plan.responses + first, step=step, decoder=decoder)
        return found

    reference, other, tuned = (sampled(tuned=tuned, seed=seed) for tuned, seed in ((False, 0), (False, 1), (True, 0)))
    accuracy = (_agreement(reward_model, hidden, reference, other) if hidden
                else held_out_metrics(reward_run).get("eval/accuracy"))
    return {
        "reward_model.accuracy": accuracy,
        "hidden_score.reference": fmean(_totals(hidden, reference)) if hidden else None,
        "hidden_score.tuned": fmean(_totals(hidden, tuned)) if hidden else None,
        "kl": fmean(sample.kl or 0.0 for sample in tuned),
    }


def _totals(rewards: RewardSum, samples: list[Sample]) -> list[float]:
    scored = rewards.score([sample.prompt for sample in samples], [sample.response for sample in samples])
    return [score.total for score in scored.scores]


def _agreement(learnt: RewardSum, hidden: RewardSum, first: list[Sample], second: list[Sample]) -> float | None:
    """The share of pairs that both order alike, among those in which the hidden scores differ."""
    gaps = [[a - b for a, b in zip(_totals(rewards, first), _totals(rewards, second), strict=True)]
            for rewards in (learnt, hidden)]
    told = [(own > 0) == (true > 0) for own, true in zip(*gaps, strict=True) if true]
    return fmean(told) if told else None
