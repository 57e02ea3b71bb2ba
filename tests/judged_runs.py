"""Runs whose score goes on rising while a gold score comes down, by a curve that is known."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rlhf_engine.config import fields
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir

ALPHA, BETA = 2.0, 1.5
PEAK = math.exp(ALPHA / BETA - 1)  # of √KL: 1.3956


def with_gold(config: RunConfig, *, gold: bool = True) -> RunConfig:
    """The config, learning from a length; with a word list that is gold."""
    tables: list[dict[str, object]] = [{"kind": "length", "name": "proxy", "min_words": 3}]
    if gold:
        tables.append({"kind": "word_list", "name": "gold", "weight": 0.0, "liked": ["fox", "e"]})
    return fields.validate(config.model_dump() | {"rewards": tables})


def judged_metrics(step: int, steps: int) -> dict[str, float]:
    """√KL from 0 to 3 in even steps."""
    d = 3.0 * (step - 1) / (steps - 1)
    gold = d * (ALPHA - BETA * math.log(d)) if d else 0.0
    return {"objective/kl": d * d, "objective/scores": 1.0 + d, "objective/scores_std": 1.0,
            "rewards/gold/mean": gold, "rewards/gold/std": 1.0, "completions/score_length_corr": 0.5}


def judged_run(root: Path, config: RunConfig, name: str, *, steps: int = 31, checkpoints: tuple[int, ...] = (10, 20)
               ) -> RunDir:
    """A run that has stopped, as a trainer leaves it; its checkpoints hold only settings."""
    run = RunDir.create(root, config, name=name, preset="animals")
    for step in range(1, steps + 1):
        run.append_metrics(step, step / 2, judged_metrics(step, steps))
    for step in checkpoints:
        folder = run.checkpoints / f"step-{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"config": config.model_dump()}))
    with run.lock():
        run.write_status(RunState.STOPPED, steps, config.train.steps, f"stopped after step {steps}")
    return run
