"""What a model's config.json claims, held against common sense and against its weights before anything is built.

Libraries build what a config describes, a billion layers or a table of a terabyte too, and compare with the weights
afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rlhf_engine.errors import ModelError, short
from rlhf_engine.model_folders.model_files import weight_files
from rlhf_engine.model_folders.safetensors_header import Header, read_header

_LAYERS = re.compile(r"(^|_)(layers?|blocks?|depths?|stages)(_|$)")
_COUNTS = re.compile(r"^(n|num)_|_num_|_per_|(^|_)(experts|heads|labels|groups|levels)(_|$)")
_MOST_LAYERS = 2_000  # the deepest that is known has a thousand
_MOST_COUNTED = 100_000
_POSITIONS = re.compile(r"position|ctx|token|embd|size|patch")  # counted by millions; the weights tell of these
_MOST_ANYTHING = 2**62
_SPARE = 10_000_000
"""Numbers that a model may have without their being saved, such as buffers made anew."""


def check_config_sizes(config: dict[str, Any]) -> None:
    """Raises ModelError for layers, heads, experts or labels beyond what any model has, wherever they stand."""
    for name, value in _numbers(config):
        most = (_MOST_LAYERS if _LAYERS.search(name) and not _POSITIONS.search(name)
                else _MOST_COUNTED if _COUNTS.search(name) and not _POSITIONS.search(name) else _MOST_ANYTHING)
        if abs(value) > most:
            shown = f"{value:,}" if abs(value) < 10**30 else "a number of more than thirty digits"
            raise ModelError(f"its config.json says {short(name)} = {shown}, and no model has more than {most:,}")


def check_described_size(model: Any, folder: Path | None) -> None:
    """Raises ModelError where a model as described is far larger than the weights that lie in `folder`.

    model: its modules, on whatever device. folder: None where it is not on this machine yet.
    """
    files = [path for path in weight_files(folder) if path.suffix == ".safetensors"] if folder else []
    if not files:
        return
    there = Header.of([read_header(path) for path in files]).elements
    described = sum(parameter.numel() for parameter in model.parameters())
    if described > 2 * there + _SPARE:  # twice: tied tables are saved once
        raise ModelError(f"its config.json describes {described:,} weights, and its files hold {there:,}")


def _numbers(value: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every whole number in it with the name of what holds it, however deep."""
    unread: list[tuple[str, Any]] = [("", value)]
    while unread:
        name, one = unread.pop()
        if isinstance(one, dict):
            unread += [(str(key), item) for key, item in one.items()]
        elif isinstance(one, list):
            unread += [(name, item) for item in one]
        elif isinstance(one, int) and not isinstance(one, bool):
            yield name, one
