"""Decoding with weights that are prepared once a rollout, and on a CUDA device with one graph a token.

Weights: see `weights`. They are held to what the model itself answers before they are trusted, in the first rollouts,
which tell it with adapters that have learnt something, too; where they do not give it, decoding is plain, and a person
is told so once.

Why transformers' own pass, and not a recording of it: with merged weights and a cache that has room it is as fast in
whole steps (docs/speed.md), and what a GPU waits for, a graph of kernels, is captured from that pass as well.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

from torch import Tensor

from rlhf_engine.models.alike import answers_alike
from rlhf_engine.models.choice import Choice, Noise, Token
from rlhf_engine.models.decoding.captured_token import Capture, capture_graph
from rlhf_engine.models.decoding.captures import Captures
from rlhf_engine.models.decoding.uncached import plain_decoder
from rlhf_engine.models.decoding.weights import DecodingWeights
from rlhf_engine.models.memory import out_of_memory
from rlhf_engine.models.policy import Policy

_CHECKS = 3  # rollouts at whose start prepared weights are tried: in the first one adapters are still zero
_CHECKED_ROWS = 4


class PreparedDecoder:
    """A `Decoder` that keeps its weights and graphs for the next rollouts. One a policy."""

    def __init__(
        self, policy: Policy, tell: Callable[[str], None] = lambda text: None, *, capture: Capture | None = None
    ) -> None:
        """tell: takes a sentence for the user, once, when rollouts are decoded plainly, which is slower. capture: what
        makes a graph of a token; by default CUDA does where the policy is on such a device, and else nothing."""
        self._policy, self._tell = policy, tell
        self._told: set[str] = {policy.why_uncached}  # which is told where the model is loaded
        self._plain = plain_decoder(policy)
        self._weights = DecodingWeights(policy.adapted, policy.dtype)
        self._checks = 0
        self._prepared = False
        if capture is None and policy.device.type == "cuda":
            capture = capture_graph
        self.captures = Captures(policy, self._weights, self._say, capture) if capture else None
        """Graphs of a token; None where none are made."""
        self.why_plain = policy.why_uncached
        """Why weights are not prepared; empty while they are."""

    def start(
        self, ids: Tensor, mask: Tensor, new_tokens: int, choice: Choice | None = None, noise: Noise | None = None
    ) -> Tensor:
        """See `Decoder`. With a choice and noise, the first call for a shape captures a graph where there are any."""
        self._prepared = not self.why_plain and self._prepare(ids, mask)
        if self.captures:
            hidden = self.captures.start(ids, mask, new_tokens, choice if self._prepared else None, noise)
            if hidden is not None:
                return hidden
        with self._in_use():
            return self._plain.start(ids, mask, new_tokens)

    def step(self, chosen: Tensor) -> Tensor:
        """See `Decoder`."""
        with self._in_use():
            return self._plain.step(chosen)

    def token(self, last: Token, noise: Callable[[], Tensor], choice: Choice) -> Token:
        """See `Decoder`."""
        if self.captures and self.captures.current:
            return self.captures.current(last)
        return choice(self.step(last.chosen), last.open_rows, noise())

    def keep(self, rows: Tensor) -> bool:
        """See `Decoder`."""
        return not (self.captures and self.captures.current) and self._plain.keep(rows)

    def _in_use(self) -> nullcontext[None]:
        return self._weights.in_use() if self._prepared else nullcontext()  # type: ignore[return-value]

    def _prepare(self, ids: Tensor, mask: Tensor) -> bool:
        """Bring the weights up to date; whether to use them."""
        if self._checks == _CHECKS:
            self._weights.refresh()
            return True
        ids, mask = ids[:_CHECKED_ROWS], mask[:_CHECKED_ROWS]
        own = self._weights.watch(lambda: self._policy.forward(ids, mask))[mask]
        if not own.isfinite().all():
            return False  # there is no answer to hold them to
        self._weights.refresh()
        try:
            with self._weights.in_use():
                same = answers_alike(self._policy.forward(ids, mask)[mask], own)
        except RuntimeError as error:  # a model that takes what a linear module gives for a tensor of its own
            if out_of_memory(error):
                raise
            same = False
        if not same:
            self.why_plain = "with adapters joined to its weights the model does not give its own answer"
            self._say(f"decoding is slower than it could be: {self.why_plain}")
        self._checks += same
        return same

    def _say(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)
