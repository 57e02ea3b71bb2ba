"""What a step tells of its rollout: metrics for the charts, and some responses to read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean, pstdev

import torch

from rlhf_engine.algorithms.experience import Experience
from rlhf_engine.algorithms.on_policy import response_length
from rlhf_engine.algorithms.trace import traces_of
from rlhf_engine.config.methods.ppo import ppo_settings
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import Sample
from rlhf_engine.maths.estimators import explained_variance, masked_mean
from rlhf_engine.maths.statistics import distinct_n
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import ScoredBatch
from rlhf_engine.words import count_words


def rollout_metrics(
    experience: Experience, scored: ScoredBatch, kl_coef: float, *, ends: bool = True
) -> dict[str, float]:
    """Everything that is known of a rollout before its updates; names and units are those of `metrics.REGISTRY`.

    ends: the model has an end token. One that has none ends nothing, so that no share of its responses is cut off.
    """
    mask, totals = experience.mask, [score.total for score in scored.scores]
    kl = experience.response_kl.mean().item()
    surprise = torch.where(mask, -experience.log_probs, 0.0).sum(1).mean().item()
    metrics = {
        "objective/scores": fmean(totals),
        "objective/scores_std": pstdev(totals),
        "objective/kl": kl,
        "objective/non_score_reward": -kl_coef * kl,
        "objective/rlhf_reward": fmean(totals) - kl_coef * kl,
        "objective/entropy": surprise,
        "sampling/logprob_gap": masked_mean((experience.rollout.log_probs - experience.log_probs).abs(), mask).item(),
        "objective/ref_logprob": masked_mean(experience.reference_log_probs, mask).item(),
        "policy/entropy_avg": masked_mean(experience.entropy, mask).item(),
        "val/explained_variance": explained_variance(
            experience.old_values, experience.returns, experience.action_mask
        ).item(),
        "kl_coef": kl_coef,
        "completions/mean_length": response_length(experience.rollout),
        "completions/distinct_2": distinct_n(
            [[word.word for word in count_words(text)] for text in experience.rollout.responses], 2
        ),
    }
    if ends:
        metrics["completions/clipped_ratio"] = (~experience.rollout.finished).float().mean().item()
    for name, own in scored.by_reward.items():
        given = [float(total) for total in own if total is not None]  # of those that it applies to
        metrics[f"rewards/{name}/mean"] = fmean(given) if given else math.nan
        metrics[f"rewards/{name}/std"] = pstdev(given) if given else math.nan
    return metrics


def shown_samples(
    experience: Experience, scored: ScoredBatch, texts: TextCodec, config: RunConfig, kl_coef: float, step: int
) -> tuple[Sample, ...]:
    """The first `train.samples_per_step` responses with all that the update knows of them; texts: what decoded them."""
    per_token = {
        "log_probs": experience.log_probs,
        "reference_log_probs": experience.reference_log_probs,
        "kl": experience.token_kl,
    }
    per_action = {
        "rewards": experience.rewards,
        "values": experience.old_values,
        "returns": experience.returns,
        "raw_advantages": experience.raw_advantages,
        "advantages": experience.advantages,
    }
    whole_responses = experience.sequence_level
    traces = traces_of(
        experience.rollout,
        config.train.samples_per_step,
        texts.decoder_after,
        per_token=per_token if whole_responses else per_token | per_action,
        per_response=per_action if whole_responses else None,
        facts={"kl_coef": kl_coef, "whitened": float(ppo_settings(config).whiten_advantages)},
    )
    samples = samples_of(experience.rollout, scored.scores, experience.response_kl.tolist(), step)
    return tuple(replace(sample, trace=trace) for sample, trace in zip(samples, traces, strict=False))


def samples_of(
    rollout: Rollout, scores: Sequence[Score] | None, kl: Sequence[float] | None, step: int
) -> Iterator[Sample]:
    """Each response with its score and its KL to the reference in nats, where there are any, in order."""
    lengths, finished = rollout.response_mask.sum(1).tolist(), rollout.finished.tolist()
    for i in range(len(rollout)):
        yield Sample(
            step=step,
            prompt=rollout.prompts[i],
            response=rollout.responses[i],
            score=scores[i].total if scores else None,
            parts=scores[i].parts if scores else {},
            kl=kl[i] if kl else None,
            tokens=lengths[i],
            finished=finished[i],
            spans=scores[i].spans if scores else (),
        )
