"""Where a new run lies, and what it is called if nobody names it."""

from __future__ import annotations

import secrets
from pathlib import Path

from rlhf_engine.errors import RunError


def make_directory(root: Path, name: str | None) -> Path:
    """A new folder for a run under `root`, under a made-up name if None. Raises RunError for one that is taken."""
    while True:
        path = root / (name or f"{secrets.choice(_HOW)}-{secrets.choice(_WHO)}")
        if name is None and path.exists():
            path = root / f"{path.name}-{secrets.randbelow(1000)}"
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            if name is not None:
                raise RunError(f"There is already a run named {name} in {root}; choose another name.") from None
            continue
        return path


_HOW = [
    "amber", "bold", "brave", "bright", "calm", "clever", "cosy", "curious", "eager", "early", "fair", "gentle",
    "golden", "happy", "keen", "kind", "lively", "lucky", "merry", "mild", "noble", "patient", "proud", "quick",
    "quiet", "rapid", "shiny", "silver", "steady", "sunny", "swift", "tidy", "warm", "wild", "wise", "witty",
]
_WHO = [
    "badger", "bear", "beaver", "bee", "camel", "crane", "crow", "deer", "dolphin", "duck", "eagle", "falcon",
    "finch", "fox", "frog", "goose", "hare", "hawk", "hedgehog", "heron", "ibex", "koala", "lark", "lion", "lynx",
    "mole", "moose", "otter", "owl", "panda", "puffin", "rabbit", "raven", "robin", "seal", "sparrow", "squirrel",
    "stork", "swan", "tiger", "toad", "turtle", "walrus", "whale", "wolf", "wren", "yak", "zebra",
]
