"""Where the batches of a run come from, and what is held out of them."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch
from rlhf_engine.data.prompt_check import check_prompts
from rlhf_engine.data.prompt_order import rows_for_step
from rlhf_engine.data.rows import Rows, RunData
from rlhf_engine.models.policy import Policy


class BatchSource:
    """The batches of a run, in an order that rows, seed and step alone decide."""

    def __init__(self, rows: Rows, config: RunConfig) -> None:
        self.rows = rows
        self._count, self._seed = config.algorithm.rows_per_step, config.train.seed
        self._shuffle = config.data.shuffle

    def batch(self, step: int) -> Batch:
        """What the step after `step` finished ones learns from."""
        return self.rows.batch(rows_for_step(len(self.rows), step, self._count, self._seed, shuffle=self._shuffle))


@dataclass(frozen=True)
class CheckedData:
    """Data that the model can take. notices: sentences about rows that are skipped or cut."""

    source: BatchSource
    held_out: Rows
    notices: tuple[str, ...] = ()


def check_data(policy: Policy, data: RunData, config: RunConfig) -> CheckedData:
    """Every prompt that will be answered measured; too long ones are left out or cut as `sampling.long_prompts` says.
    Raises ConfigError as `check_prompts` does. How much of a text or a pair is read is the method's to say."""
    rows, held_out, notices = data.train, data.held_out, [""]
    if rows.kind == "prompts":
        train = check_prompts(policy, config, rows.prompts)
        rows, notices = rows.take(train.places), [train.notice]
    if config.algorithm.needs.answers and len(held_out):
        kept = check_prompts(policy, config, held_out.prompts, "data.held_out")
        held_out, notices = held_out.take(kept.places), [*notices, kept.notice]
    return CheckedData(BatchSource(rows, config), held_out, tuple(filter(None, notices)))
