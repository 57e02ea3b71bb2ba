"""Which models passed their check on this machine, so that the same one is not asked again at every start.

Kept in the user's cache folder, under a digest of all that the answer depends on: the model's fingerprint, versions,
device, dtype, adapted modules. A cache that is damaged or cannot be written is as good as none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from rlhf_engine.model_folders.user_cache import read_cache, write_cache
from rlhf_engine.models import model_check

_CACHE = "checked-models.json"
_REMEMBERED = 256  # models
_LIBRARIES = ("torch", "transformers", "peft")


def check_once(policy: Any, fingerprint: str | None) -> str:
    """Why this policy is to be decoded without a cache; empty when it may use one. See `model_check.check`.

    fingerprint: of the base's files; None checks anew. Raises ModelError.
    """
    key = _key(policy, fingerprint) if fingerprint else ""
    known = _remembered()
    if key in known:
        return known[key]
    found = model_check.check(policy)
    if key:
        write_cache(_CACHE, known | {key: found}, _REMEMBERED)
    return found


def _key(policy: Any, fingerprint: str) -> str:
    parts = [fingerprint, model_check.VERSION, [version(library) for library in _LIBRARIES], policy.device.type,
             str(policy.dtype), list(_shapes(policy))]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _shapes(policy: Any) -> Iterable[tuple[str, list[int]]]:
    """The adapted modules and the rank."""
    adapter = policy.adapters.get(policy.default_role, {})
    return ((name, list(parameter.shape)) for name, parameter in adapter.items())


def _remembered() -> dict[str, str]:
    """What `check` said, by key; those last checked last."""
    return {key: said for key, said in read_cache(_CACHE).items() if isinstance(said, str)}
