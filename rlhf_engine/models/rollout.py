"""Sampling: a batch of prompts in, a batch of responses out, one cached decoding step per token.

Left out on purpose: beam search, repetition penalties and every other way of making text that does not come from the
policy's own distribution; PPO's ratio and KL would no longer describe what was sampled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.errors import NonFiniteError, PromptError
from rlhf_engine.models.choice import GUMBEL, Choice, Draw, Noise, Token
from rlhf_engine.models.decoding.plain import Decoder
from rlhf_engine.models.decoding.uncached import plain_decoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_codec import quoted

OnToken = Callable[[list[Tensor]], bool | None]
_LOOK_EVERY = 16
_FEW = 0.75  # share of the rows: copying their cache once costs as much as some tokens of those that have ended


@dataclass(frozen=True)
class Rollout:
    """Prompts and what was sampled after them; the ids trained on are these very ids, never retokenised text.

    prompt_ids [batch, prompt time] int64, left-padded, prompt_mask bool; response_ids [batch, response time] int64,
    right-padded, response_mask bool: True up to and including the end token. finished bool [batch]: an end token came.
    log_probs float32 [batch, response time]: nats, of each token in the very distribution that it was drawn from, as
    that stood then (temperature, top_k and top_p applied); 0 where response_mask is False.
    """

    prompts: list[str]
    responses: list[str]
    prompt_ids: Tensor
    prompt_mask: Tensor
    response_ids: Tensor
    response_mask: Tensor
    finished: Tensor
    log_probs: Tensor

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(ids, mask, response mask) of some rows, without columns that are padding in all of them.

        rows: int64 [n], on the CPU. ids and mask are [n, time]; response mask [n, response time] covers the last
        columns. A GPU goes on with what it is at meanwhile.
        """
        prompts, responses = self.lengths
        first, last = self.prompt_mask.shape[1] - int(prompts[rows].max()), int(responses[rows].max())
        there = self.on_device(rows)
        response_mask = self.response_mask[there, :last]
        ids = torch.cat([self.prompt_ids[there, first:], self.response_ids[there, :last]], dim=1)
        mask = torch.cat([self.prompt_mask[there, first:], response_mask], dim=1)
        return ids, mask, response_mask

    @cached_property
    def lengths(self) -> tuple[Tensor, Tensor]:
        """Tokens of each prompt, and of each response: int64 [batch] each, on the CPU."""
        return self.prompt_mask.sum(1).cpu(), self.response_mask.sum(1).cpu()

    def on_device(self, rows: Tensor) -> Tensor:
        """Numbers of rows, where the tensors are that they index. Left on the CPU they would be copied there at each
        use, and each time the CPU would wait until a GPU has done all that it was asked for."""
        return rows.to(self.prompt_ids.device, non_blocking=True)


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: list[str],
    sampling: SamplingConfig,
    generator: torch.Generator,
    *,
    decoder: Decoder | None = None,
    draw: Draw = GUMBEL,
    on_token: OnToken | None = None,
) -> Rollout:
    """Continue each prompt in the role the policy plays, until an end token or `max_new_tokens`.

    generator: on the policy's device. It advances by the same amount whatever the model says, so that reference and
    tuned answer from the same noise when seeds and batch shapes are equal.
    decoder: a plain one if left out. draw: how an id is drawn.
    on_token: called after each token with the ids so far, a list of [batch]; returning True ends the sampling.
    Raises PromptError when a prompt and its response do not fit into the model's context, and NonFiniteError when the
    model's probabilities are no numbers. That is looked for at the end: to look at each token would let a GPU wait.
    """
    prompt_ids, prompt_mask = _encode(policy, prompts, sampling)
    decoder, choice = decoder or plain_decoder(policy), Choice(policy, sampling, draw)
    open_rows = torch.ones(len(prompts), dtype=torch.bool, device=policy.device)
    noise = choice.noise(generator, sampling.max_new_tokens, len(prompts))
    with record_function("rollout: prompts"):
        hidden = decoder.start(prompt_ids, prompt_mask, sampling.max_new_tokens, choice, noise)
    with record_function("rollout: tokens"):
        token = choice(hidden, open_rows, noise(0))
        tokens, likelihoods, batch = [token.chosen], [token.likelihood], _OpenRows(policy, len(prompts), noise)
        for count in range(1, sampling.max_new_tokens + 1):
            if on_token is not None and on_token(tokens):
                break
            if count == sampling.max_new_tokens:
                break
            if _looks(policy, count):
                left = int(token.open_rows.sum())
                if not left:
                    break
                token = batch.without_finished(token, left, decoder)
            token = decoder.token(token, partial(batch.noise, count), choice)
            tokens.append(batch.spread(token.chosen, policy.pad_id))
            likelihoods.append(batch.spread(token.likelihood, 1.0))
    with record_function("rollout: texts"):
        return _rollout(policy, choice, prompts, prompt_ids, prompt_mask, tokens, likelihoods)


