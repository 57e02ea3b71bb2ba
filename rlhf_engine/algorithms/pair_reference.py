"""What the reference says of pairs that are learned from again and again: asked once, and remembered.

A resumed run asks anew, and must be told the same, bit for bit; but what a pass says of a row depends, in its last
digits, on the rows beside it. So a pair is always asked about together with those that stand beside it in the first
epoch, whenever that is: for a run that has not been resumed, with the rest of the step that it is first seen in, which
costs nothing more.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.profiler import record_function

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import PairBatch
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows
from rlhf_engine.models.memory import MicroBatchLimit
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import Rollout
from rlhf_engine.models.written import written

_Key = tuple[str, str, str, bool, bool]


class PairReference:
    """Log-probs of both responses of each pair of `rows`, float32, in memory from when they are first asked for.
    asked: responses that the reference has been asked about so far."""

    def __init__(
        self, policy: Policy, rows: Rows, config: RunConfig, limit: MicroBatchLimit, *, append_end: bool
    ) -> None:
        self.asked = 0
        self._policy, self._rows, self._limit, self._append_end = policy, rows, limit, append_end
        count, settings = len(rows), config.data
        self._order = rows_for_step(count, 0, count, config.train.seed, shuffle=settings.shuffle)
        self._position = {place: at for at, place in enumerate(self._order)}
        self._together = config.algorithm.rows_per_step
        whole = rows.batch(range(count))
        assert isinstance(whole, PairBatch)
        self._place: dict[_Key, int] = {}
        for place, key in enumerate(_keys(whole)):
            self._place.setdefault(key, place)
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def log_probs(self, batch: PairBatch, rollout: Rollout) -> Tensor:
        """Of the responses of `rollout`, which `pairs_written` made of `batch`: [2 * pairs, time], nats, 0 on padding.
        """
        places = [self._place.get(key) for key in _keys(batch)]
        found = torch.zeros(rollout.response_mask.shape)
        if None in places:  # none of the run's pairs: nothing to remember
            return self._ask(rollout)
        for pair, place in enumerate(places):
            assert place is not None
            for side, log_probs in enumerate(self._of(place)):
                found[2 * pair + side, :len(log_probs)] = log_probs
        return found.to(self._policy.device, non_blocking=True)

    def _of(self, place: int) -> tuple[Tensor, Tensor]:
        if place not in self._known:
            first = self._position[place] // self._together * self._together
            beside = self._order[first:first + self._together]
            batch = self._rows.batch(beside)
            assert isinstance(batch, PairBatch)
            rollout = pairs_written(self._policy, batch, append_end=self._append_end)
            told, lengths = self._ask(rollout).cpu(), rollout.lengths[1].tolist()
            for at, one in enumerate(beside):
                chosen, rejected = (told[row, :lengths[row]].clone() for row in (2 * at, 2 * at + 1))
                self._known[one] = (chosen, rejected)
        return self._known[place]

    @torch.no_grad()
    def _ask(self, rollout: Rollout) -> Tensor:
        def attempt() -> Tensor:
            found = torch.zeros(rollout.response_mask.shape, device=self._policy.device)
            for rows in torch.arange(len(rollout)).split(self._limit.size):
                ids, mask, response_mask = rollout.batch(rows)
                width = response_mask.shape[1]
                said = self._policy.log_probs("reference", ids, mask, width, 1.0).log_probs
                found[rollout.on_device(rows), :width] = torch.where(response_mask, said, 0.0)
            return found

        self.asked += len(rollout)
        with record_function("score: reference"):
            return self._limit.fit(attempt)


def pairs_written(policy: Policy, batch: PairBatch, *, append_end: bool) -> Rollout:
    """Both responses of each pair, the chosen one first, as ids: rows 2 i and 2 i + 1 are those of pair i."""
    ended = [append_end and done for pair in zip(*batch.ended, strict=True) for done in pair]
    return written(policy, [prompt for prompt in batch.prompts for _ in range(2)],
                   [response for pair in zip(batch.chosen, batch.rejected, strict=True) for response in pair], ended)


def _keys(batch: PairBatch) -> list[_Key]:
    return list(zip(batch.prompts, batch.chosen, batch.rejected, *batch.ended, strict=True))
