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

    def filled(self, config: RunConfig) -> RunConfig:
        """The config with the prompts that are trained on in their place, wherever they are from, for whoever looks at
        a run's prompts. Never saved."""
        rows = self.source.rows
        if rows.kind == "texts" or rows.prompts == config.data.prompts:
            return config
        return config.model_copy(update={"data": config.data.model_copy(update={"prompts": rows.prompts})})


def check_data(policy: Policy, data: RunData, config: RunConfig) -> CheckedData:
    """Every prompt measured; too long ones are left out or cut as `sampling.long_prompts` says. Raises ConfigError as
    `check_prompts` does."""
    if data.train.kind != "prompts":
        return CheckedData(BatchSource(data.train, config), data.held_out)
    train = check_prompts(policy, config, data.train.prompts)
    held_out = check_prompts(policy, config, data.held_out.prompts, "data.held_out")
    notices = tuple(filter(None, (train.notice, held_out.notice)))
    return CheckedData(BatchSource(data.train.take(train.places), config), data.held_out.take(held_out.places), notices)
