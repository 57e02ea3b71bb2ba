"""How the next token is chosen: from hidden states to an id a row, and the likelihood it was drawn with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from rlhf_engine.config.sections import SamplingConfig

_BLOCK = 64


class DrawnAhead(NamedTuple):
    """Random numbers [tokens, rows, …] of a rollout, all drawn at its beginning."""

    numbers: Tensor

    def __call__(self, token: int) -> Tensor:
        """Those of the token of that number, from 0: [rows, …]."""
        return self.numbers[token]


class DrawnByToken(NamedTuple):
    """Random numbers that are drawn when they are asked for, so that those of one token have to be held alone. draw:
    gives the next ones, [rows, …], in the tensor that it is given, or else in a new one."""

    draw: Callable[[Tensor | None], Tensor]

    def __call__(self, token: int) -> Tensor:
        """Those of the next token, whatever its number."""
        return self.draw(None)


Noise = DrawnAhead | DrawnByToken
"""Random numbers for one token of a rollout after another."""


class Chooser(Protocol):
    """What a choice asks a `Policy` for."""

    end_ids: tuple[int, ...]
    pad_id: int

    @property
    def device(self) -> torch.device: ...
    @property
    def vocabulary(self) -> int: ...

    def next_logits(self, hidden: Tensor, temperature: float) -> Tensor: ...
    def next_probabilities(self, hidden: Tensor, temperature: float) -> Tensor: ...


class Draw(Protocol):
    """A way to draw one id a row."""

    def noise(self, generator: torch.Generator, tokens: int, rows: int, columns: int) -> Noise:
        """For so many tokens of so many rows, from a vocabulary of so many columns; on the generator's device."""
        ...

    def pick(self, probabilities: Tensor, noise: Tensor) -> Tensor:
        """Ids int64 [batch] from probabilities [batch, vocabulary]. Looks at no value, so that nothing waits for the
        device. Where probabilities are NaN the id means nothing, but is one of the vocabulary: an index beyond it would
        end a process that uses CUDA."""
        ...


class Token(NamedTuple):
    """One token a row. chosen: int64 [batch], padding in rows that had ended; likelihood: float32 [batch], of what was
    drawn; open_rows: bool [batch], of rows that have not ended with it."""

    chosen: Tensor
    likelihood: Tensor
    open_rows: Tensor


class Choice:
    """Draws the next token of each row from what the model says, under a config."""

    def __init__(self, policy: Chooser, sampling: SamplingConfig, draw: Draw) -> None:
        self._policy, self._sampling, self._draw = policy, sampling, draw
        self._truncates = bool(sampling.top_k) or sampling.top_p < 1
        # filled there: to copy a number to a GPU, the CPU waits for it
        self._end_ids = [torch.full((), end, device=policy.device) for end in policy.end_ids]
        self._padding = torch.full((), policy.pad_id, device=policy.device)

    @property
    def key(self) -> tuple[object, ...]:
        """Equal where choices are made in one way."""
        sampling = self._sampling
        return (sampling.temperature, sampling.top_k, sampling.top_p, self._draw)

    def noise(self, generator: torch.Generator, tokens: int, rows: int) -> Noise:
        """Random numbers for so many tokens of so many rows; see `Draw.noise`."""
        return self._draw.noise(generator, tokens, rows, self._policy.vocabulary)

    def __call__(self, hidden: Tensor, open_rows: Tensor, noise: Tensor) -> Token:
        """hidden [batch, hidden]; open_rows bool [batch], False where padding follows; noise: of `Draw.noise`."""
        temperature = self._sampling.temperature
        if self._truncates:
            logits = self._policy.next_logits(hidden, temperature)
            probabilities = truncate(logits, self._sampling).softmax(dim=-1)
        else:
            probabilities = self._policy.next_probabilities(hidden, temperature)
        drawn = self._draw.pick(probabilities, noise)
        likelihood = probabilities.gather(1, drawn.unsqueeze(1)).squeeze(1)
        chosen = torch.where(open_rows, drawn, self._padding)
        for end in self._end_ids:
            open_rows = open_rows & (chosen != end)
        return Token(chosen, likelihood, open_rows)

    def is_end(self, ids: Tensor) -> Tensor:
        """Which of some ids end a response: bool, of their shape."""
        found = torch.zeros_like(ids, dtype=torch.bool)
        for end in self._end_ids:
            found |= ids == end
        return found


