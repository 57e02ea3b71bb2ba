"""Which number format a CPU computes a model faster in: bfloat16 where it pays, else float32.

Some processors multiply in bfloat16 several times as fast as in float32. What of that is left depends on the model: a
small one spends much of its time outside of products, and adapters are not merged into a base of half precision. So the
very model is loaded in either format and timed at what training does: a pass forward and backward, and steps of
decoding. bfloat16 must also pass the check that every model passes (`model_check`).

What was found is remembered in the user's cache folder, by machine and model, so that all runs on a model agree. How
many rows a batch has is not told apart: the storyteller takes 0.79 of the time with 8 rows and 0.58 with 256, and a
larger model is faster in bfloat16 with both.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.files.json_text import to_json
from rlhf_engine.model_folders.user_cache import read_cache, write_cache
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.loading import choose_device
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.processor import machine_digest, multiplies_bfloat16
from rlhf_engine.models.trial import PROMPT, fastest, trial_ids, trial_width
from rlhf_engine.runs.base_model import base_fingerprint

VERSION = 1
"""Counts changes of what makes either format fast or slow, so that an older finding is not taken."""

FLOAT32, BFLOAT16 = "float32", "bfloat16"
_CACHE = "number-format-trials.json"
_REMEMBERED = 256  # models
_WORTH_IT = 0.87  # bfloat16 must take at most this share of the time: for less nobody gives up digits
_WORK = 1e10  # parameters times tokens of a trial pass, about
_TOKENS = 512  # of one, at most
_ROWS = 64  # of a trial's decoding, at most
_STEPS = 8  # of decoding that are timed
_PASSES = 4  # times that a response is learned from for each time that it is sampled: actor and critic, twice each
_TRIALS = 2  # the fastest counts


class Found(NamedTuple):
    """dtype: "float32" or "bfloat16". why: a sentence for the user; empty where it was known, or nothing was asked."""

    dtype: str
    why: str = ""


class Trial(NamedTuple):
    """What a trial found. machine: `machine_digest` of where; model: its name, or its folder; speed: how many times as
    fast as in float32 it is in bfloat16, None where it does not pass its check in that."""

    machine: str
    model: str
    dtype: str
    speed: float | None


def found_faster(
    config: RunConfig,
    *,
    capable: bool | None = None,
    seconds: Callable[[RunConfig], float] | None = None,
) -> Found:
    """The number format for a new run whose `model.dtype` is auto and whose model stands on a CPU.

    capable: whether the processor has units for bfloat16; asked if left out. seconds: what a response costs under a
    config whose `model.dtype` is set; `response_seconds` if left out. It may raise ModelError for bfloat16, and what it
    raises for float32 is raised here.
    """
    if not (multiplies_bfloat16() if capable is None else capable):
        return Found(FLOAT32)
    key = _key(config)
    if (known := _remembered().get(key)) is not None:
        return Found(known.dtype)
    found, trial = _tried(config, seconds or response_seconds)
    if key:
        remembered = _remembered()
        if (sooner := remembered.get(key)) is not None:  # another process: runs on one model are to agree
            return found if sooner.dtype == found.dtype else Found(sooner.dtype)
        write_cache(_CACHE, remembered | {key: trial}, _REMEMBERED)
    return found


def remembered_here() -> list[Trial]:
    """What trials on this machine found, with this torch and as many cores, the newest last."""
    machine = machine_digest()
    return [trial for trial in _remembered().values() if trial.machine == machine]


def asks(config: RunConfig) -> bool:
    """Whether a new run under this config leaves it to a trial. Raises ModelError for a device this machine lacks."""
    return config.model.dtype == "auto" and choose_device(config.model.device).type == "cpu"


def _tried(config: RunConfig, seconds: Callable[[RunConfig], float]) -> tuple[Found, Trial]:
    trial = Trial(machine_digest(), config.model.name, FLOAT32, None)
    full = seconds(fields.replace(config, {"model.dtype": FLOAT32}))
    try:
        half = seconds(fields.replace(config, {"model.dtype": BFLOAT16}))
    except ModelError as error:
        return Found(FLOAT32, f"model.dtype is float32, for in bfloat16 the model does not pass: {error}"), trial
    trial = trial._replace(speed=full / half)
    speed = f"in bfloat16 this machine computes the model {full / half:.1f} times as fast as in float32"
    if half <= _WORTH_IT * full:
        return Found(BFLOAT16, f"model.dtype is bfloat16 from now on: {speed}"), trial._replace(dtype=BFLOAT16)
    return Found(FLOAT32, f"model.dtype is float32: {speed}"), trial


def response_seconds(config: RunConfig) -> float:
    """About what a response costs: `sampling.max_new_tokens` of decoding, and the passes that learn from it. Loads the
    model for it. Raises ModelError.

    In processor time of a single thread: others who use the machine make that hardly longer, while several threads that
    wait for one another take many times as long.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _response_seconds(config)
    finally:
        torch.set_num_threads(threads)


def _response_seconds(config: RunConfig) -> float:
    policy = Policy.from_config(config)
    width = trial_width(policy, config.sampling.max_new_tokens)
    tokens = min(_TOKENS, int(_WORK / policy.parameter_count))
    ids = trial_ids(policy, max(1, min(config.algorithm.rows_per_update, tokens // width)), width)
    learning = fastest(lambda: _learn(policy, ids), _TRIALS, time.thread_time) / len(ids)
    prompts = trial_ids(policy, min(config.algorithm.rows_per_step, _ROWS), min(PROMPT, width - 1))
    steps = min(_STEPS, width - prompts.shape[1])
    decoder = PreparedDecoder(policy)
    with torch.no_grad():
        decoding = fastest(lambda: _decode(policy, decoder, prompts, steps), _TRIALS, time.thread_time)
    return _PASSES * learning + config.sampling.max_new_tokens * decoding / len(prompts) / steps


def _learn(policy: Policy, ids: torch.Tensor) -> None:
    mask = torch.ones_like(ids, dtype=torch.bool)
    said = policy.log_probs(policy.default_role, ids, mask, ids.shape[1] - min(PROMPT, ids.shape[1] - 1), 1.0)
    if said.log_probs.requires_grad:
        said.log_probs.sum().backward()


def _decode(policy: Policy, decoder: PreparedDecoder, prompts: torch.Tensor, steps: int) -> None:
    hidden = decoder.start(prompts, torch.ones_like(prompts, dtype=torch.bool), steps)
    for _ in range(steps):
        hidden = decoder.step(policy.next_logits(hidden, 1.0).argmax(dim=1))


def _key(config: RunConfig) -> str:
    """Empty for a model that is not known to be the same next time."""
    fingerprint = base_fingerprint(config.model)
    if fingerprint is None:
        return ""
    return hashlib.sha256(to_json([VERSION, fingerprint.hex, machine_digest()]).encode()).hexdigest()


def _remembered() -> dict[str, Trial]:
    found = {}
    for key, entry in read_cache(_CACHE).items():
        match entry:
            case [str() as machine, str() as model, "float32" | "bfloat16" as dtype, float() | None as speed]:
                found[key] = Trial(machine, model, dtype, speed)
    return found
