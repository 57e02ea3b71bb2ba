"""Responses that somebody has written, as token ids behind their prompts: what was sampled elsewhere, or by nobody."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout


def written_ids(
    policy: Policy, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]
) -> list[tuple[list[int], list[int]]]:
    """The ids of each prompt and of the response behind it. Equal prompts have equal ids, whatever follows them: prompt
    and response are read apart, as they are when a response is sampled.

    ended: whether an end token is put behind a response, of a model that has one. Raises PromptError for what the
    tokenizer cannot read.
    """
    different = list(dict.fromkeys(prompts))
    ids = dict(zip(different, policy.texts.encode(different), strict=True))
    end = [end_id(policy)] if policy.end_ids else []
    return [(ids[prompt], [*response, *(end if done else [])])
            for prompt, response, done in zip(prompts, policy.texts.encode_responses(responses), ended, strict=True)]


def written(
    policy: Policy, prompts: Sequence[str], responses: Sequence[str], ended: Sequence[bool]
) -> Rollout:
    """The same as a rollout that nobody sampled: its log-probs are 0. Raises PromptError as `written_ids` does."""
    rows = written_ids(policy, prompts, responses, ended)
    before, after = (max([1, *(len(row[side]) for row in rows)]) for side in (0, 1))
    prompt_ids, response_ids = (torch.full((len(rows), width), policy.pad_id) for width in (before, after))
    prompt_mask, response_mask = (torch.zeros(ids.shape, dtype=torch.bool) for ids in (prompt_ids, response_ids))
    for row, (prompt, response) in enumerate(rows):
        prompt_ids[row, before - len(prompt):] = torch.tensor(prompt, dtype=torch.long)
        prompt_mask[row, before - len(prompt):] = True
        response_ids[row, :len(response)] = torch.tensor(response, dtype=torch.long)
        response_mask[row, :len(response)] = True
    finished = torch.tensor([bool(policy.end_ids) and done for done in ended])

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(policy.device, non_blocking=True)

    return Rollout(list(prompts), list(responses), there(prompt_ids), there(prompt_mask), there(response_ids),
                   there(response_mask), there(finished), torch.zeros(response_ids.shape, device=policy.device))


def end_id(policy: Policy) -> int:
    """The end token that is put behind a response: the tokenizer's own, where the model ends texts with it."""
    own = getattr(policy.tokenizer, "eos_token_id", None)
    return own if own in policy.end_ids else policy.end_ids[0]
