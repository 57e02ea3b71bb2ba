"""What the screen costs: training speed with and without it.

python -m benchmarks.screen [--pairs 4] [--steps 8] [--threads 2] [--set KEY=VALUE ...]. Real processes on a
pseudo-terminal of 120 × 40; runs with and without the screen alternate, so that a busy machine touches both alike. All
runs have one seed, so their n-th steps do the same work, and one number of threads, which each would otherwise choose
by a measurement of its own. Each step counts as in the run where it was fastest; what others did on the machine
meanwhile only ever makes it slower.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.workbench import Workbench
from rlhf_engine.runs.run_dir import RunDir

Speeds = list[float]
"""Responses per second of each step of a run."""


def speeds(run: Path) -> Speeds:
    """Those of a finished run, the first step, which also warms up, left out."""
    return [line.metrics["throughput/responses_per_s"] for line in RunDir.open(run).metrics()[1:]]


def undisturbed(runs: list[Speeds]) -> float:
    """Mean speed of a run of which each step is the fastest of that number in `runs`."""
    return statistics.harmonic_mean([max(step) for step in zip(*runs, strict=True)])


def with_screen(root: str, settings: list[str]) -> Speeds:
    """Train in the workbench."""
    before = set(Path(root).iterdir())
    with Workbench(root, "--runs-dir", root, "--start", *settings) as workbench:
        workbench.read_until(b"FINISHED", 600)
        workbench.read(1)
    (run,) = (path for path in set(Path(root).iterdir()) - before if path.name not in ("compiled", "config"))
    return speeds(run)


def without_screen(root: str, settings: list[str]) -> Speeds:
    """Train from the command line."""
    command = [sys.executable, "-m", "rlhf_engine", "train", "animals", "--runs-dir", root, *settings, "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return speeds(Path(json.loads(printed.splitlines()[-1])["path"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=4)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2, help="that torch uses in each run")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the preset to change")
    args = parser.parse_args()
    changes = [f"train.steps={args.steps}", f"train.threads={args.threads}", *args.set]
    settings = [word for change in changes for word in ("--set", change)]
    with tempfile.TemporaryDirectory() as root:
        plain: list[Speeds] = []
        shown: list[Speeds] = []
        for _ in range(args.pairs):
            plain.append(without_screen(root, settings))
            shown.append(with_screen(root, settings))
    for title, runs in (("without", plain), ("with", shown)):
        print(f"training {title} the screen: {undisturbed(runs):.1f} responses/s; medians of the runs:",
              *(f"{statistics.median(run):.1f}" for run in runs))
    print(f"ratio: {undisturbed(shown) / undisturbed(plain):.3f}")


if __name__ == "__main__":
    main()
