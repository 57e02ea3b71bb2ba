"""A loop of human feedback on the disk: judged pairs, reward models and policies, without having trained any."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from rlhf_engine.config import presets
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_engine.labels.judgement import Judgement, Verdict
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_engine.pipelining.stages import rewarded_by
from rlhf_engine.runs.run_dir import RunDir

REFERENCE = Origin("reference", "storyteller")


def judgement(
    place: int, rater: str = "ann", verdict: Verdict = "first", *, first: Origin = REFERENCE,
    second: Origin = REFERENCE, time: str = "2026-11-26T08:00:00.000Z", repeat: int = 0,
) -> Judgement:
    """What a person said of the pair of that place."""
    pair = Pair("Once", Answer(f" a fox {place}", True, first), Answer(f" an owl {place}", True, second))
    return Judgement(pair, rater, verdict, bool(repeat % 2), repeat, time, 1.0)


def write_labels(path: Path, judgements: Sequence[Judgement]) -> Path:
    """Adds them to a label file."""
    with LabelFile.open(path, rater="ann") as file:
        for found in judgements:
            file.add(found)
    return path


def write_run(
    root: Path, config: RunConfig, name: str, metrics: Sequence[Mapping[str, float]],
    state: RunState = RunState.FINISHED, *, started: str = "2026-11-26T09:30:00+00:00",
) -> RunDir:
    """A run of so many steps, of which a process said that state last."""
    run = RunDir.create(root, config, name=name)
    about = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(about | {"started": started}))
    for step, line in enumerate(metrics, 1):
        run.append_metrics(step, float(step), line)
    with run.lock():
        run.write_status(state, len(metrics), max(len(metrics), config.train.steps), f"{state.value}")
    return run


def held_out(accuracy: float, loss: float, width: float = 0.1) -> dict[str, float]:
    """Metrics of a step of a reward model."""
    return {"loss": 0.6, "eval/accuracy": accuracy, "eval/accuracy_low": accuracy - width,
            "eval/accuracy_high": accuracy + width, "eval/loss": loss, "eval/calibration_error": 0.04}


def reward_model_config(labels: Path, steps: int = 3) -> RunConfig:
    """That of preset human-feedback-reward, learning from these labels."""
    return presets.load_with_overrides("human-feedback-reward", [f"data.source={labels}", f"train.steps={steps}"])


def policy_config(reward_model: Path, steps: int = 2) -> RunConfig:
    """That of preset human-feedback, with a word list as gold."""
    gold = ["train.steps=" + str(steps)]
    config = rewarded_by(presets.load_with_overrides("human-feedback", gold), reward_model)
    hidden = presets.load("animals").rewards[0].model_copy(update={"name": "hidden", "weight": 0.0})
    return config.model_copy(update={"rewards": [*config.rewards, hidden]})


POLICY_METRICS = [
    {"objective/scores": 0.1, "objective/kl": 0.0, "rewards/hidden/mean": -2.1},
    {"objective/scores": 1.25, "objective/kl": 2.54, "rewards/hidden/mean": 0.4},
]
