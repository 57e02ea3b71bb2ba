"""What a step tells of its rollout: metrics for the charts, and some responses to read."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, pstdev

import torch
from torch import Tensor

from rlhf_engine.algorithms.on_policy import response_length
from rlhf_engine.algorithms.trace import traces_of
from rlhf_engine.events import Sample
from rlhf_engine.maths.estimators import kl_k1, masked_mean, summed
from rlhf_engine.maths.statistics import correlation, distinct_n
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.text_codec import TextCodec
from rlhf_engine.rewards.base import Score
from rlhf_engine.rewards.composite import ScoredBatch
from rlhf_engine.words import words_of


def rollout_metrics(
    rollout: Rollout,
    scored: ScoredBatch,
    *,
    log_probs: Tensor,
    reference_log_probs: Tensor | None = None,
    entropy: Tensor | None = None,
    kl_coef: float | None = None,
    ends: bool = True,
    others: Mapping[str, Tensor] | None = None,
) -> dict[str, float]:
    """What any method that samples knows of a rollout before its updates; names and units are those of
    `metrics.REGISTRY`.

    log_probs, reference_log_probs, entropy: float [batch, time], under the weights that sampled, and under the
    reference; without one there is no KL, and without `kl_coef` no penalty. ends: the model has an end token. One that
    has none ends nothing, so that no share of its responses is cut off. others: scalars by name that the method tells
    besides; all that a GPU has computed is read at once.
    """
    mask, totals = rollout.response_mask, [score.total for score in scored.scores]
    measured = {
        "objective/entropy": torch.where(mask, -log_probs, 0.0).sum(1).mean(),
        "sampling/logprob_gap": masked_mean((rollout.log_probs - log_probs).abs(), mask),
    }
    if reference_log_probs is not None:
        measured |= {"objective/kl": summed(kl_k1(log_probs, reference_log_probs), mask).mean(),
                     "objective/ref_logprob": masked_mean(reference_log_probs, mask)}
    if entropy is not None:
        measured["policy/entropy_avg"] = masked_mean(entropy, mask)
    if ends:
        measured["completions/clipped_ratio"] = (~rollout.finished).float().mean()
    measured |= others or {}
    metrics = dict(zip(measured, torch.stack(list(measured.values())).tolist(), strict=True)) | {
        "objective/scores": fmean(totals),
        "objective/scores_std": pstdev(totals),
        "completions/mean_length": response_length(rollout),
        "completions/distinct_2": distinct_n(
            [words_of(text) for text in rollout.responses], 2
        ),
    }
    lengths = rollout.lengths[1].double().tolist()
    if (related := correlation(totals, lengths)) is not None:
        metrics["completions/score_length_corr"] = related
    if reference_log_probs is not None:
        kl = metrics["objective/kl"]
        if kl_coef is not None:
            metrics |= {
                "objective/non_score_reward": -kl_coef * kl,
                "objective/rlhf_reward": fmean(totals) - kl_coef * kl,
                "kl_coef": kl_coef,
            }
    elif kl_coef == 0:  # without a penalty nobody has to ask the reference
        metrics |= {"objective/rlhf_reward": fmean(totals), "kl_coef": kl_coef}
    for name, own in scored.by_reward.items():
        given = [float(total) for total in own if total is not None]  # of those that it applies to
        metrics[f"rewards/{name}/mean"] = fmean(given) if given else math.nan
        metrics[f"rewards/{name}/std"] = pstdev(given) if given else math.nan
    metrics |= {f"rewards/{name}": mean for name, mean in scored.facts.items()}
    return metrics


def shown_samples(
    rollout: Rollout,
    scores: Sequence[Score],
    texts: TextCodec,
    count: int,
    step: int,
    *,
    response_kl: Tensor | None = None,
    per_token: Mapping[str, Tensor],
    per_response: Mapping[str, Tensor] | None = None,
    facts: Mapping[str, float] | None = None,
) -> tuple[Sample, ...]:
    """The first `count` responses with all that the update knows of them; see `traces_of`.

    texts: what decoded them. response_kl: nats [batch], where there is a reference.
    """
    traces = traces_of(
        rollout, count, texts.decoder_after, per_token=per_token, per_response=per_response, facts=facts)
    samples = samples_of(rollout, scores, None if response_kl is None else response_kl.tolist(), step)
    return tuple(replace(sample, trace=trace) for sample, trace in zip(samples, traces, strict=False))


def samples_of(
    rollout: Rollout, scores: Sequence[Score] | None, kl: Sequence[float] | None, step: int
) -> Iterator[Sample]:
    """Each response with its score and its KL to the reference in nats, where there are any, in order."""
    lengths, finished = rollout.lengths[1].tolist(), rollout.finished.tolist()
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
