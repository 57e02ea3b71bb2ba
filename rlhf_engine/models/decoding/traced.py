"""Decoding by replaying one recorded step: the arithmetic of the model without the bookkeeping around it.

A rollout takes the same step again and again on tensors of the same shapes. It is recorded once per shape (`make_fx`
writes down every tensor operation while transformers runs it), shortened, checked against transformers' own answer, and
replayed. Keys and values lie in a cache of fixed length. In float32 every adapted matrix is multiplied as one, base and
adapter merged into a copy, so that the base itself stays exact for the reference. In half precision it is not: the sum
would be rounded, and a distribution sampled from that is not the one scored.

Models that cannot be recorded (control flow on data, sliding caches) or do not answer the same are decoded plainly, and
a person is told so once. Where memory runs out, decoding is plain for a while, and recorded again later.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx
from transformers import StaticCache
from transformers.cache_utils import StaticLayer

from rlhf_engine.errors import first_line, kind_and_message
from rlhf_engine.models.decoding.captured import CapturedStep
from rlhf_engine.models.decoding.graph import shorten
from rlhf_engine.models.decoding.uncached import untraced
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_pass import hidden_states

_KEPT = 4  # recorded steps that are kept in any case: of rollouts, probes, answers one by one
_KEPT_BYTES = 512 * 1024**2  # of the caches of recorded steps, up to which more are kept, for prompts of many lengths
_MOST_KEPT = 16
_PATIENCE = (4, 16, 64)  # rollouts decoded plainly each time that memory ran out; after that, all that follow
_NO_ROOM = "between the longest prompt with its response and the model's context no length fits for a cache"
_PROBES = 4  # steps that a recording is tried with
_LENGTH_STEP = 32  # caches are about a multiple of this long: longer prompts seldom need a recording of their own


class _CannotTrace(Exception):
    """Why this model is decoded plainly."""


class _NotNow(Exception):
    """Nothing can be recorded while the weights give no finite numbers: there is no answer to hold a recording to."""


@dataclass
class _Step:
    """A recorded step for one shape: call it with ids and positions [batch, 1], the mask [batch, length], and the
    number of columns filled after it."""

    module: fx.GraphModule
    cache: StaticCache
    joined: list[tuple[Tensor, Tensor]]
    captured: CapturedStep | None = None
    """What is called instead, on a CUDA device."""

    def __call__(self, ids: Tensor, positions: Tensor, mask: Tensor, columns: int) -> Tensor:
        """Hidden states [batch, hidden] after one more token."""
        if self.captured:
            return self.captured(ids, positions)
        hidden: Tensor = self.module.forward(ids, positions, mask, columns)
        return hidden

    def rewind(self, width: int) -> None:
        """The cache holds `width` columns again."""
        for layer in self.cache.layers:
            layer.cumulative_length.fill_(width)


class TracedDecoder:
    """A `Decoder` that records steps and keeps some of them for the next rollouts. One a policy."""

    def __init__(self, policy: Policy, tell: Callable[[str], None] = lambda text: None) -> None:
        """tell: takes a sentence for the user, once, when rollouts are decoded plainly, which is slower."""
        self._policy, self._tell = policy, tell
        self._told: set[str] = {policy.why_uncached}  # which is told where the model is loaded
        self._shortages = self._resting = 0  # times that memory ran out; rollouts until the next try
        self._plain = untraced(policy)
        self._steps: dict[tuple[int, int], _Step] = {}
        self._merged = [torch.empty_like(linear.weight) for linear in policy.adapted] if _merges(policy) else []
        self._step: _Step | None = None
        self._columns = 0
        self._mask = self._positions = torch.empty(0)
        self.why_plain = policy.why_uncached or ("" if policy.takes_positions else "the model takes no positions")
        """Why steps are not replayed; empty while they are."""

    def start(self, ids: Tensor, mask: Tensor, new_tokens: int) -> Tensor:
        """See `Decoder`. The first call for a shape records a step, which takes about as long as fifty of them."""
        self._step = None
        if self._resting:
            self._resting -= 1
            return self._plain.start(ids, mask, new_tokens)
        length = None if self.why_plain else self._length(ids.shape[1] + new_tokens, len(ids))
        if length is None:
            self._say_not_recorded(self.why_plain or _NO_ROOM)
            return self._plain.start(ids, mask, new_tokens)
        try:
            return self._start_recorded(ids, mask, length)
        except _CannotTrace as error:
            self.why_plain = str(error)
            self._say_not_recorded(self.why_plain)
        except _NotNow:
            pass
        except (RuntimeError, MemoryError) as error:
            if not _memory_ran_out(error):
                raise
            self._make_room()
        # not inside `except`: there the traceback still holds the tensors that filled the memory
        self._step = None
        if ids.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._plain.start(ids, mask, new_tokens)

    def _start_recorded(self, ids: Tensor, mask: Tensor, length: int) -> Tensor:
        self._refresh_merged()
        self._mask = torch.cat([mask, mask.new_ones(len(ids), length - ids.shape[1])], dim=1).long()
        self._positions = mask.sum(dim=1, keepdim=True)
        self._step = self._step_for(ids, mask, length)
        self._columns = ids.shape[1]
        if self._step.captured:
            self._step.captured.begin(self._mask)
        return self._read_prompts(self._step.cache, ids)

    def _make_room(self) -> None:
        """Let go of all recordings, and make none for a while."""
        self._steps.clear()
        self._step = None
        self._shortages += 1
        if self._shortages > len(_PATIENCE):
            self.why_plain = f"out of memory, {self._shortages} times"
            self._say_not_recorded(self.why_plain)
            return
        self._resting = _PATIENCE[self._shortages - 1]
        self._tell(
            f"out of memory while a decoding step was recorded: this rollout and the next {self._resting} are decoded "
            "without, which is slower; fewer algorithm.responses_per_step would need less"
        )

    def _say_not_recorded(self, why: str) -> None:
        if why not in self._told:
            self._told.add(why)
            self._tell(f"decoding steps are not recorded, which is slower: {why}")

    def step(self, chosen: Tensor) -> Tensor:
        """See `Decoder`."""
        if self._step is None:
            return self._plain.step(chosen)
        self._columns += 1
        hidden = self._step(chosen.unsqueeze(1), self._positions, self._mask, self._columns)
        self._positions += 1
        return hidden

    def _step_for(self, ids: Tensor, mask: Tensor, length: int) -> _Step:
        """The step recorded for this shape, now if there is none; of the others, those used last are kept."""
        key = (len(ids), length)
        step = self._steps.pop(key, None)
        while step is None and len(self._steps) >= (_KEPT if self._kept_bytes > _KEPT_BYTES else _MOST_KEPT):
            del self._steps[next(iter(self._steps))]
        self._steps[key] = step or self._record(ids, mask, length)
        return self._steps[key]

    @property
    def _kept_bytes(self) -> int:
        return sum(layer.keys.nbytes + layer.values.nbytes
                   for step in self._steps.values() for layer in step.cache.layers)

    # --- merged weights ---

    def _refresh_merged(self) -> None:
        """Merge base and adapters as they are now into the copies that steps multiply with."""
        for linear, weight in zip(self._policy.adapted, self._merged, strict=False):
            linear.merge(weight)
        for step in self._steps.values():
            for source, target in step.joined:
                target.copy_(source)

    @contextmanager
    def _merging(self) -> Iterator[None]:
        """Adapted linears multiply with the merged copies inside."""
        for linear, weight in zip(self._policy.adapted, self._merged, strict=False):
            linear.merged = weight
        try:
            yield
        finally:
            for linear in self._policy.adapted:
                linear.merged = None

    # --- recording ---

    def _read_prompts(self, cache: StaticCache, ids: Tensor) -> Tensor:
        """Fill the cache with the prompts; the hidden states after them."""
        cache.reset()
        with self._merging():
            return self._policy.forward(ids, self._mask, cache, width=ids.shape[1])[:, -1]

    def _record(self, ids: Tensor, mask: Tensor, length: int) -> _Step:
        try:
            cache = StaticCache(config=self._policy.base.config, max_cache_len=length)
        except Exception as error:  # models with layers of other kinds
            raise _CannotTrace(f"there is no cache of fixed length for the model: {first_line(error)}") from error
        if any(type(layer) is not StaticLayer for layer in cache.layers):
            raise _CannotTrace("the model's cache does not keep all positions")
        width, probes = ids.shape[1], self._probes(ids, length)
        inputs = (probes[0].unsqueeze(1), self._positions.clone(), self._mask)
        policy = self._policy

        def run(ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
            output = policy.body(
                input_ids=ids, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
            )
            return hidden_states(output)[:, -1]

        self._plain.start(ids, mask, len(probes))
        own = [self._plain.step(probe) for probe in probes]
        if not all(states.isfinite().all() for states in own):
            raise _NotNow
        try:
            self._read_prompts(cache, ids)
            with self._merging():
                # before a hundred times as long goes into a recording; where a window is shorter than the cache, say
                if not _same(run(*inputs), own[0]):
                    raise _CannotTrace("with a cache of fixed length the model does not give its own answer")
            self._read_prompts(cache, ids)
            with self._merging():
                module = make_fx(run)(*inputs)
            step = _Step(module, cache, [])
            step.rewind(width)
            changing = [layer.keys for layer in cache.layers] + [layer.values for layer in cache.layers]
            changing += [layer.cumulative_length for layer in cache.layers] + self._merged
            changing += policy.parameters.values()
            step.joined = shorten(module, inputs, changing, length)
            for node in module.graph.nodes:
                node.meta.clear()  # a stand-in of each tensor, with the stack it was made in: 20,000 objects a step
            step.rewind(width)
            if ids.device.type == "cuda":
                step.captured = CapturedStep(module, inputs, lambda: step.rewind(width))
                step.rewind(width)
            answers = [
                step(probe.unsqueeze(1), self._positions + index, self._mask, width + 1 + index).clone()
                for index, probe in enumerate(probes)
            ]
            step.rewind(width)
        except _CannotTrace:
            raise
        except Exception as error:  # whatever a model does that cannot be recorded: torch and models raise many kinds
            if _memory_ran_out(error):
                raise
            raise _CannotTrace(kind_and_message(error)) from error
        if not all(_same(answer, states) for answer, states in zip(answers, own, strict=True)):
            raise _CannotTrace("the recorded step does not give the model's own answer")
        return step

    def _probes(self, ids: Tensor, length: int) -> list[Tensor]:
        """Ids [batch] of some steps to try a recording with: the first is recorded, and to others it must answer as
        well. A model that sends tokens to experts by their numbers has those of the first in its recording."""
        rows = self._policy.base.get_input_embeddings().weight.shape[0]
        count = min(_PROBES, length - ids.shape[1])
        drawn = torch.randint(rows, (count, len(ids)), generator=torch.Generator().manual_seed(0))
        return list(drawn.to(ids.device))

    def _length(self, needed: int, batch: int) -> int | None:
        """Columns of the cache: a prime number, so that a recording can tell it from every other size in the model."""
        settings = self._policy.base.config.get_text_config().to_dict()
        sizes = {value for value in settings.values() if isinstance(value, int)} | {batch}
        most = self._policy.max_positions or needed + 2 * _LENGTH_STEP
        rounded = -(-needed // _LENGTH_STEP) * _LENGTH_STEP
        wanted = [*range(rounded, most + 1), *range(min(rounded, most), needed - 1, -1)]
        return next((length for length in wanted if _is_prime(length) and length not in sizes), None)


def _memory_ran_out(error: BaseException | None) -> bool:
    """Of this error, or of one that it hides: what ends a CUDA capture early raises once more on the way out."""
    return error is not None and (out_of_memory(error) or _memory_ran_out(error.__cause__ or error.__context__))


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, math.isqrt(number) + 1))


def _merges(policy: Policy) -> bool:
    return policy.dtype == torch.float32


def _same(answer: Tensor, expected: Tensor) -> bool:
    """Up to rounding: merged weights, another order of sums."""
    scale = expected.float().abs().max()
    bound = 1e-4 if expected.dtype == torch.float32 else 5e-2
    return bool((answer.float() - expected.float()).abs().max() <= bound * scale)
