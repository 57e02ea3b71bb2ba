"""What the label screen begins with: where judgements are kept, whose they are, how many, of which pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlhf_engine.labels.judgement import own_name
from rlhf_engine.labels.label_file import LABELS_ROOT, label_path
from rlhf_engine.labels.pair import AskedFor
from rlhf_engine.labels.repeats import REPEAT_EVERY
from rlhf_engine.requests import Side
from rlhf_tui.areas.label.options import LONGEST_NAME
from rlhf_tui.terminal.clean_text import clean_line

WANTED = 100


@dataclass(frozen=True)
class LabelStart:
    """rater: "" for whoever the preferences, or the system, name. wanted: pairs in the file, or `more` than are there.
    sides: None for those that suit the moment. responses, accept_base, moves: see `SamplePairs`. repeat_every: one in
    so many pairs comes back; 0: none does."""

    path: Path
    wanted: int = WANTED
    more: int | None = None
    rater: str = ""
    sides: tuple[Side, Side] | None = None
    ask: AskedFor = "random"
    responses: int = 4
    seed: int = 0
    repeat_every: int = REPEAT_EVERY
    accept_base: bool = False
    moves: Mapping[str, Any] = field(default_factory=dict)


def usual_path(preset: str, run: str, runs_root: Path) -> Path:
    """Where judgements of a preset's answers are kept, or of a run's that has none: beside the folder of runs."""
    name = Path(preset).stem if preset.endswith(".toml") else preset or run
    return label_path(name or "labels", runs_root.parent / LABELS_ROOT)


def usual_rater(preferred: str) -> str:
    """The name that was given once, or that of the user of this system."""
    return preferred or clean_line(own_name())[:LONGEST_NAME].strip() or "me"
