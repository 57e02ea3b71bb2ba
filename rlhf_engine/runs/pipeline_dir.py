"""A pipeline on disk: labels, reward models and policies that follow from one another. Nothing here imports torch.

    <runs>/.pipelines/<name>/
        pipeline.json        what it does; replaced atomically
        pipeline.lock        flock: who holds it drives the pipeline
        labels.jsonl         the judgements of all rounds
        policy-<round>.toml  the preset that the policy of that round is trained by
        logs/<stage>.log     what the process of that stage printed
        measured-<round>.json  what the round came to

The runs are ordinary ones beside it, <name>-reward-<round> and <name>-policy-<round>.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlhf_engine.errors import ConfigError, RunError, first_line
from rlhf_engine.files.disk import NAME, NAME_RULE, replace_text, writing
from rlhf_engine.files.json_text import to_json
from rlhf_engine.files.own_files import make_folder
from rlhf_engine.runs.driven_folder import DrivenFolder
from rlhf_engine.runs.run_lines import read_object

PIPELINES = ".pipelines"
FORMAT = 1
_ABOUT, _LABELS = "pipeline.json", "labels.jsonl"


@dataclass(frozen=True)
class PipelinePlan:
    """What a pipeline does. preset: of the policy; reward_preset: of the reward model; settings: of the policy's
    preset, as `--set` takes them. rater: a preset whose rewards judge in a person's place, "" for a person; error,
    temperature: its own. labels: judgements in each round. responses: fresh ones that each round is measured by."""

    preset: str
    reward_preset: str
    settings: tuple[str, ...]
    rater: str
    error: float
    temperature: float
    labels: int
    rounds: int
    responses: int
    seed: int
    started: str = ""


class PipelineDir:
    """One pipeline's folder."""

    def __init__(self, path: Path) -> None:
        self.path, self.driven = path, DrivenFolder(path, "pipeline")

    @classmethod
    def named(cls, root: Path, name: str) -> PipelineDir:
        """The pipeline of that name, which need not be there. Raises RunError for a name that is not allowed."""
        if not NAME.fullmatch(name):
            raise RunError(f"The pipeline name {name!r} is not allowed: {NAME_RULE}.")
        return cls(root / PIPELINES / name)

    @classmethod
    def begin(cls, root: Path, name: str, plan: PipelinePlan) -> PipelineDir:
        """The pipeline of that name, made now or gone on with. Raises ConfigError for one that does something else, of
        which only the rounds may grow once there is anything of it, and RunError for a name that is not allowed."""
        found = cls.named(root, name)
        if found.begun and not found.bare:
            before = found.plan()
            for item in fields(plan):
                old, new = getattr(before, item.name), getattr(plan, item.name)
                if item.name not in ("started", "rounds") and old != new:
                    raise ConfigError(f"the pipeline {name} is there already, with {item.name} {_shown(old)} and not "
                                      f"{_shown(new)}; give this one another --name")
            plan = replace(plan, started=before.started, rounds=max(plan.rounds, before.rounds))
        else:
            plan = replace(plan, started=datetime.now(UTC).isoformat(timespec="seconds"))
        with writing(found.path / _ABOUT):
            make_folder(root, 0o755)
            make_folder(found.path)
            replace_text(found.path / _ABOUT, to_json({"format": FORMAT, **asdict(plan)}) + "\n")
        return found

    @property
    def name(self) -> str:
        """What it is called."""
        return self.path.name

    @property
    def root(self) -> Path:
        """Where its runs lie."""
        return self.path.parent.parent

    @property
    def begun(self) -> bool:
        """Whether there is one."""
        return os.path.lexists(self.path / _ABOUT)

    @property
    def bare(self) -> bool:
        """Whether nothing has come of it and nobody is at it, so that it can still become another: one that was
        mistyped, say, and failed at its first stage."""
        made = [self.labels, *(self.root / self.run_name(stage) for stage in ("reward-1", "policy-1"))]
        return not (any(map(os.path.lexists, made)) or self.driven.driver() or self.driven.running("labels-1"))

    def run_name(self, stage: str) -> str:
        """What the run of a stage is called, "reward-1" or "policy-1"."""
        return f"{self.name}-{stage}"

    @property
    def labels(self) -> Path:
        """The label file."""
        return self.path / _LABELS

    def plan(self) -> PipelinePlan:
        """What it does. Raises RunError where that cannot be read."""
        told = read_object(self.path / _ABOUT)
        try:
            if told.pop("format") != FORMAT:
                raise ValueError("no format that this version knows")
            return PipelinePlan(**{**told, "settings": tuple(told["settings"])})
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{self.path / _ABOUT} cannot be read: {first_line(error)}.") from None

    def preset_of(self, round_: int) -> Path:
        """The preset that the policy of a round is trained by."""
        return self.path / f"policy-{round_}.toml"

    def write_preset(self, round_: int, text: str) -> None:
        """Keeps it. Raises RunError."""
        with writing(self.preset_of(round_)):
            replace_text(self.preset_of(round_), text)

    def write_measured(self, round_: int, result: Mapping[str, Any]) -> None:
        """Keeps what a round came to. Raises RunError."""
        path = self.path / f"measured-{round_}.json"
        with writing(path):
            replace_text(path, to_json(result) + "\n")

    def measured(self, round_: int) -> dict[str, Any]:
        """What a round came to; empty before it was measured."""
        path = self.path / f"measured-{round_}.json"
        return read_object(path) if os.path.lexists(path) else {}


def _shown(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value) or "none"
