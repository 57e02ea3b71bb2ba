"""Where the batches of a run come from, and what is held out of them."""

from __future__ import annotations

from dataclasses import dataclass

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.batch import Batch
from rlhf_engine.data.pair_check import whole_pairs
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
    """Data that the model can take. held_out, held_out_rows: see `RunData`. notices: sentences about rows that are
    skipped or cut."""

    source: BatchSource
    held_out: Rows
    held_out_rows: Rows
    notices: tuple[str, ...] = ()


def check_data(policy: Policy, data: RunData, config: RunConfig) -> CheckedData:
    """Every prompt that will be answered measured; too long ones are left out or cut as `sampling.long_prompts` says.
    Pairs that are too long for a method that reads whole ones are left out; how much of others, and of texts, is read
    is the method's to say. Raises ConfigError as `check_prompts` does."""
    rows, held_out, apart, notices = data.train, data.held_out, data.held_out_rows, [data.notice]
    if rows.kind == "prompts":
        train = check_prompts(policy, config, rows.prompts)
        rows, notices = rows.take(train.places), [*notices, train.notice]
    if rows.kind == "pairs" and config.algorithm.longest_pair is not None:
        rows, said = whole_pairs(policy, config, rows)
        apart, _ = whole_pairs(policy, config, apart, required=False)
        notices.append(said)
    if config.algorithm.needs.answers and len(held_out):
        kept = check_prompts(policy, config, held_out.prompts, "data.held_out")
        held_out, notices = held_out.take(kept.places), [*notices, kept.notice]
    return CheckedData(BatchSource(rows, config), held_out, apart, tuple(filter(None, notices)))
