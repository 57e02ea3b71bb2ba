"""Texts as tokens to learn: which of their tokens count, and what becomes of those that are too long."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_engine.config.methods.sft import SFTConfig
from rlhf_engine.data.batch import TextBatch
from rlhf_engine.data.rows import Rows
from rlhf_engine.errors import ConfigError
from rlhf_engine.models.policy import Policy

FINISHED = "finished"
"""The column that says of a response whether it ends there: behind one that was cut off (false) no end token is
learned."""
_AT_ONCE = 1000


@dataclass(frozen=True)
class TextRow:
    """A prompt and its response, or a whole text behind its start token, as ids; the response's end token with it.

    learned: of each of `ids`, whether it is learned; never the first, which follows from nothing. whole: it ends there.
    cut: its last tokens were left out, for it was too long.
    """

    prompt: str
    prompt_ids: list[int]
    response_ids: list[int]
    learned: list[bool]
    whole: bool = True
    cut: bool = False

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

    def read(self, batch: TextBatch) -> list[TextRow | None]:
        """Each text as a row; None for one that is left out. Raises PromptError for what the tokenizer cannot read."""
        read = self._texts.encode_answered(batch.prompts, batch.responses)
        ends = [finished is not False for finished in batch.columns.get(FINISHED, [True] * len(read))]
        return [self._row(prompt, before, after, end)
                for prompt, (before, after), end in zip(batch.prompts, read, ends, strict=True)]

    def rows(self, batch: TextBatch) -> list[TextRow]:
        """The rows of a batch that are not left out."""
        return [row for row in self.read(batch) if row is not None]

    def look_through(self, rows: Rows) -> tuple[int, str]:
        """Tokens of the longest row as it is learned, and one sentence about those that are cut or left out (empty:
        none). Raises ConfigError where none is left."""
        longest = cut = left_out = 0
        for start in range(0, len(rows), _AT_ONCE):
            for row in self.read(texts_of(rows, range(start, min(start + _AT_ONCE, len(rows))))):
                longest = max(longest, len(row.ids) if row else 0)
                cut += row is not None and row.cut
                left_out += row is None
        if left_out == len(rows):
            raise ConfigError(f"algorithm.max_length: none of the {len(rows)} texts has a token to learn within the "
                              f"{self.limit} tokens that are read of each")
        if not cut and not left_out:
            return longest, ""
        told = [f"{cut} cut to their first {self.limit} tokens"] * bool(cut) + [f"{left_out} left out"] * bool(left_out)
        return longest, (f"algorithm.long_texts = {self.settings.long_texts}: of {len(rows)} texts "
                         f"{' and '.join(told)}, for they are longer, or leave nothing to learn")

    def _row(self, prompt: str, before: list[int], after: list[int], ends: bool) -> TextRow | None:
        limit = self.limit
        if ends and after[-1:] != self._end:
            after = after + self._end
        cut = limit is not None and len(before) + len(after) > limit
        if cut:
            if self.settings.long_texts == "skip":
                return None
            assert limit is not None
            after = after[:max(0, limit - len(before))]
        from_start = self.settings.loss_on == "all"
        learned = [at > 0 and (from_start or at >= len(before)) and index not in self._never
                   for at, index in enumerate(before + after)]
        return TextRow(prompt, before, after, learned, ends and not cut, cut) if after and any(learned) else None


def texts_of(rows: Rows, places: Iterable[int]) -> TextBatch:
    """The rows at these places, which are of texts."""
    batch = rows.batch(places)
    assert isinstance(batch, TextBatch)
    return batch
