"""Where 0 and 1 of a reward model's scores lie: the mean and the standard deviation of the reference's answers.

Raw scores mean something only beside each other (Bradley-Terry knows differences alone), and how far they spread
depends on how long was learned. So the reference answers some of the pairs' prompts, once, from random numbers of its
own, and a score is told as (raw − center) / scale (Stiennon et al. 2020, section 3.4, set the mean of theirs so).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import PromptError
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout, sample
from rlhf_engine.models.written import written, written_ids

_SEED = 7919  # added to train.seed: other answers than a run samples that begins from the same one
_LEAST_SPREAD = 1e-6


def reference_answers(policy: Policy, rows: Rows, config: RunConfig, count: int) -> Rollout:
    """`count` answers of the base with its adapters off, to the first different prompts of `rows` in turn; where these
    have no prompts that it can continue, responses of the pairs themselves."""
    prompts = _answerable(policy, rows, config)
    if prompts:
        generator = torch.Generator(policy.device).manual_seed((config.train.seed + _SEED) % 2**63)
        asked = [prompts[at % len(prompts)] for at in range(count)]
        with policy.as_role("reference"):
            sampled = sample(policy, asked, config.sampling, generator)
        # as a reward sees them: as texts, which do not say how they ended, and may have more tokens than were sampled
        answered = list(zip(sampled.prompts, sampled.responses, strict=True))
        if kept := [pair for pair, fits in zip(answered, _fitting(policy, answered), strict=True) if fits]:
            return written(policy, [prompt for prompt, _ in kept], [answer for _, answer in kept], [False] * len(kept))
    texts = [*rows.texts["chosen"], *rows.texts["rejected"]]
    step = max(1, len(texts) // count)
    places = range(0, len(texts), step)[:count]
    return written(policy, [rows.prompts[at % len(rows)] for at in places], [texts[at] for at in places],
                   [False] * len(places))


def center_and_scale(scores: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the raw scores [members, responses], one of each a member; 1 for the latter where
    all are the same, as they are before the first step."""
    center, spread = scores.double().mean(dim=1), scores.double().std(dim=1, correction=0)
    scale = torch.where(spread > _LEAST_SPREAD, spread, 1.0)
    return center.tolist(), scale.tolist()


def _fitting(policy: Policy, texts: Sequence[tuple[str, str]]) -> list[bool]:
    """Which prompts, with the response to each, the model can read."""
    ids = written_ids(policy, [prompt for prompt, _ in texts], [answer for _, answer in texts], [False] * len(texts))
    return [policy.max_positions is None or len(prompt) + len(answer) <= policy.max_positions
            for prompt, answer in ids]


def _answerable(policy: Policy, rows: Rows, config: RunConfig) -> list[str]:
    """Different prompts that leave room for a response."""
    room = policy.max_positions
    longest = room - config.sampling.max_new_tokens if room else None
    different = list(dict.fromkeys(rows.askable))[:4 * config.algorithm.rows_per_step + 1024]
    try:
        lengths = [len(ids) for ids in policy.texts.encode(different)] if different else []
    except PromptError:
        return []
    return [prompt for prompt, length in zip(different, lengths, strict=True) if longest is None or length <= longest]
