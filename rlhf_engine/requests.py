"""What other threads ask of an engine thread, to be done between two steps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Edit:
    """Change the setting at `path` to `value`."""

    path: str
    value: Any


@dataclass(frozen=True)
class GenerateRequest:
    """Continue `prompt`, by the tuned actor or by the reference, and score the response."""

    request_id: int
    prompt: str
    tuned: bool
    temperature: float
    max_new_tokens: int
    seed: int


@dataclass(frozen=True)
class Side:
    """Who answers in a comparison: the reference, the tuned model as it stands, or a checkpoint of the run in `run`
    (of `step`, or the newest if None)."""

    kind: Literal["reference", "tuned", "checkpoint"]
    run: Path | None = None
    step: int | None = None


REFERENCE, TUNED = Side("reference"), Side("tuned")


@dataclass(frozen=True)
class CompareRequest:
    """Sample `responses` pairs of two sides from the same seeds and compare them.

    Prompts, sampling and rewards are those of the workbench's run; of the first side's run, if both are checkpoints.
    """

    request_id: int
    responses: int
    seed: int
    first: Side = REFERENCE
    second: Side = TUNED

    @property
    def of_checkpoints(self) -> bool:
        """True when it takes no model but what is on the disk."""
        return self.first.kind == self.second.kind == "checkpoint"


Request = Edit | GenerateRequest | CompareRequest
