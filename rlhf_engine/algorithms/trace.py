"""The numbers behind an update, token by token, of the few responses that a step shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import torch

from rlhf_engine.algorithms.experience import Experience
from rlhf_engine.events import TokenTrace
from rlhf_engine.models.rollout import unpadded

Decode = Callable[[Sequence[int]], str]
"""ids -> text"""

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
_LONGEST_SPELLING = 4  # bytes of one character in UTF-8


def traces_of(
    experience: Experience, count: int, decoder_after: Callable[[list[int]], Decode], *, kl_coef: float, whitened: bool
) -> list[TokenTrace]:
    """Traces of the first `count` responses. decoder_after: prompt ids -> what made the texts of its responses.

    The tensors cross to Python in three copies, whatever `count` is.
    """
    rollout = experience.rollout
    count = min(count, len(rollout))
    ids = rollout.response_ids[:count].tolist()
    prompts = unpadded(rollout.prompt_ids[:count], rollout.prompt_mask[:count])
    per_token = _rows([experience.log_probs, experience.reference_log_probs, experience.token_kl], count)
    per_action = _rows(
        [
            experience.rewards,
            experience.old_values,
            experience.returns,
            experience.raw_advantages,
            experience.advantages,
        ],
        count,
    )
    traces = []
    for row, length in enumerate(rollout.response_mask[:count].sum(1).tolist()):
        log_probs, reference, kl = (tuple(values[row][:length]) for values in per_token)
        rewards, values, returns, raw_advantages, advantages = (
            (values[row],) if experience.sequence_level else tuple(values[row][:length]) for values in per_action
        )
        traces.append(
            TokenTrace(
                texts=token_texts(ids[row][:length], rollout.responses[row], decoder_after(prompts[row])),
                log_probs=log_probs,
                reference_log_probs=reference,
                kl=kl,
                rewards=rewards,
                values=values,
                returns=returns,
                raw_advantages=raw_advantages,
                advantages=advantages,
                kl_coef=kl_coef,
                whitened=whitened,
                sequence_level=experience.sequence_level,
            )
        )
    return traces


def _rows(tensors: list[torch.Tensor], count: int) -> list[list]:
    rows: list[list] = torch.stack([tensor[:count].float() for tensor in tensors]).tolist()
    return rows


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
