"""How many CPU threads a model is worth: measured at the start, for it depends on model, batch and machine.

Not remembered, as number formats are (`dtype_trial`): how much several threads get done depends on who else uses the
machine, and what was found in a busy hour would hold for good, to save a tenth of a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.trial import fastest, trial_ids, trial_width
from rlhf_engine.system.cores import available_cores

_WORTH_IT = 0.9  # more threads must take at most this share of the time, so that noise does not decide
_TOKENS = 1024  # of one trial pass
_TRIALS = 3  # the fastest counts


def use_threads(policy: Policy, threads: int, *, rows: int, response: int, known: int | None = None) -> int:
    """Set torch's threads to `threads`, or if that is 0 to `known` (a resumed run's) or by calibration on batches of
    `rows` with responses of `response` tokens.

    The number changes rounding: a run keeps the one it began with.
    """
    cores = available_cores()
    threads = threads or min(known or calibrate(policy, rows, response, cores), cores)
    torch.set_num_threads(threads)
    return threads


def use_threads_of(policy: Policy, config: RunConfig, known: int | None = None) -> int:
    """`use_threads` as `config` says, calibrated on batches like those that it learns from."""
    return use_threads(policy, config.train.threads, rows=config.algorithm.rows_per_update,
                       response=config.sampling.max_new_tokens, known=known)


def calibrate(
    policy: Policy, rows: int, response: int, cores: int, seconds: Callable[[int], float] | None = None
) -> int:
    """Double the threads for as long as a forward pass gets at least a tenth faster by it; all cores on a GPU.

    seconds: what a pass takes with so many threads; measured if left out.
    """
    if policy.device.type != "cpu":
        return cores
    seconds = seconds or _pass_of(policy, rows, response)
    best, best_seconds = 1, seconds(1)
    while best * 2 <= cores:
        taken = seconds(best * 2)
        if taken > _WORTH_IT * best_seconds:
            break
        best, best_seconds = best * 2, taken
    return best


def _pass_of(policy: Policy, rows: int, response: int) -> Callable[[int], float]:
    width = trial_width(policy, response)
    ids = trial_ids(policy, max(1, min(rows, _TOKENS // width)), width)
    mask = torch.ones_like(ids, dtype=torch.bool)

    @torch.no_grad()
    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)  # which the first pass starts
        return fastest(lambda: policy.forward(ids, mask), _TRIALS, time.perf_counter)

    return seconds
