"""What the label screen begins with: where judgements are kept, whose they are, how many, of which pairs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.labels.label_file import LABELS_ROOT, label_path
from rlhf_engine.labels.pair import AskedFor
from rlhf_engine.requests import Side
from rlhf_tui.areas.label.options import LONGEST_NAME
from rlhf_tui.terminal.clean_text import clean_line

WANTED = 100


@dataclass(frozen=True)
class LabelStart:
    """rater: "" for whoever the preferences, or the system, name. sides: None for those that suit the moment."""

    path: Path
    wanted: int = WANTED
    rater: str = ""
    sides: tuple[Side, Side] | None = None
    ask: AskedFor = "random"


def usual_path(preset: str, run: str, runs_root: Path) -> Path:
    """Where judgements of a preset's answers are kept, or of a run's that has none: beside the folder of runs."""
    name = Path(preset).stem if preset.endswith(".toml") else preset or run
    return label_path(name or "labels", runs_root.parent / LABELS_ROOT)


def usual_rater(preferred: str) -> str:
    """The name that was given once, or that of the user of this system."""
    return preferred or clean_line(os.environ.get("USER", ""))[:LONGEST_NAME].strip() or "me"