class _OpenRows:
    """Which rows of a batch are still decoded: on a CPU those that have ended are left out once they are many."""

    def __init__(self, policy: Policy, count: int, noise: Noise) -> None:
        self._count, self._noise, self._leaves_out = count, noise, policy.device.type == "cpu"
        self._place: Tensor | None = None  # of those decoded; None while it is all

    def without_finished(self, token: Token, left: int, decoder: Decoder) -> Token:
        """The token of the rows that are decoded from now on. left: how many have not ended."""
        if not self._leaves_out or left > _FEW * len(token.open_rows):
            return token
        rows = token.open_rows.nonzero().squeeze(1)
        if not decoder.keep(rows):
            return token
        self._place = rows if self._place is None else self._place[rows]
        return Token(token.chosen[rows], token.likelihood[rows], token.open_rows[rows])

    def noise(self, token: int) -> Tensor:
        """The random numbers of that token for the rows that are decoded."""
        numbers = self._noise(token)
        return numbers if self._place is None else numbers[self._place]

    def spread(self, column: Tensor, other: float) -> Tensor:
        """What the rows that are decoded say [n] as [batch]; all else is `other`."""
        if self._place is None:
            return column
        return column.new_full((self._count,), other).index_copy_(0, self._place, column)


def _looks(policy: Policy, count: int) -> bool:
    """Whether to ask now if all rows have ended: on a GPU that waits for all work under way, so only now and then."""
    return policy.device.type == "cpu" or count % _LOOK_EVERY == 0


def _rollout(
    policy: Policy,
    choice: Choice,
    prompts: list[str],
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    tokens: list[Tensor],
    likelihoods: list[Tensor],
) -> Rollout:
    response_ids = torch.stack(tokens, dim=1)
    ends = choice.is_end(response_ids)
    ended = ends.cumsum(dim=1)
    response_mask = ended == ends  # up to the first end token, that one too
    log_probs = torch.where(response_mask, torch.stack(likelihoods, dim=1).log(), 0.0)
    if not log_probs.isfinite().all():
        raise NonFiniteError(
            "the model's next-token probabilities are not finite: its weights have diverged, or overflow in "
            f"{str(policy.dtype).removeprefix('torch.')}"
        )
    width = int(response_mask.any(dim=0).sum())  # columns after the last row's end, before that was noticed
    response_ids, response_mask = response_ids[:, :width], response_mask[:, :width]
    rows, lengths = response_ids.tolist(), response_mask.sum(dim=1).tolist()
    responses = [row[:length] for row, length in zip(rows, lengths, strict=True)]
    texts = policy.texts.decode(responses, unpadded(prompt_ids, prompt_mask))
    return Rollout(
        prompts,
        texts,
        prompt_ids,
        prompt_mask,
        response_ids,
        response_mask,
        finished=ended[:, -1] > 0,
        log_probs=log_probs[:, :width],
    )


def unpadded(ids: Tensor, mask: Tensor) -> list[list[int]]:
    """The rows of left-padded ids [batch, time] without their padding."""
    return [row[len(row) - length :] for row, length in zip(ids.tolist(), mask.sum(dim=1).tolist(), strict=True)]


def _encode(policy: Policy, prompts: list[str], sampling: SamplingConfig) -> tuple[Tensor, Tensor]:
    room, new_tokens = policy.max_positions, sampling.max_new_tokens
    cut = room is not None and room > new_tokens and sampling.long_prompts == "truncate_left"
    ids, mask = policy.encode(prompts, room - new_tokens if cut and room is not None else None)
    if room is not None and ids.shape[1] + new_tokens > room:
        prompt, fit = prompts[int(mask.sum(dim=1).argmax())], max(0, room - ids.shape[1])
        raise PromptError(
            f"the prompt {quoted(prompt)} has {ids.shape[1]} tokens, and with {new_tokens} new ones "
            f"(sampling.max_new_tokens) exceeds the model's context of {room}: "
            + (f"shorten it, or ask for at most {fit} new ones" if fit else f"shorten it to fewer than {room} tokens")
        )
    return ids, mask
