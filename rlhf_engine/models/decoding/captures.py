"""Graphs of a token (see `captured_token`): which are made, tried and kept.

A graph is tried against the plain pass before it is trusted. Models that cannot be captured (control flow on data,
sliding caches) or do not answer the same are decoded without, and a person is told so once. Where memory runs out,
decoding is plain for a while, and graphs are captured again later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers import StaticCache

from rlhf_engine.errors import ModelError, kind_and_message
from rlhf_engine.models.alike import answers_alike
from rlhf_engine.models.choice import Choice, Noise, Token
from rlhf_engine.models.decoding.captured_token import Capture, CapturedToken, fixed_cache
from rlhf_engine.models.decoding.plain import PlainDecoder
from rlhf_engine.models.decoding.weights import DecodingWeights
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.text_pass import hidden_states

_KEPT = 4  # graphs that are kept in any case: of rollouts, probes, answers one by one
_KEPT_BYTES = 512 * 1024**2  # of their caches and logits, up to which more are kept, for prompts of many lengths
_LOGITS = 4  # float32 [rows, vocabulary] that a graph has room of its own for: logits, probabilities, what lies between
_MOST_KEPT = 16
_PATIENCE = (4, 16, 64)  # rollouts decoded plainly each time that memory ran out; after that, all that follow
_PROBES = 4  # tokens that a graph is tried with
_LENGTH_STEP = 32  # caches are a multiple of this long: longer prompts seldom need a graph of their own
_NO_ROOM = "between the longest prompt with its response and the model's context there is no room for a cache"


class _CannotCapture(Exception):
    """Why this model is decoded without graphs."""


class _NotNow(Exception):
    """Nothing can be captured while the weights give no finite numbers: there is no answer to hold a graph to."""


class Captures:
    """Captures tokens of a policy, and keeps some for the next rollouts."""

    def __init__(
        self, policy: Policy, weights: DecodingWeights, say: Callable[[str], None], capture: Capture
    ) -> None:
        """weights: that are up to date and checked whenever `start` is called. say: takes a sentence for the user."""
        self._policy, self._weights, self._say, self._capture = policy, weights, say, capture
        self._shortages = self._resting = 0  # times that memory ran out; rollouts until the next try
        self._kept: dict[tuple[Any, ...], CapturedToken] = {}
        self.current: CapturedToken | None = None
        """That of the rollout under way; None while it is decoded without."""
        self.why_not = "" if policy.takes_positions else "the model takes no positions"
        """Why tokens are not captured; empty while they are."""
        self._say_why()

    def start(
        self, ids: Tensor, mask: Tensor, new_tokens: int, choice: Choice | None, noise: Noise | None
    ) -> Tensor | None:
        """As `Decoder.start`; None where this rollout has to be decoded without a graph."""
        self.current = None
        if self._resting or self.why_not or choice is None or noise is None:
            self._resting = max(0, self._resting - 1)
            return None
        length = self._length(ids.shape[1] + new_tokens)
        if length is None:
            self._say(f"tokens are not captured as CUDA graphs, which is slower: {_NO_ROOM}")
            return None
        try:
            self.current = self._captured(ids, mask, length, choice, min(_PROBES, new_tokens))
            self.current.begin(mask, noise)
            return self._read_prompts(self.current.cache, ids, mask)
        except _CannotCapture as error:
            self.why_not = str(error)
            self._say_why()
        except _NotNow:
            pass
        except (RuntimeError, MemoryError) as error:
            if not _memory_ran_out(error):
                raise
            self._make_room()
        # not inside `except`: there the traceback still holds the tensors that filled the memory
        self.current = None
        if ids.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """(rows, columns) of the graphs that are kept, those used last at the end."""
        return [(key[0], key[1]) for key in self._kept]

    def _say_why(self) -> None:
        if self.why_not:
            self._say(f"tokens are not captured as CUDA graphs, which is slower: {self.why_not}")

    def _make_room(self) -> None:
        """Let go of all graphs, and make none for a while."""
        self._kept.clear()
        self.current = None
        self._shortages += 1
        if self._shortages > len(_PATIENCE):
            self.why_not = f"out of memory, {self._shortages} times"
            self._say_why()
            return
        self._resting = _PATIENCE[self._shortages - 1]
        self._say(
            f"out of memory while a token was captured: this rollout and the next {self._resting} are decoded "
            "without, which is slower; fewer algorithm.responses_per_step would need less"
        )

    def _captured(self, ids: Tensor, mask: Tensor, length: int, choice: Choice, probes: int) -> CapturedToken:
        """The graph for this shape, made now if there is none; of the others, those used last are kept."""
        key = (len(ids), length, choice.key, self._policy.role)
        found = self._kept.pop(key, None)
        while found is None and len(self._kept) >= (_KEPT if self._kept_bytes > _KEPT_BYTES else _MOST_KEPT):
            del self._kept[next(iter(self._kept))]
        self._kept[key] = found or self._make(ids, mask, length, choice, probes)
        return self._kept[key]

    @property
    def _kept_bytes(self) -> int:
        return sum(captured.nbytes + _LOGITS * 4 * captured.rows * self._policy.vocabulary
                   for captured in self._kept.values())

    def _read_prompts(self, cache: StaticCache, ids: Tensor, mask: Tensor) -> Tensor:
        """Fill the cache with the prompts, and with nothing beyond, without moving its counter; the hidden states after
        the prompts. What weights that broke have left there, NaN, would come through any mask."""
        plain = PlainDecoder(self._policy)
        with self._weights.in_use():
            hidden = plain.start(ids, mask, 0)
        for layer, read in zip(cache.layers, plain.cache.layers, strict=True):
            if read.is_initialized:  # some models have layers that keep nothing of their own
                if not layer.is_initialized:
                    layer.lazy_initialization(read.keys, read.values)
                for own, prompts in ((layer.keys, read.keys), (layer.values, read.values)):
                    own[:, :, : ids.shape[1]] = prompts
                    own[:, :, ids.shape[1] :] = 0.0
        return hidden

    def _make(self, ids: Tensor, mask: Tensor, length: int, choice: Choice, count: int) -> CapturedToken:
        probes, (rows, width) = self._probes(ids, count), ids.shape
        column = torch.tensor(width, device=ids.device)
        try:
            cache = fixed_cache(self._policy.base.config, length, column)
        except ModelError as error:
            raise _CannotCapture(str(error)) from error
        plain = PlainDecoder(self._policy)
        plain.start(ids, mask, len(probes))
        own = [plain.step(probe) for probe in probes]
        if not all(states.isfinite().all() for states in own):
            raise _NotNow
        noise = choice.noise(torch.Generator(ids.device), len(probes) + 1, rows)
        policy, weights = self._policy, self._weights

        def forward(ids: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
            with weights.in_use():
                output = policy.body(input_ids=ids, position_ids=positions, attention_mask=mask,
                                     past_key_values=cache, use_cache=True)
            return hidden_states(output)[:, -1]

        try:
            self._read_prompts(cache, ids, mask)
            captured = CapturedToken(forward, cache, column, choice, noise, torch.Size((rows, length)), self._capture)
            captured.begin(mask, noise)
            alike, all_open = [], torch.ones(rows, dtype=torch.bool, device=ids.device)
            for probe, expected in zip(probes, own, strict=True):
                captured(Token(probe, torch.ones(rows, device=ids.device), all_open))
                alike.append(answers_alike(captured.hidden, expected))
        except Exception as error:  # whatever a model does that cannot be captured: torch and models raise many kinds
            if _memory_ran_out(error):
                raise
            raise _CannotCapture(kind_and_message(error)) from error
        if not all(alike):
            raise _CannotCapture("the captured token is not the model's own answer")
        return captured

    def _probes(self, ids: Tensor, count: int) -> list[Tensor]:
        """Ids [batch] of some tokens to try a graph with. A model that sends tokens to experts by their numbers has
        those in its graph that it was captured with, and answers others wrongly."""
        rows = self._policy.base.get_input_embeddings().weight.shape[0]
        drawn = torch.randint(rows, (count, len(ids)), generator=torch.Generator().manual_seed(0))
        return list(drawn.to(ids.device))

    def _length(self, needed: int) -> int | None:
        """Columns of the cache."""
        most = self._policy.max_positions or needed + _LENGTH_STEP
        length = min(-(-needed // _LENGTH_STEP) * _LENGTH_STEP, most)
        return length if length >= needed else None


def _memory_ran_out(error: BaseException | None) -> bool:
    """Of this error, or of one that it hides: what ends a CUDA capture early raises once more on the way out."""
    return error is not None and (out_of_memory(error) or _memory_ran_out(error.__cause__ or error.__context__))
