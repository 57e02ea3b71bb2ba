"""JSON as we write it: valid, which NaN and infinity are not, and without a character that a terminal would obey."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from rlhf_engine.system.visible_text import escaped_json


def to_json(value: Any, *, ascii_only: bool = True, indent: int | None = None) -> str:
    """Plain data as JSON, on one line but for `indent`; a number that is not finite is null.

    ascii_only: every other letter is an escape; else only those that command a terminal or hide are.
    """
    return escaped_json(json.dumps(finite(value), ensure_ascii=ascii_only, allow_nan=False, indent=indent))


def finite(value: Any) -> Any:
    """Plain data with null in the place of every number that is not finite; keys become texts, tuples lists."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
