"""The numbers behind an update, token by token, of the few responses that a step shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate, pairwise

import torch

from rlhf_engine.models.rollout import Rollout, unpadded
from rlhf_engine.token_trace import TokenTrace

Decode = Callable[[Sequence[int]], str]
"""ids -> text"""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_LONGEST_SPELLING = 4  # bytes of one character in UTF-8


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


def token_texts(ids: Sequence[int], response: str, decode: Decode) -> tuple[str, ...]:
    """What each token adds to the text; joined they are `response`, which must be `decode(ids)`.

    Special tokens add nothing. The bytes of one character can be spread over several tokens: it stands with the last.
    """
    alone = [decode([token]) for token in ids]
    if "".join(alone) == response:
        return tuple(alone)
    # slices of the response, so that they join to it whatever a tokenizer does at its seams
    ends = [min(end, len(response)) for end in accumulate(map(len, _additions(ids, decode)))]
    ends[-1:] = [len(response)] * bool(ends)
    return tuple(response[start:end] for start, end in pairwise([0, *ends]))


def _additions(ids: Sequence[int], decode: Decode) -> list[str]:
    """Each token's addition, decoded behind the tokens of the addition before it: many tokenizers drop a space in front
    of the first word they are given."""
    added: list[str] = []
    before = start = 0
    for end in range(1, len(ids) + 1):
        known, text = decode(list(ids[before:start])), decode(list(ids[before:end]))
        spelt_out = not text.endswith(_INCOMPLETE) or end - start >= _LONGEST_SPELLING
        if len(text) > len(known) and spelt_out:
            added.append(text[len(known):])
            before, start = start, end
        else:
            added.append("")
    return added
