"""Which loops of human feedback there are, and to which a run belongs. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RlhfError
from rlhf_engine.labels.label_file import LABELS_ROOT
from rlhf_engine.runs.pipeline_dir import PIPELINES, PipelineDir
from rlhf_engine.runs.reward_models import folder_named
from rlhf_engine.runs.run_dir import RunDir


@dataclass(frozen=True)
class Loop:
    """Which loop. labels: its label file, which need not be there yet; pipeline: the one that it belongs to, if any."""

    labels: Path
    pipeline: PipelineDir | None = None


def loops(root: Path, usual: Path) -> list[Loop]:
    """The loops beside the folder of runs `root`, those of pipelines and of label files, the last changed first;
    `usual`, the label file that a person would judge into, is always among them."""
    found: dict[Path, tuple[float, Loop]] = {}
    for folder in _entries(root / PIPELINES):
        pipeline = PipelineDir(folder)
        if pipeline.begun:
            changed = max(_changed(folder), _changed(pipeline.labels))
            found[pipeline.labels.resolve()] = changed, Loop(pipeline.labels, pipeline)
    for path in [*_entries(root.parent / LABELS_ROOT), usual]:
        if path.suffix == ".jsonl":
            found.setdefault(path.resolve(), (_changed(path), Loop(path)))
    return [loop for _, loop in sorted(found.values(), key=lambda pair: -pair[0])]


def last_worked_on(found: Sequence[Loop], runs: Iterable[tuple[float, RunConfig]]) -> Loop:
    """Of loops, in the order of `loops`, the one at which somebody judged or a run trained last. runs: when each
    changed last, in seconds since the epoch, and its settings; the newest first."""
    for changed, config in runs:
        labels = labels_of(config)
        of_run = [loop for loop in found if labels is not None and loop.labels.resolve() == labels.resolve()]
        if of_run:
            return of_run[0] if changed > _changed(found[0].labels) else found[0]
    return found[0]


def labels_of(config: RunConfig) -> Path | None:
    """What a run of these settings learns from, itself or by its reward model; None where that is no pairs."""
    if config.algorithm.needs.batch == "pairs":
        return Path(config.data.source) if config.data.source is not None else None
    for reward in config.rewards:
        if isinstance(reward, PreferenceRewardConfig) and (folder := folder_named(reward.model)) is not None:
            with suppress(RlhfError):  # an exported folder, say, which does not tell
                return labels_of(RunDir.open(folder).config())
    return None


def own_labels_of(config: RunConfig, root: Path) -> Path | None:
    """The label file of the loop that a run of these settings belongs to, where it lies among a person's own beside
    the folder of runs `root`: what is judged of the run's answers goes there too. None where it does not; data sets,
    and the labels of a pipeline, are not added to unasked."""
    found = labels_of(config)
    own = root.parent / LABELS_ROOT
    return own / found.name if found is not None and found.resolve().parent == own.resolve() else None


# ---------------------------------------------------------------------------------------------------------------------


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
