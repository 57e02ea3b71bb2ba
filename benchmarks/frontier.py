"""What training makes of its KL, of sweeps side by side: python -m benchmarks.frontier SWEEP … [--runs-dir runs]

`rlhf-tui sweep` trains, and holds every run against best-of-n of its own reference at equal KL: the share of that gain
is what methods and settings can be held against each other by, for more KL alone brings more score. This reads what
sweeps came to, and prints one table in Markdown, with the share of words that the reward likes, and of responses that
are free of unseen pairs of words.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_engine.evaluation.compare import words_in_spans
from rlhf_engine.events import Sample
from rlhf_engine.maths.statistics import mean_interval
from rlhf_engine.runs.sweep_dir import SweepDir
from rlhf_engine.words import words_of
from storyteller_maker.seen import TABLE, load, unseen_bigrams

HEADS = ["preset", "model", "", "runs", "score", "of best-of-n's gain, %", "KL", "liked words, %", "distinct-2",
         "free of unseen pairs, %", "seconds", "peak memory, MB", "responses"]


def rows(sweep: SweepDir) -> list[list[str]]:
    """A row for each combination of values of one sweep."""
    seen, plan, result = load(TABLE), sweep.plan(), sweep.result()
    names = {run["run"]: cell.run for run, cell in zip(result["runs"], plan.cells, strict=True)}
    found = []
    for point in result["points"]:
        measures = point["measures"]
        runs = [run for run in result["runs"] if run["values"] == point["values"] and run["state"] == "finished"]
        free, liked = [], []
        for run in runs:
            _, samples = sweep.measured(names[run["run"]])
            liked.append(100 * liked_share(samples))
            free.append(100 * sum(not unseen_bigrams(sample.response, seen) for sample in samples) / len(samples))
        model = point.get("model") or result["models"][0]["model"]
        values = ", ".join(f"{path.rpartition('.')[2]} {value}" for path, value in point["values"].items()
                           if path != "model.name")
        of_free, of_liked = (mean_interval(values) if values else None for values in (free, liked))
        found.append([Path(plan.preset).stem, Path(model).name, values, f"{point['measured']} of {point['runs']}",
                      shown(measures.get("score"), 2), shown(measures.get("share"), 0, 100),
                      shown(measures.get("kl"), 2), shown(None if of_liked is None else vars(of_liked), 1),
                      shown(measures.get("distinct_2"), 2),
                      shown(None if of_free is None else vars(of_free), 0),
                      shown(measures.get("seconds"), 0), shown(measures.get("peak_memory"), 0, 1e-6),
                      shown(measures.get("responses"), 0)])
    return found


def liked_share(samples: Sequence[Sample]) -> float:
    """The share of all words that a reward likes."""
    words = sum(len(words_of(sample.response)) for sample in samples)
    return sum(words_in_spans(sample, "liked") for sample in samples) / max(1, words)


def shown(estimate: Mapping[str, Any] | None, digits: int, scale: float = 1.0) -> str:
    """A mean over seeds with half of its interval, where it has one."""
    if not estimate:
        return "-"
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    wide = low is None or high is None or abs(low) == float("inf")
    reach = "" if wide or high == low else f" ± {scale * (high - low) / 2:.{digits}f}"
    return f"{scale * value:.{digits}f}{reach}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("sweeps", nargs="+", metavar="SWEEP", help="names of sweeps that have ended")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"))
    args = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |\n| " + " | ".join("---" for _ in HEADS) + " |")
    for name in args.sweeps:
        sweep = SweepDir.find(args.runs_dir, name)
        if sweep is None or not sweep.result():
            raise SystemExit(f"{args.runs_dir} has no sweep {name} that was measured")
        for row in rows(sweep):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
