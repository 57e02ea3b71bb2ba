"""The numbers behind an update, token by token, of the few responses that a step shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

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
    series, whole = _numbers(per_token, count), _numbers(per_response, count)
    return [
        TokenTrace(
            texts=token_texts(ids[row][:length], rollout.responses[row], decoder_after(prompts[row])),
            series={name: tuple(values[row][:length]) for name, values in series.items()},
            whole={name: values[row] for name, values in whole.items()} | dict(facts),
        )
        for row, length in enumerate(rollout.lengths[1][:count].tolist())
    ]


def _numbers(tensors: Mapping[str, torch.Tensor], count: int) -> dict[str, list[Any]]:
    """The first `count` rows of each, read at once from each device: a GPU is waited for."""
    found: dict[str, list[Any]] = {}
    for device in {values.device for values in tensors.values()}:
        there = {name: values[:count].float() for name, values in tensors.items() if values.device == device}
        found |= dict(zip(there, torch.stack(list(there.values())).tolist(), strict=True))
    return {name: found[name] for name in tensors}
