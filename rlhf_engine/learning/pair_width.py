"""How many responses of pairs fit into a pass."""

from __future__ import annotations

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.data.rows import Rows
from rlhf_engine.models.micro_batch import choose_micro_batch_size
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.written import written_ids


def responses_at_once(policy: Policy, rows: Rows, config: RunConfig, *, append_end: bool = False) -> int:
    """How many responses of these pairs go through a pass at once: what `train.micro_batch_size` says, or else what the
    longest of them leaves room for. append_end: an end token is put behind each."""
    if config.train.micro_batch_size:
        return config.train.micro_batch_size
    responses = [*rows.texts["chosen"], *rows.texts["rejected"]]
    width = max(len(prompt) + len(response) for prompt, response in written_ids(
        policy, rows.prompts * 2, responses, [append_end] * len(responses)))
    return choose_micro_batch_size(policy, 2 * config.algorithm.rows_per_update, width)
