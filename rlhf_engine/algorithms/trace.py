"""The numbers behind an update, token by token, of the few responses that a step shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from rlhf_engine.models.rollout import Rollout, unpadded
from rlhf_engine.models.token_texts import Decode, token_texts
from rlhf_engine.token_trace import TokenTrace


def traces_of(
    rollout: Rollout,
    count: int,
    decoder_after: Callable[[list[int]], Decode],
    *,
    per_token: Mapping[str, torch.Tensor],
    per_response: Mapping[str, torch.Tensor] | None = None,
    facts: Mapping[str, float] | None = None,
) -> list[TokenTrace]:
    """Traces of the first `count` responses. decoder_after: prompt ids -> what made the texts of its responses.

    per_token: name -> [batch, time]; per_response: name -> [batch]; facts: what is the same of all of them.
    """
    per_response, facts = per_response or {}, facts or {}
    count = min(count, len(rollout))
    ids = rollout.response_ids[:count].tolist()
    prompts = unpadded(rollout.prompt_ids[:count], rollout.prompt_mask[:count])
    series = {name: values[:count].float().tolist() for name, values in per_token.items()}
    whole = {name: values[:count].float().tolist() for name, values in per_response.items()}
    return [
        TokenTrace(
            texts=token_texts(ids[row][:length], rollout.responses[row], decoder_after(prompts[row])),
            series={name: tuple(values[row][:length]) for name, values in series.items()},
            whole={name: values[row] for name, values in whole.items()} | dict(facts),
        )
        for row, length in enumerate(rollout.response_mask[:count].sum(1).tolist())
    ]
