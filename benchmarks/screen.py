"""What the screen costs: training speed with and without it.

python -m benchmarks.screen [--pairs 2] [--steps 8] [--set KEY=VALUE ...]. Real processes on a pseudo-terminal of
120 × 40; runs with and without the screen alternate, so that a busy machine touches both alike.
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
from rlhf_engine.run_dir import RunDir


def speed(run: Path) -> float:
    """Median responses per second of a run's steps, the first left out."""
    return statistics.median(line.metrics["throughput/responses_per_s"] for line in RunDir.open(run).metrics()[1:])


def with_screen(root: str, settings: list[str]) -> float:
    """Train in the workbench; its speed."""
    before = set(Path(root).iterdir())
    with Workbench(root, "--runs-dir", root, "--start", *settings) as workbench:
        workbench.read_until(b"FINISHED", 600)
        workbench.read(1)
    (run,) = (path for path in set(Path(root).iterdir()) - before if path.name not in ("compiled", "config"))
    return speed(run)


def without_screen(root: str, settings: list[str]) -> float:
    """Train from the command line; its speed."""
    command = [sys.executable, "-m", "rlhf_engine", "train", "animals", "--runs-dir", root, *settings, "--json"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return speed(Path(json.loads(printed.splitlines()[-1])["path"]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the preset to change")
    args = parser.parse_args()
    settings = [word for setting in [f"train.steps={args.steps}", *args.set] for word in ("--set", setting)]
    with tempfile.TemporaryDirectory() as root:
        plain, shown = [], []
        for _ in range(args.pairs):
            plain.append(without_screen(root, settings))
            shown.append(with_screen(root, settings))
    print(f"training without the screen: {statistics.median(plain):.1f} responses/s {[round(x, 1) for x in plain]}")
    print(f"training with the screen:    {statistics.median(shown):.1f} responses/s {[round(x, 1) for x in shown]}")
    print(f"ratio: {statistics.median(shown) / statistics.median(plain):.3f}")


if __name__ == "__main__":
    main()
