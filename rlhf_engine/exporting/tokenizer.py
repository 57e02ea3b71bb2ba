"""Writes a tokenizer so that its folder says nothing about the machine that it was made on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_ABOUT_LOADING = ("is_local", "local_files_only", "name_or_path")


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """The files of a transformers tokenizer, in `folder`, without what transformers notes about where it came from.

    Raises OSError.
    """
    tokenizer.save_pretrained(folder)
    config = folder / "tokenizer_config.json"
    if config.exists():
        kept = {name: value for name, value in json.loads(config.read_text(encoding="utf-8")).items()
                if name not in _ABOUT_LOADING}
        config.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
