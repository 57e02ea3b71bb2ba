"""When a run diverges: what counts as that, and the way back to its last checkpoint."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from rlhf_engine.algorithms.base import StepResult
from rlhf_engine.algorithms.learners import load_adapters, require_adapters
from rlhf_engine.errors import CheckpointError, NonFiniteError
from rlhf_engine.maths.finite import all_finite
from rlhf_engine.models.policy import Policy
from rlhf_engine.runs import checkpoint
from rlhf_engine.runs.run_dir import RunDir


def skipped_updates(result: StepResult) -> str:
    """What of a step was skipped, in words."""
    count = result.metrics.get("train/skipped_updates", math.nan)
    what = f"{count:.0f} of the step's updates" if math.isfinite(count) else "updates of the step"
    return f"{what} were skipped because {result.nonfinite}"


def check_divergence(result: StepResult, tensors: Mapping[str, Tensor], *, in_a_row: int, limit: int) -> None:
    """Raises NonFiniteError after `limit` steps in a row with skipped updates, or one that broke the weights."""
    skipped = skipped_updates(result)
    if not all_finite(tensors.values()):
        raise NonFiniteError(f"{skipped}, and the weights are not finite")
    if in_a_row >= limit:
        raise NonFiniteError(f"{skipped}, for {in_a_row} steps in a row" if in_a_row > 1 else skipped)


def restore_last_checkpoint(run_dir: RunDir | None, policy: Policy | None) -> str:
    """Give `policy` the weights of the newest checkpoint, and say so."""
    if run_dir is None or policy is None:
        return "nothing was saved to go back to"
    try:
        state, _ = checkpoint.load_newest(run_dir, lambda state: require_adapters(policy, state.tensors))
    except CheckpointError as error:
        return str(error)
    load_adapters(policy, state.tensors)
    return (f"the weights are back at the checkpoint of step {state.step}; resume with a smaller "
            f"{' and '.join(state.config.algorithm.learning_rates)}, or let train.max_rollbacks do that")
