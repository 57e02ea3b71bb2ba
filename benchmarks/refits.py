"""What refits of a reward model teach: fresh pairs that it tells apart after each, from scratch and from its weights.

python -m benchmarks.refits LABELS TEST [--first 100] [--every 20] [--members 1] [--seed 0] [--rate R] [--passes N].
LABELS is a label file, of whose judgements the first ones teach the model of preset human-feedback-reward and the
others come in groups; TEST another one, judged without errors. Both made so, for example:

    rlhf-tui label animals --rater animals --error 0.1 --count 300 --repeat-every 0 --out labels.jsonl
    rlhf-tui label animals --rater animals --seed 77 --count 1000 --repeat-every 0 --out test.jsonl

--rate and --passes are `refit_learning_rate` and `refit_passes` of the refits that begin from the weights.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from rlhf_engine.config import presets
from rlhf_engine.config.preference import PreferenceRewardConfig
from rlhf_engine.data.pinning import pinned_data
from rlhf_engine.rewards.preference import PreferenceReward
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.training.trainer import Trainer


def told_apart(reward: PreferenceReward, pairs: list[dict[str, Any]]) -> float:
    """The share of the pairs whose chosen response has the higher score."""
    prompts = [pair["prompt"] for pair in pairs]
    chosen, rejected = (reward.score(prompts, [pair[side] for pair in pairs]) for side in ("chosen", "rejected"))
    return sum(a is not None and b is not None and a.total > b.total
               for a, b in zip(chosen, rejected, strict=True)) / len(pairs)


def refits(
    folder: Path, base: PreferenceRewardConfig, lines: list[str], sizes: range, pairs: list[dict[str, Any]]
) -> None:
    """Prints a line for each refit from as many of `lines` as `sizes` says, which the label file of `base` is made to
    hold."""
    assert base.labels is not None
    config, teller = base, PreferenceReward(base)
    print(f"{base.refit_from}: {told_apart(teller, pairs):.1%} of {len(pairs)} fresh pairs before", flush=True)
    for count in sizes:
        Path(base.labels).write_text("".join(lines[:count]))
        began = time.perf_counter()
        learnt = teller.learn_on(folder, 1, lambda fraction: None)
        assert learnt is not None
        seconds = time.perf_counter() - began
        config = config.model_copy(update=dict(learnt.settings))
        teller = PreferenceReward(config)
        print(f"  {count} judgements: {told_apart(teller, pairs):.1%}, {seconds:.0f} s; {learnt.text}", flush=True)


def main() -> None:
    """Read the command line, and print what refits come to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("test", type=Path)
    for name, default in (("first", 100), ("every", 20), ("members", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--passes", type=int)
    args = parser.parse_args()
    lines = args.labels.read_text().splitlines(keepends=True)
    pairs = [pair for pair in map(json.loads, args.test.read_text().splitlines()) if not pair["tie"]]
    with tempfile.TemporaryDirectory() as root:
        labels = Path(root).resolve() / "labels.jsonl"
        labels.write_text("".join(lines[:args.first]))
        config = pinned_data(presets.load_with_overrides("human-feedback-reward", [
            f"data.source={labels}", f"train.seed={args.seed}", f"algorithm.members={args.members}"]))
        run = RunDir.create(Path(root), config, name="reward")
        Trainer(config, run_dir=run, emit=lambda event: None).run()
        common = {"model": str(run.path), "labels": str(labels), "refit_every": 1, "judgements": args.first}
        gentle = {"refit_learning_rate": args.rate, "refit_passes": args.passes}
        for begin, settings in (("scratch", {}), ("weights", gentle)):
            reward = PreferenceRewardConfig.model_validate(common | settings | {"refit_from": begin})
            refits(Path(root) / begin, reward, lines, range(args.first + args.every, len(lines) + 1, args.every), pairs)


if __name__ == "__main__":
    main()
