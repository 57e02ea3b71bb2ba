"""Time from the start of the process to a screen with its panes and settings.

python -m benchmarks.first_frame [--runs 9] [--json]. The aim: at most 0.6 s. Without options no command line has to be
read; with any, typer is imported first, which is the second line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile

from benchmarks.workbench import Workbench

AIM = 0.6


def first_frame(folder: str, *options: str) -> tuple[float, float]:
    """(seconds, processor seconds) until the pane of settings is drawn with its values."""
    with Workbench(folder, *options) as workbench:
        seconds = workbench.read_until(b"actor lr", 60)
        return seconds, workbench.cpu_seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in (("rlhf-tui", ()), ("rlhf-tui --preset animals", ("--preset", "animals"))):
            first_frame(folder, *options)  # compiles the modules and warms the disk
            measured = [first_frame(folder, *options) for _ in range(args.runs)]
            seconds, cpu = zip(*measured, strict=True)
            table[name] = {"median_s": statistics.median(seconds), "worst_s": max(seconds), "least_cpu_s": min(cpu)}
    if args.json:
        print(json.dumps(table))
        return
    print(f"| command | first frame (aim {AIM} s) | worst of {args.runs} | processor time |\n|---|---|---|---|")
    for name, row in table.items():
        print(f"| `{name}` | {row['median_s']:.2f} s | {row['worst_s']:.2f} s | {row['least_cpu_s']:.2f} s |")


if __name__ == "__main__":
    main()
