"""Bytes that the workbench sends to the terminal, which are what it costs over a slow line.

python -m benchmarks.traffic [--seconds 60] [--preset animals] [--json]. The aim at 120 × 40: about 0 a second while
nothing happens, at most 20 KB a second while the storyteller really trains with the charts live.
"""

from __future__ import annotations

import argparse
import json

from benchmarks.workbench import Workbench, idle_and_training


def rates(workbench: Workbench, seconds: int) -> dict[str, float]:
    """Mean and most bytes of one second, and the share of a core that is used."""
    cpu = workbench.cpu_seconds
    each = [len(workbench.read(1)) for _ in range(seconds)]
    return {"mean_kb_s": sum(each) / seconds / 1000, "most_kb_s": max(each) / 1000,
            "cores": (workbench.cpu_seconds - cpu) / seconds}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--preset", default="animals")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = idle_and_training(args.preset, lambda workbench: rates(workbench, max(5, args.seconds // 4)),
                              lambda workbench: rates(workbench, args.seconds))
    if args.json:
        print(json.dumps(table))
        return
    print("| while | sent per second (aim 0 and 20 KB) | in the busiest second | cores in use |\n|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {row['mean_kb_s']:.1f} KB | {row['most_kb_s']:.1f} KB | {row['cores']:.2f} |")


if __name__ == "__main__":
    main()
