"""What two stages teach, shown how and then by trying: python -m benchmarks.recipe [--seeds 0 1 2]

Stage one is the preset `sft-sorting`, stage two a fork of it to `sorting`, as their commands are; `by trying alone`
is `sorting` without stage one. What is measured is the share of right answers to problems that stand in no file, so
that neither training nor a choice of settings has seen them: each is answered several times at the temperature of
training, by the base model and after each stage. Intervals are of 95 %, over problems. Seconds are of the processor:
those of all cores together.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.sorting import SOLVED, UNSOLVED, rows
from rlhf_engine.config import presets
from rlhf_engine.config.fields import replace
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.evaluation.generate import answer
from rlhf_engine.maths.statistics import Estimate, mean_interval
from rlhf_engine.models.policy import Policy
from rlhf_engine.rewards.build import build_rewards
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.fork import fork
from rlhf_engine.training.trainer import Trainer

MEASURE_SEED = 900_001  # far from every training seed
SHOWN, TRIED = "sft-sorting", "sorting"
FRESH = 200  # problems to measure with


def right_answers(policy: Policy, config: RunConfig, *, tuned: bool, tries: int) -> Estimate:
    """The share of right answers to fresh problems by the rewards of `config`, `tries` answers each."""
    fresh, rewards = rows(SOLVED + UNSOLVED, FRESH), build_rewards(config.rewards)
    prompts, columns = [row["prompt"] for row in fresh], {"answer": [row["answer"] for row in fresh]}
    scores: list[list[float]] = [[] for _ in fresh]
    for number in range(tries):
        samples = answer(policy, prompts, config.sampling, tuned=tuned, seed=MEASURE_SEED + number,
                         rewards=rewards, columns=columns)
        for known, sample in zip(scores, samples, strict=True):
            known.append(float(any(span.kind == "right" for span in sample.spans)))
    return mean_interval([fmean(known) for known in scores])


def stages(seed: int, root: Path, overrides: list[str]) -> Iterator[tuple[str, RunDir, Callable[[], Trainer]]]:
    """The name, the run, and what trains it, of each stage in turn."""
    shown, tried = (replace(presets.load(name), {"train.seed": seed}) for name in (SHOWN, TRIED))
    tried = replace(tried, presets.parse_overrides(tried, overrides))
    first = RunDir.create(root, shown, name=f"shown-{seed}", preset=SHOWN)
    yield "after SFT", first, lambda: Trainer(first.config(), run_dir=first, emit=lambda event: None)
    second = fork(first, changes={}, root=root, name=f"tried-{seed}", preset=(TRIED, tried))
    yield "after SFT and RL", second, lambda: Trainer.resume(second, emit=lambda event: None, new=True)
    alone = RunDir.create(root, tried, name=f"alone-{seed}", preset=TRIED)
    yield "RL alone", alone, lambda: Trainer(alone.config(), run_dir=alone, emit=lambda event: None)


def measure(seed: int, root: Path, tries: int, overrides: list[str]) -> Iterator[dict[str, Any]]:
    """A row for the base model and for each stage."""
    problems = presets.load(TRIED)
    for number, (name, _, make) in enumerate(stages(seed, root, overrides)):
        trainer, began, began_on_clock = make(), time.process_time(), time.perf_counter()
        trainer.run()
        seconds, on_clock = time.process_time() - began, time.perf_counter() - began_on_clock
        assert trainer.policy is not None
        if number == 0:
            yield _row(seed, "base", right_answers(trainer.policy, problems, tuned=False, tries=tries))
        yield _row(seed, name, right_answers(trainer.policy, problems, tuned=True, tries=tries), trainer.step,
                   seconds, on_clock)


def _row(
    seed: int, stage: str, share: Estimate, steps: int = 0, seconds: float = 0.0, on_clock: float = 0.0
) -> dict[str, object]:
    return {"seed": seed, "stage": stage, "right": round(share.value, 4), "low": round(share.low, 4),
            "high": round(share.high, 4), "steps": steps, "processor_seconds": round(seconds, 1),
            "wall_seconds": round(on_clock, 1)}


def main() -> None:
    """Print one line a stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tries", type=int, default=4, help="answers to each problem")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of stage two")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for seed in args.seeds:
            for row in measure(seed, Path(root), args.tries, args.set):
                print(json.dumps(row) if args.json else
                      "seed {seed} {stage:<17} {right:6.1%} right ({low:.1%} to {high:.1%}), {steps} steps, "
                      "{processor_seconds} s of processor, {wall_seconds} s".format(**row), flush=True)


if __name__ == "__main__":
    main()