@dataclass(frozen=True)
class GumbelDraw:
    """Id i fires at time Exp(1) / p_i, and the first to fire is drawn with probability p_i (the Gumbel-max trick).

    Unlike a sampler by inverse distribution it couples models: where two agree, equal noise draws equal tokens.
    """

    def noise(self, generator: torch.Generator, tokens: int, rows: int, columns: int) -> Noise:
        """Uniform numbers float32 [rows, columns] for each token: for a large vocabulary many, so one token's at a
        time."""
        def draw(out: Tensor | None) -> Tensor:
            return torch.rand(rows, columns, generator=generator, device=generator.device, out=out)

        return DrawnByToken(draw)

    def pick(self, probabilities: Tensor, noise: Tensor) -> Tensor:
        """See `Draw`."""
        # −log of uniform numbers, not exponential_: a third of the time on a CPU. Zero, which would give an infinite
        # time, becomes half the least number above it: else an id of probability 1 could lose to those of probability 0
        clocks = noise.clamp(min=2.0**-25).log_().neg_()
        return (probabilities / clocks).argmax(dim=-1)


@dataclass(frozen=True)
class InverseCdfDraw:
    """Where the running sum of probabilities passes a uniform number.

    One random number a row instead of one an id, all of a rollout's at once: for a vocabulary of 50,000 the clocks of
    `GumbelDraw` cost a CPU more time than the model does. It does not couple models as closely, which only comparisons
    need. The sum runs over blocks of ids first and inside one block then, in float64: in float32 the sum of 50,000
    numbers would misplace rare ids, and float64 over all of them is what a GPU is slow at.
    """

    def noise(self, generator: torch.Generator, tokens: int, rows: int, columns: int) -> Noise:
        """float64 [rows, 1] for each token, in (0, 1]."""
        uniform = torch.rand(tokens, rows, 1, generator=generator, device=generator.device, dtype=torch.double)
        return DrawnAhead(uniform.neg_().add_(1))

    def pick(self, probabilities: Tensor, noise: Tensor) -> Tensor:
        """See `Draw`."""
        count = probabilities.shape[1]
        whole = count - count % _BLOCK
        blocks = probabilities[:, :whole].unflatten(1, (-1, _BLOCK)).sum(dim=2)
        if whole < count:
            blocks = torch.cat([blocks, probabilities[:, whole:].sum(dim=1, keepdim=True)], dim=1)
        mass = blocks.cumsum(dim=1, dtype=torch.double)
        wanted = noise * mass[:, -1:]  # above 0, so that what has probability 0 is never the first to reach it
        block = torch.searchsorted(mass, wanted).clamp_(max=mass.shape[1] - 1)  # beyond the last one only for NaN
        ids = block * _BLOCK + torch.arange(_BLOCK, device=mass.device)
        inside = probabilities.gather(1, ids.clamp(max=count - 1)).masked_fill_(ids >= count, 0.0)
        inside = inside.cumsum(dim=1, dtype=torch.double)
        left = wanted - (mass.gather(1, block) - blocks.gather(1, block))
        left = left.clamp_(min=torch.finfo(torch.double).tiny).minimum(inside[:, -1:])  # rounding must not leave it
        place = torch.searchsorted(inside, left).clamp_(max=_BLOCK - 1)
        return (block * _BLOCK + place).clamp_(max=count - 1).squeeze(1)


GUMBEL, INVERSE_CDF = GumbelDraw(), InverseCdfDraw()


def truncate(logits: Tensor, sampling: SamplingConfig) -> Tensor:
    """Logits [batch, vocabulary] with −inf outside the top_k most likely ids and outside the top_p nucleus."""
    if sampling.top_k and sampling.top_k < logits.shape[-1]:
        smallest = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(dim=-1, descending=True)
        mass_before = ordered.softmax(dim=-1).cumsum(dim=-1) - ordered.softmax(dim=-1)
        outside = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, mass_before >= sampling.top_p)
        logits = logits.masked_fill(outside, float("-inf"))
    return logits
