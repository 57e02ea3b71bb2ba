"""What a base model is, told from the contents of its files: the same wherever they lie, another after any change.

A file is hashed whole, once: its digest is remembered in the user's cache folder for as long as nothing about the file
has changed. Size and modification time prove nothing (`cp -p` and `rsync --times` keep them), so its inode and the time
of its last change (ctime, which no program can set) must be the same too, and a file that changed a moment ago is not
remembered yet, for clocks are coarse. A cache that is damaged or cannot be written is as good as none. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_engine.errors import ModelError
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.reading import open_regular
from rlhf_engine.model_folders import model_files
from rlhf_engine.model_folders.user_cache import read_cache, write_cache

_CACHE = "fingerprints.json"
_REMEMBERED = 512  # files
_SETTLED_NS = 2_000_000_000
_hashed_here: dict[str, list[Any]] = {}  # by this process: where the cache cannot be written, once a start is enough
# what saving writes about itself and where it happened, and no model answers otherwise for
_SAYS_NOTHING = frozenset({"_name_or_path", "name_or_path", "transformers_version", "peft_version", "is_local",
                           "local_files_only", "inference_mode", "base_model_name_or_path"})


@dataclass(frozen=True)
class Fingerprint:
    """Digests (SHA-256, hexadecimal) of what a model consists of, by what a person calls it: weights, architecture,
    generation settings, tokenizer, and code if it brings any."""

    parts: Mapping[str, str]

    @property
    def hex(self) -> str:
        """One digest for all of it."""
        return hashlib.sha256(json.dumps(dict(self.parts), sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, found: object) -> Fingerprint | None:
        """The fingerprint in what a file says; None if it says none."""
        whole = isinstance(found, dict) and found and all(isinstance(value, str) for value in found.values())
        return cls(dict(found)) if whole else None  # type: ignore[call-overload]

    def differing(self, other: Fingerprint) -> list[str]:
        """The parts that are not the same in both; empty when it is one and the same model."""
        names = dict.fromkeys([*self.parts, *other.parts])
        return [name for name in names if self.parts.get(name) != other.parts.get(name)]


def fingerprint_of(folder: Path, adapter: Path | None = None) -> Fingerprint:
    """The fingerprint of the model and the tokenizer that are loaded from `folder`.

    adapter: the folder of a PEFT adapter that is merged into it, and whose tokenizer goes before that of the model.
    Raises ModelError for a file that cannot be read.
    """
    teller = adapter if adapter and model_files.has_tokenizer(adapter) else folder
    files = {
        "weights": model_files.weight_files(folder),
        "architecture": [folder / model_files.CONFIG],
        "generation settings": [folder / model_files.GENERATION],
        "tokenizer": model_files.tokenizer_files(teller),
        "code": model_files.code_files(folder),
    }
    if adapter:
        files["adapter"] = [adapter / model_files.ADAPTER_CONFIG, adapter / model_files.ADAPTER_WEIGHTS]
    remembered = _remembered()
    known = remembered | _hashed_here
    try:
        there = {part: [path for path in paths if os.path.isfile(path)] for part, paths in files.items()}
        parts = {part: _together(paths, known) for part, paths in there.items() if paths}
    except OSError as error:
        reason = os_error_reason(error)
        raise ModelError(f"model.name: {error.filename or folder} could not be read: {reason}") from error
    if known != remembered:
        _hashed_here.update(known)
        write_cache(_CACHE, known, _REMEMBERED)
    return Fingerprint(parts)


def _together(paths: Iterable[Path], known: dict[str, list[Any]]) -> str:
    """One digest of files by name and contents, whatever folder they lie in."""
    total = hashlib.sha256()
    for path in paths:
        total.update(os.fsencode(path.name) + b"\0" + _digest(path, known).encode() + b"\0")
    return total.hexdigest()


def _digest(path: Path, known: dict[str, list[Any]]) -> str:
    if path.name.endswith("config.json") and (said := _said(path)) is not None:
        return hashlib.sha256(said).hexdigest()
    name, now = os.path.realpath(path), time.time_ns()
    with open_regular(Path(name)) as file:
        state = _state(os.fstat(file.fileno()))
        if name in known and known[name][:-1] == state:
            return str(known[name][-1])
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        unchanged = _state(os.fstat(file.fileno())) == state
    known.pop(name, None)
    if unchanged and state[-1] < now - _SETTLED_NS:
        known[name] = [*state, digest]
    return digest


def _state(stat: os.stat_result) -> list[int]:
    """What is another after every change of a file's contents; the time of the last change stands last."""
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _said(path: Path) -> bytes | None:
    """What a configuration says about the model, however it is laid out; None when it is no JSON object."""
    found = model_files.read_json(path)
    return json.dumps({key: value for key, value in found.items() if key not in _SAYS_NOTHING},
                      sort_keys=True).encode() if found else None


# --- digests that are known ---


def _remembered() -> dict[str, list[Any]]:
    """By file what it was (see `_state`) and its digest, the last hashed last."""
    return {name: entry for name, entry in read_cache(_CACHE).items() if isinstance(entry, list) and len(entry) == 6
            and isinstance(entry[-1], str) and len(entry[-1]) == 64}
