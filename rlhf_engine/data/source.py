"""Where the batches of a run come from."""

from __future__ import annotations

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows


class BatchSource:
    """The batches of a run, in an order that rows, seed and step alone decide."""

    def __init__(self, rows: Rows, config: RunConfig) -> None:
        self.rows = rows
        self._count, self._seed = config.algorithm.rows_per_step, config.train.seed
        self._shuffle = config.data.shuffle

    def batch(self, step: int) -> Batch:
        """What the step after `step` finished ones learns from."""
        return self.rows.batch(rows_for_step(len(self.rows), step, self._count, self._seed, shuffle=self._shuffle))
