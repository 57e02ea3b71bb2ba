"""How fast this machine multiplies, measured over its last few starts and remembered: no start need measure it anew.

A measurement is only a lower bound, for others may use the machine meanwhile. So the first few starts measure, each
keeps the highest so far, and a step that was faster raises it for all that come.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from rlhf_engine.files.json_text import to_json
from rlhf_engine.model_folders.user_cache import read_cache, write_cache
from rlhf_engine.models.processor import machine_digest

MEASURED = 3
"""Starts that measure; later ones take what these found."""
_CACHE = "matmul-peaks.json"
_REMEMBERED = 64  # pairs of dtype and threads, and machines that share a folder

Measure = Callable[[torch.dtype, torch.device], float]


class _Known(NamedTuple):
    speed: float = 0.0
    times: int = 0


def known_peak(dtype: torch.dtype, device: torch.device, measure: Measure) -> float:
    """Operations per second of large matrix products in `dtype` on `device`, with the threads torch uses now: the
    highest that is known, after `measure` was asked as well if it was not often enough yet."""
    key = _key(dtype, device)
    known = _read(key)
    if known.times >= MEASURED:
        return known.speed
    speed = max(known.speed, measure(dtype, device))
    _write(key, _Known(speed, known.times + 1))
    return speed


def raise_peak(dtype: torch.dtype, device: torch.device, speed: float) -> None:
    """Remember a speed that was reached, if none as high is known."""
    key = _key(dtype, device)
    known = _read(key)
    if speed > known.speed:
        _write(key, known._replace(speed=speed))


def _key(dtype: torch.dtype, device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    return hashlib.sha256(to_json([machine_digest(), str(dtype), name, threads]).encode()).hexdigest()


def _read(key: str) -> _Known:
    match read_cache(_CACHE).get(key):
        case [int() | float() as speed, int() as times] if math.isfinite(speed) and speed > 0:
            return _Known(float(speed), times)
    return _Known()


def _write(key: str, known: _Known) -> None:
    write_cache(_CACHE, read_cache(_CACHE) | {key: list(known)}, _REMEMBERED)
