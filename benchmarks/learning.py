"""What each preset teaches, how fast, and at what price: python -m benchmarks.learning [PRESET …] [--seeds 0 1 2]

Trains through the same Trainer as everything else, then compares reference and tuned on fresh seeds. `free of unseen
pairs` is the share of tuned responses in which no two words stand together that 240,000 stories of the storyteller's
grammar never put together: a measure of broken text that no reward has seen.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from rlhf_engine.config import presets
from rlhf_engine.config.fields import replace
from rlhf_engine.evaluation.compare import Comparison, compare
from rlhf_engine.events import StepFinished
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer
from storyteller_maker.seen import TABLE, load, unseen_bigrams

COMPARE_SEED = 900_001  # far from every training seed


def train(preset: str, seed: int, overrides: list[str], root: Path) -> tuple[Trainer, list[StepFinished]]:
    """Train one preset with one seed in a new run under `root`."""
    config = replace(presets.load_with_overrides(preset, overrides), {"train.seed": seed})
    steps: list[StepFinished] = []

    def keep(event: object) -> None:
        if isinstance(event, StepFinished):
            steps.append(event)

    trainer = Trainer(config, run_dir=RunDir.create(root, config, preset=preset), emit=keep)
    trainer.run()
    return trainer, steps


def measure(preset: str, seed: int, overrides: list[str], responses: int, root: Path) -> dict[str, object]:
    """Train one preset with one seed, compare, and say what changed."""
    trainer, steps = train(preset, seed, overrides, root)
    result = compare(trainer.policy, trainer.config, responses=responses, seed=COMPARE_SEED)
    assert result is not None
    known = [step.metrics["objective/kl"] for step in steps if "objective/kl" in step.metrics]
    return {
        "preset": preset,
        "seed": seed,
        "steps": len(steps),
        "seconds": round(steps[-1].seconds, 1),
        **({"peak_kl": round(max(known), 2)} if known else {}),  # what samples nothing does not know it
        **figures(result),
    }


def figures(result: Comparison) -> dict[str, float]:
    """The comparison as plain numbers, and the share of responses without unseen word pairs."""
    seen = load(TABLE)
    found = {
        f"{row.key}_{side}": round(getattr(row, side).value, 4)
        for row in result.rows
        for side in ("reference", "tuned")
    }
    for side in ("reference", "tuned"):
        clean = [not unseen_bigrams(getattr(pair, side).response, seen) for pair in result.pairs]
        found[f"free_of_unseen_{side}"] = round(sum(clean) / len(clean), 3)
    return found


def main() -> None:
    """Print one line a run."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("presets", nargs="*", default=["animals"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--responses", type=int, default=200)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for preset in args.presets:
            for seed in args.seeds:
                row = measure(preset, seed, args.set, args.responses, Path(root))
                print(json.dumps(row) if args.json else _line(row), flush=True)


def _line(row: dict[str, object]) -> str:
    def change(key: str, scale: float = 1.0, unit: str = "") -> str:
        return f"{float(str(row[key + '_reference'])) * scale:.2f}→{float(str(row[key + '_tuned'])) * scale:.2f}{unit}"

    return (
        f"{row['preset']} seed {row['seed']}: {row['steps']} steps in {row['seconds']} s · "
        f"liked {change('liked_share', 100, ' %')} · disliked {change('disliked_share', 100, ' %')} · "
        f"score {change('mean_score')} · KL {row['kl_nats_per_response_tuned']} "
        f"(peak {row.get('peak_kl', 'not known')}) · "
        f"distinct-2 {change('distinct_2')} · length {change('mean_length')} · "
        f"free of unseen pairs {change('free_of_unseen', 100, ' %')}"
    )


if __name__ == "__main__":
    main()
