"""What training makes of its KL: python -m benchmarks.frontier [--models storyteller PATH …] [--set KEY=VALUE …]

Trains, then holds the model against best-of-n of its own reference at equal KL: the share of that gain is what methods
and settings can be held against each other by, for more KL alone brings more score. One line of JSON a run, then a
table in Markdown. `--pool` bounds the responses of the reference; more KL takes more of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.learning import COMPARE_SEED, figures, train
from benchmarks.targets import spread
from rlhf_engine.evaluation.compare import compare

POOL = 8192
"""More than the comparison draws by itself: nobody waits for it."""


def measure(preset: str, model: str, seed: int, overrides: list[str], responses: int, pool: int,
            root: Path) -> dict[str, Any]:
    """One run, as a line of the log."""
    trainer, steps = train(preset, seed, [f"model.name={model}", *overrides], root)
    result = compare(trainer.policy, trainer.config, responses=responses, seed=COMPARE_SEED, pool=pool)
    assert result is not None
    assert result.frontier is not None
    standing = result.frontier.standings[1]
    return {
        "model": model, "preset": preset, "settings": overrides, "method": trainer.config.algorithm.kind, "seed": seed,
        "steps": len(steps), "pool": [result.frontier.responses, result.frontier.prompts],
        "best_of_n": asdict(standing) if standing else None, "said": result.frontier.sentences(), **figures(result),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Means over seeds, with standard deviations; `-` where a run's share cannot be told."""
    heads = ["model", "preset", "method", "settings", "score, reference → tuned", "KL", "as good as best-of-n, n =",
             "n at its KL", "share of its gain", "95 % CI of a run, ±", "pool", "distinct-2", "free of unseen pairs"]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    kinds = {(row["model"], row["preset"], row["method"], tuple(row["settings"])): None for row in rows}
    for model, preset, method, settings in kinds:
        runs = [row for row in rows if (row["model"], row["preset"], row["method"], tuple(row["settings"]))
                == (model, preset, method, settings)]
        best = [run["best_of_n"] or {} for run in runs]
        shares = [found["share"] for found in best if found.get("share")]

        def mean(key: str, runs: list[dict[str, Any]] = runs) -> float:
            return statistics.fmean(run[key] for run in runs)

        told = len(shares) == len(runs)  # a mean over those that can be told would be one of the best behaved
        per_cent = spread([100 * share["value"] for share in shares], 0) if told else "-"
        reach = statistics.fmean(50 * (share["high"] - share["low"]) for share in shares) if told else 0.0
        pools = " ".join(dict.fromkeys(f"{each} × {prompts}" for each, prompts in (run["pool"] for run in runs)))
        cells = [Path(model).name, preset, method, " ".join(settings),
                 f"{mean('mean_score_reference'):.2f} → {spread([run['mean_score_tuned'] for run in runs])}",
                 spread([run["kl_nats_per_response_tuned"] for run in runs]),
                 *(_range([found.get(key) for found in best]) for key in ("n", "n_at_kl")),
                 f"{per_cent} %" if told else per_cent, f"{reach:.0f}" if told else "-", pools,
                 f"{mean('distinct_2_tuned'):.2f}", f"{100 * mean('free_of_unseen_tuned'):.0f} %"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _range(values: list[float | None]) -> str:
    found = [value for value in values if value is not None]
    if len(found) < len(values):
        return "-"
    low, high = min(found), max(found)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def main() -> None:
    """Print one line of JSON a run, then the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--models", nargs="+", default=["storyteller"])
    parser.add_argument("--preset", nargs="+", default=["animals"], metavar="PRESET")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--responses", type=int, default=200)
    parser.add_argument("--pool", type=int, default=POOL, help="most responses of the reference, in all")
    parser.add_argument("--table", type=Path, nargs="+", metavar="LOG", help="the table of earlier logs, nothing more")
    args = parser.parse_args()
    if args.table:
        logged = [line for log in args.table for line in log.read_text().splitlines() if line.startswith("{")]
        print(table([json.loads(line) for line in logged]))
        return
    rows = []
    with tempfile.TemporaryDirectory() as root:
        for model in args.models:
            for preset in args.preset:
                for seed in args.seeds:
                    rows.append(measure(preset, model, seed, args.set, args.responses, args.pool, Path(root)))
                    print(json.dumps(rows[-1]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
