"""Lists of texts kept in a file beside the settings: a line each, or JSON lines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from rlhf_engine.errors import ConfigError, short
from rlhf_engine.files.disk import os_error_reason
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.reading import read_bytes

_MOST_BYTES = 256_000_000
_MOST_LINES = 1_000_000
_JSON_LINES = (".jsonl", ".ndjson")
_FOREIGN = re.compile(r"\.(json|csv|tsv|parquet|arrow|xlsx?|ya?ml|toml|py|gz|zip|zst|safetensors|bin)$", re.IGNORECASE)
_NAMED = re.compile(r"[^\n]+\.(txt|jsonl|ndjson)", re.IGNORECASE)


def file_named(text: str, *, always: bool) -> str | None:
    """The path that a text in place of a list names: behind an @, or ending in .txt or .jsonl (and no list, with
    commas); `always`: any text does. None where it names no file.
    """
    if text.startswith("@"):
        return text[1:]
    return text if always or (_NAMED.fullmatch(text) and "," not in text) else None


def looks_like_file(text: str) -> bool:
    """True for the name of a file of texts, which among words is a mistake."""
    return _NAMED.fullmatch(text.strip()) is not None and " " not in text.strip()


def read_texts(path: str, folder: Path, key: str) -> list[str]:
    """The texts of the file at `path`, relative to `folder`, in their order.

    A line each as it stands, blank lines left out; a .jsonl file holds on each line a JSON string, or an object whose
    `key` is one, so that a text may have several lines. Raises ConfigError saying what is wrong with which line.
    """
    where = folder / path
    try:
        where = folder / Path(path).expanduser()
        if _FOREIGN.search(where.name):
            raise ConfigError(f"{where} is not a file of texts: those are plain text with one a line, or .jsonl with "
                              f'{{"{key}": "…"}} on each line')
        text = read_bytes(where, _MOST_BYTES, follow=True).decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {short(repr(str(where)), 400)}; texts themselves are written as a list: "
                          f"[{short(to_json(path, ascii_only=False))}, …]") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text (byte {error.start})") from None
    except (OSError, ValueError, RuntimeError) as error:  # a zero byte in a path; a home that is not known
        raise ConfigError(f"{short(repr(str(where)), 400)} could not be read: {os_error_reason(error)}") from None
    if text.count("\n") > _MOST_LINES:
        raise ConfigError(f"{where} has more than {_MOST_LINES:,} lines")
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise ConfigError(f"{where} holds no text: " + ("every line is blank" if text else "it is empty"))
    if where.suffix.lower() in _JSON_LINES:
        return [_json_text(line, key, f"{where}:{number}") for number, line in lines]
    return [line for _, line in lines]


def _json_text(line: str, key: str, where: str) -> str:
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where}: is not JSON") from None
    if isinstance(value, dict):
        if key not in value:
            others = short(", ".join(map(repr, value))) or "an empty object"
            raise ConfigError(f"{where}: has no {key!r}, only {others}")
        value = value[key]
        if isinstance(value, list):
            raise ConfigError(f"{where}: {key!r} is a list; chat messages become a text by their model's chat template")
    if not isinstance(value, str):
        raise ConfigError(f"{where}: is neither a text nor an object whose {key!r} is one")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: holds half a character (a lone surrogate)") from None
    return value
