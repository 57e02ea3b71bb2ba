"""Figures of earlier commits, so that a slower one is seen: python -m benchmarks.history [--benchmark NAME]

`python -m benchmarks.throughput --record` adds a line to history.jsonl, beside this file. Figures are compared with the
last ones of the same machine, and ratios, which a machine's quiet hours move least, tell most.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rlhf_engine.models.processor import processor
from rlhf_engine.system.cores import available_cores

FILE = Path(__file__).with_name("history.jsonl")
_NOTABLE = 0.1  # of a figure: a smaller change is not marked


def record(benchmark: str, figures: Mapping[str, float], file: Path = FILE) -> None:
    """Append figures, by name, of which more is better, with the commit and the machine they are of."""
    line = {"benchmark": benchmark, "commit": _commit(), "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(), "torch": torch.__version__, "figures": dict(figures)}
    with file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(line, ensure_ascii=False) + "\n")


def machine() -> str:
    """Processor, cores and GPU, as far as they are told."""
    name = processor().get("cpu_name") or platform.machine()
    gpu = f", {torch.cuda.get_device_name(0)}" if torch.cuda.is_available() else ""
    return f"{name}, {available_cores()} cores{gpu}"


def changes(lines: list[dict[str, Any]]) -> list[tuple[dict[str, Any], dict[str, float]]]:
    """Each line with the change of its figures, as a share, since the last line of that benchmark and machine."""
    before: dict[tuple[str, str], dict[str, float]] = {}
    found = []
    for line in lines:
        key, figures = (line["benchmark"], line["machine"]), line["figures"]
        old = before.get(key, {})
        found.append((line, {name: value / old[name] - 1 for name, value in figures.items() if old.get(name)}))
        before[key] = old | figures
    return found


def _commit() -> str:
    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=FILE.parent, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")


def _read(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    """Print a table in Markdown, oldest first; a + behind a commit is for changes that were not committed."""
    parser = argparse.ArgumentParser(description="Figures of earlier commits.")
    parser.add_argument("--benchmark")
    wanted = parser.parse_args().benchmark
    lines = [json.loads(line) for line in _read(FILE)]
    print("| commit | date | machine | figure | | since the last |\n|---|---|---|---|---|---|")
    for line, changed in changes([line for line in lines if wanted in (None, line["benchmark"])]):
        for name, value in line["figures"].items():
            share = changed.get(name)
            mark = " **slower**" if share is not None and share < -_NOTABLE else ""
            cells = (line["commit"], line["date"], line["machine"], f"{line['benchmark']}: {name}", f"{value:.4g}",
                     "" if share is None else f"{share:+.0%}{mark}")
            print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
