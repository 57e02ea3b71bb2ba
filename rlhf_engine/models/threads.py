"""How many CPU threads a model is worth: measured at the start, for it depends on model, batch and machine."""

from __future__ import annotations

import time

import torch

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.models.policy import Policy
from rlhf_engine.system.cores import available_cores

_WORTH_IT = 0.9  # more threads must take at most this share of the time, so that noise does not decide
_TOKENS = 1024  # of one trial pass
_PROMPT = 8  # tokens before a response in it


def use_threads(policy: Policy, threads: int, *, rows: int, width: int, known: int | None = None) -> int:
    """Set torch's threads to `threads`, or if that is 0 to `known` (a resumed run's) or by calibration on batches of
    `rows` by `width` tokens.

    The number changes rounding: a run keeps the one it began with.
    """
    cores = available_cores()
    threads = threads or min(known or calibrate(policy, rows, width, cores), cores)
    torch.set_num_threads(threads)
    return threads


def use_threads_of(policy: Policy, config: RunConfig, known: int | None = None) -> int:
    """`use_threads` as `config` says, calibrated on batches like those that it learns from."""
    return use_threads(policy, config.train.threads, rows=config.algorithm.rows_per_update,
                       width=config.sampling.max_new_tokens + _PROMPT, known=known)


def calibrate(policy: Policy, rows: int, width: int, cores: int) -> int:
    """Double the threads for as long as a forward pass gets at least a tenth faster by it; all cores on a GPU."""
    if policy.device.type != "cpu":
        return cores
    width = min(width, policy.max_positions or 4096)
    rows = max(1, min(rows, _TOKENS // width))
    vocabulary = policy.base.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (rows, width), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids, dtype=torch.bool)
    best, best_seconds = 1, _seconds(policy, ids, mask, 1)
    while best * 2 <= cores:
        seconds = _seconds(policy, ids, mask, best * 2)
        if seconds > _WORTH_IT * best_seconds:
            break
        best, best_seconds = best * 2, seconds
    return best


@torch.no_grad()
def _seconds(policy: Policy, ids: torch.Tensor, mask: torch.Tensor, threads: int) -> float:
    """The fastest of a few passes; the first one, which starts the threads, does not count."""
    torch.set_num_threads(threads)
    taken = []
    for _ in range(4):
        started = time.perf_counter()
        policy.forward(ids, mask)
        taken.append(time.perf_counter() - started)
    return min(taken[1:])
