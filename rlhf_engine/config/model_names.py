"""What the name of a model may mean, without a look at any file."""

from __future__ import annotations

import os
from pathlib import Path

STORYTELLER = "storyteller"


def folder_of(name: str) -> Path:
    """What `name` means if it is that of a folder, whether or not there is one."""
    return Path(os.path.expanduser(name))
