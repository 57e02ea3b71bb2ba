"""Time from a key to its effect on the screen, idle and while the storyteller really trains with the charts live.

python -m benchmarks.keys [--keys 200] [--preset animals] [--json]. The aim: 95 of 100 keys within 50 ms. ↓ and ↑ move
between the first two settings; the effect is the name of the other one in the lines of help.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time

from benchmarks.workbench import Measured, Workbench, idle_and_training

AIM_MS = 50
_MOVES = ((b"\x1b[B", b"algorithm.critic_learning_rate"), (b"\x1b[A", b"optimizer.learning_rate"))


def press(workbench: Workbench, keys: int) -> list[float]:
    """Seconds from each of `keys` keys to the screen, at random moments about a quarter of a second apart."""
    chance, seconds = random.Random(0), []
    for key, effect in itertools.islice(itertools.cycle(_MOVES), keys):
        workbench.read(chance.uniform(0.1, 0.4))
        workbench.type(key)
        seconds.append(workbench.read_until(effect, 30))
    return seconds


def summary(seconds: list[float]) -> dict[str, float]:
    """Median, 95th percentile and worst, in milliseconds."""
    return {"median_ms": statistics.median(seconds) * 1000, "p95_ms": statistics.quantiles(seconds, n=20)[-1] * 1000,
            "worst_ms": max(seconds) * 1000}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--keys", type=int, default=200)
    parser.add_argument("--preset", default="animals")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    def training(workbench: Workbench) -> Measured:
        began, cpu = time.monotonic(), workbench.cpu_seconds
        found = summary(press(workbench, args.keys))
        return found | {"cores": (workbench.cpu_seconds - cpu) / (time.monotonic() - began)}

    table = idle_and_training(args.preset, lambda workbench: summary(press(workbench, args.keys)), training)
    if args.json:
        print(json.dumps(table))
        return
    print(f"| while | median | 95 of 100 within (aim {AIM_MS} ms) | worst of {args.keys} |\n|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {row['median_ms']:.0f} ms | {row['p95_ms']:.0f} ms | {row['worst_ms']:.0f} ms |")


if __name__ == "__main__":
    main()
