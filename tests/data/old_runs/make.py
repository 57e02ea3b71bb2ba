"""Make the runs and presets that later versions must still open, with whatever version of the engine is imported.

    PYTHONPATH=/path/to/that/version python tests/data/old_runs/make.py NAME

It is told through the command line, which every version has: a few steps of a tiny random model, on one thread. The
folder NAME beside this file then holds three presets, four runs, each with its newest checkpoint, and `expected.json`:
the metrics of the two steps that a resume adds to each. Paths in them begin with @HERE@, in whose place a test puts a
folder of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PLACE = "@HERE@"
ENGINE = [sys.executable, "-m", "rlhf_engine"]
COMMON = """
prompts = ["Once upon a time", "One day,", "The fox", "In a small village"]
[model]
name = "@HERE@/model"
device = "cpu"
[lora]
rank = 2
alpha = 4.0
[sampling]
max_new_tokens = 12
[optimizer]
actor_lr = 1e-3
[train]
steps = 4
seed = 3
threads = 1
checkpoint_every = 2
traced_samples = 2
samples_per_step = 3
"""
LETTERS = """
[[rewards]]
kind = "word_list"
name = "letters"
liked = ["a", "e"]
disliked = ["o"]
"""
PRESETS = {
    "token": COMMON + """
[ppo]
responses_per_step = 4
minibatch_size = 2
[kl]
coef = 0.2
controller = "adaptive"
target = 3.0
[probe]
every = 2
""" + LETTERS,
    "sequence": COMMON + """
[ppo]
level = "sequence"
responses_per_step = 4
minibatch_size = 4
value_clip_range = "none"
""" + LETTERS,
    "function": COMMON + """
[ppo]
responses_per_step = 4
minibatch_size = 4
[[rewards]]
kind = "function"
name = "vowels"
function = "@HERE@/vowels.py:score"
weight = 0.5
[[rewards]]
kind = "length"
name = "length"
""",
}


def main(target: Path) -> None:
    """Writes `target`: presets, runs and expected metrics; and the model beside it, if there is none."""
    with tempfile.TemporaryDirectory() as made:
        here = Path(made).resolve()
        os.environ["XDG_CONFIG_HOME"] = str(here / "config")
        if not (HERE / "model").exists():
            sys.path.insert(0, str(HERE.parents[1]))
            from tiny_models import save_tiny_model

            save_tiny_model(HERE / "model", "gpt_neo")
        shutil.copytree(HERE / "model", here / "model")
        shutil.copy(HERE / "vowels.py", here)
        for name, text in PRESETS.items():
            (here / f"{name}.toml").write_text(text.replace(PLACE, str(here)), encoding="utf-8")
        # versions from before code was trusted have no such command
        subprocess.run([*ENGINE, "trust", "vowels.py"], cwd=here, check=False, capture_output=True)
        train(here)
        runs, expected = here / "runs", here / "resumed"
        shutil.copytree(runs, expected)
        metrics = {path.name: resumed(here, path) for path in sorted(expected.iterdir())}
        target.mkdir()
        (target / "expected.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
        for name, text in PRESETS.items():
            (target / f"{name}.toml").write_text(text, encoding="utf-8")
        for run in runs.iterdir():
            keep(run, target / "kept" / run.name, str(here))  # git ignores folders named runs


def train(here: Path) -> None:
    """One run of each preset, one of them resumed with another KL coefficient, and a fork."""
    command(here, "train", "token.toml", "--name", "token")
    command(here, "resume", "token", "--set", "kl.coef=0.4", "--set", "train.steps=6")
    command(here, "train", "sequence.toml", "--name", "sequence")
    command(here, "train", "function.toml", "--name", "function")
    command(here, "fork", "token@4", "--set", "optimizer.actor_lr=5e-4", "--set", "train.steps=7", "--name", "fork")
    command(here, "note", "fork", "half the learning rate")


def resumed(here: Path, run: Path) -> list[dict[str, Any]]:
    """What the two steps measured that a resume adds; without what a clock or the machine tells."""
    before = lines(run)
    command(here, "resume", str(run), "--set", f"train.steps={len(before) + 2}")
    return [{"step": line["step"], "metrics": {
        name: value for name, value in line["metrics"].items()
        if not name.startswith(("time/", "throughput/", "memory/"))}} for line in lines(run)[len(before):]]


def keep(run: Path, target: Path, here: str) -> None:
    """A copy of the run with its newest checkpoint and movable paths."""
    target.mkdir(parents=True)
    newest = max((run / "checkpoints").iterdir(), key=lambda path: path.name)
    for file in [*(path for path in run.iterdir() if path.is_file()), *newest.iterdir()]:
        if file.name in ("run.lock", "output.log") or file.name.startswith("."):
            continue
        (target / file.relative_to(run)).parent.mkdir(parents=True, exist_ok=True)
        (target / file.relative_to(run)).write_bytes(file.read_bytes().replace(here.encode(), PLACE.encode()) if
                                                     file.suffix != ".safetensors" else file.read_bytes())


def lines(run: Path) -> list[dict[str, Any]]:
    """The rows of the run's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def command(folder: Path, *arguments: str) -> None:
    """One command of the version that is imported."""
    subprocess.run([*ENGINE, *arguments, "--runs-dir", "runs"], cwd=folder, check=True)


if __name__ == "__main__":
    main(HERE / sys.argv[1])
