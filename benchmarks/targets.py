"""Which modules are worth adapters: python -m benchmarks.targets [--models storyteller PATH …] [--seeds 0 1 2]

Each model is trained with adapters on the attention projections alone and on all linear modules, all else equal. More
modules move the model faster, so scores are held against each other where the KL to the reference is equal: along each
run, score is fitted as s0 + a·d + b·d² of d = √KL (the form of Gao et al. 2022, "Scaling laws for reward model
overoptimization"), and read off at a few KLs that every run has passed. Beside that stand the scores of fresh responses
at the end of each run, where KLs differ. A table in Markdown is printed when all is measured.

A second story model, of another architecture: python -m benchmarks.targets --make build/llama --minutes 7
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning import COMPARE_SEED, figures, train
from rlhf_engine.evaluation.compare import compare

TARGETS = {"attention": "[]", "all-linear": '["all-linear"]'}
STORIES, VOCABULARY = 20_000, 512
"""What the second model's tokenizer is made from, and its size: a byte-level BPE."""
KLS = (1.0, 2.0, 3.0)
"""Nats per response that scores are read off at."""


def score_at(kl: Sequence[float], scores: Sequence[float], wanted: float) -> float:
    """The score that a run had at that KL, by the fit described above; NaN if it never came so far."""
    if wanted > max(kl):
        return float("nan")
    roots = np.sqrt(np.maximum(kl, 0.0))
    return float(np.polyval(np.polyfit(roots, scores, 2), wanted**0.5))


def measure(preset: str, model: str, target: str, seed: int, overrides: list[str], responses: int,
            root: Path) -> dict[str, Any]:
    """One run, as a line of the log."""
    settings = [f"model.name={model}", f"lora.target_modules={TARGETS[target]}", "train.threads=1", *overrides]
    trainer, steps = train(preset, seed, settings, root)
    assert trainer.policy is not None
    result = compare(trainer.policy, trainer.config, responses=responses, seed=COMPARE_SEED)
    assert result is not None
    curves = {name: [step.metrics[key] for step in steps]
              for name, key in (("kl", "objective/kl"), ("scores", "objective/scores"))}
    return {
        "model": model, "target": target, "seed": seed, "rank": trainer.config.lora.rank,
        "actor_parameters": sum(p.numel() for p in trainer.policy.adapters["actor"].values()),
        # the fastest: the others waited for something else on the machine
        "step_seconds": min(
            sum(step.metrics[f"time/{part}"] for part in ("rollout", "score", "update")) for step in steps
        ),
        **curves, **figures(result),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with the standard deviation of scores."""
    heads = ["model", "adapters on", "actor parameters", "s / step", *(f"score at {kl:g} nats" for kl in KLS),
             "at the end: score", "KL", "distinct-2", "free of unseen pairs"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for model, target in dict.fromkeys((row["model"], row["target"]) for row in rows):
        runs = [row for row in rows if (row["model"], row["target"]) == (model, target)]

        def mean(key: str, runs: list[dict[str, Any]] = runs) -> float:
            return statistics.fmean(run[key] for run in runs)

        seconds = min(run["step_seconds"] for run in runs)
        cells = [Path(model).name, target, f"{runs[0]['actor_parameters']:,}", f"{seconds:.2f}"]
        cells += [spread([score_at(run["kl"], run["scores"], kl) for run in runs]) for kl in KLS]
        cells += [spread([run["mean_score_tuned"] for run in runs]), f"{mean('kl_nats_per_response_tuned'):.1f}",
                  f"{mean('distinct_2_tuned'):.2f}", f"{100 * mean('free_of_unseen_tuned'):.0f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread(values: list[float], digits: int = 2) -> str:
    """Their mean, and standard deviation if there are several."""
    mean = f"{statistics.fmean(values):.{digits}f}"  # NaN where a run never came so far
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def make_second_model(folder: Path, minutes: float) -> None:
    """Pre-train a small Llama on the storyteller's grammar, its words in pieces, into folder/latest; one thread."""
    from storyteller_maker import pretrain
    from storyteller_maker.grammar import stories
    from storyteller_maker.tokenizer import build_pieces

    folder.mkdir(parents=True, exist_ok=True)
    plan = pretrain.Plan(minutes=minutes, compiled=False, architecture="llama")
    pretrain.train(plan, build_pieces(stories(STORIES, seed=11), VOCABULARY), folder)


def main() -> None:
    """Print one line of JSON a run, then the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--models", nargs="+", default=["storyteller"])
    parser.add_argument("--preset", default="animals")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--responses", type=int, default=200)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="make the second model there, and measure nothing")
    parser.add_argument("--minutes", type=float, default=7.0, help="how long to make it")
    parser.add_argument("--table", type=Path, metavar="LOG", help="the table of an earlier log, nothing more")
    args = parser.parse_args()
    if args.table:
        print(table([json.loads(line) for line in args.table.read_text().splitlines() if line.startswith("{")]))
        return
    if args.make:
        make_second_model(args.make, args.minutes)
        return
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for model in args.models:
            for seed in args.seeds:
                for target in TARGETS:
                    rows.append(measure(args.preset, model, target, seed, args.set, args.responses, Path(root)))
                    print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
