"""Texts as tokens to learn: which of their tokens count, and what becomes of those that are too long."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlhf_engine.config.methods.sft import SFTConfig
from rlhf_engine.data.batch import TextBatch
from rlhf_engine.errors import ConfigError
from rlhf_engine.models.policy import Policy

_AT_ONCE = 1000


@dataclass(frozen=True)
class TextRow:
    """A prompt and its response, or a whole text behind its start token, as ids; the response's end token with it.

    learned: of each of `ids`, whether it is learned; never the first, which follows from nothing. whole: nothing was
    cut off.
    """

    prompt: str
    prompt_ids: list[int]
    response_ids: list[int]
    learned: list[bool]
    whole: bool = True

    @property
    def ids(self) -> list[int]:
        """All of it."""
        return self.prompt_ids + self.response_ids

    @property
    def count(self) -> int:
        """Tokens that are learned."""
        return sum(self.learned)


class TextReader:
    """Reads rows as a method is to learn them."""

    def __init__(self, policy: Policy, settings: SFTConfig) -> None:
        self.settings, self._texts = settings, policy.texts
        limits = [limit for limit in (settings.max_length, policy.max_positions) if limit is not None]
        self.limit = min(limits, default=None)
        """The most tokens of a row; None: as many as one likes."""
        own = policy.tokenizer.eos_token_id
        self._end = [own] if own in policy.end_ids else list(policy.end_ids[:1])
        # of what is never sampled there is no log-probability
        self._never = set() if policy.banned is None else set(policy.banned.nonzero().squeeze(1).tolist())

    def read(self, prompts: Sequence[str], responses: Sequence[str]) -> list[TextRow | None]:
        """Each pair as a row; None for one that is left out. Raises PromptError for what the tokenizer cannot read."""
        read = self._texts.encode_answered(prompts, responses)
        return [self._row(prompt, before, after) for prompt, (before, after) in zip(prompts, read, strict=True)]

    def rows(self, batch: TextBatch) -> list[TextRow]:
        """The rows of a batch that are not left out."""
        return [row for row in self.read(batch.prompts, batch.responses) if row is not None]

    def look_through(self, prompts: Sequence[str], responses: Sequence[str]) -> tuple[int, str]:
        """Tokens of the longest row as it is learned, and one sentence about those that are cut or left out (empty:
        none). Raises ConfigError where none is left."""
        longest = cut = left_out = 0
        for start in range(0, len(prompts), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            for row in self.read(prompts[part], responses[part]):
                longest = max(longest, len(row.ids) if row else 0)
                cut += row is not None and not row.whole
                left_out += row is None
        if left_out == len(prompts):
            raise ConfigError(f"algorithm.max_length: none of the {len(prompts)} texts has a token to learn within the "
                              f"{self.limit} tokens that are read of each")
        if not cut and not left_out:
            return longest, ""
        told = [f"{cut} cut to their first {self.limit} tokens"] * bool(cut) + [f"{left_out} left out"] * bool(left_out)
        return longest, (f"algorithm.long_texts = {self.settings.long_texts}: of {len(prompts)} texts "
                         f"{' and '.join(told)}, for they are longer, or leave nothing to learn")

    def _row(self, prompt: str, before: list[int], after: list[int]) -> TextRow | None:
        after, limit = after if after[-1:] == self._end else after + self._end, self.limit
        whole = limit is None or len(before) + len(after) <= limit
        if not whole:
            if self.settings.long_texts == "skip":
                return None
            assert limit is not None
            after = after[:max(0, limit - len(before))]
        from_start = self.settings.loss_on == "all"
        learned = [at > 0 and (from_start or at >= len(before)) and index not in self._never
                   for at, index in enumerate(before + after)]
        return TextRow(prompt, before, after, learned, whole) if after and any(learned) else None
