"""Time from a key that judges to the next pair on the screen, idle and while the storyteller really trains.

python -m benchmarks.labelling [--pairs 300] [--preset animals] [--json]. The aim: 95 of 100 within 50 ms. Each
judgement is on the disk by then: the number of judged pairs, which is waited for, is drawn with the next pair. Keys
come at random moments about a quarter of a second apart, faster than anybody reads. At the end every judgement has to
be in the file.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from pathlib import Path

from benchmarks.keys import AIM_MS, summary
from benchmarks.workbench import Measured, Workbench
from rlhf_engine.labels.label_file import read_labels

_KEYS = (b"a", b"b", b"t", b"0", b"\x1b[D", b"\x1b[C")
_F5 = b"\x1b[15~"


_NO_PAIR = (b"are sampled", b"waiting for step")


def judge(workbench: Workbench, pairs: int, gap: tuple[float, float] = (0.1, 0.4)) -> list[float]:
    """Seconds from each of `pairs` keys to the next pair; where none waited, until one was sampled."""
    chance, seconds = random.Random(0), []
    for number in range(1, pairs + 1):
        workbench.read(chance.uniform(*gap))
        workbench.type(chance.choice(_KEYS))
        before = len(workbench.written)
        taken = workbench.read_until(f"{number}/{pairs} judged".encode(), 60)
        began = time.monotonic()
        while number < pairs and _shows_none(workbench.written[before:]):
            workbench.read(0.01)
            if time.monotonic() - began > 60:
                raise TimeoutError(f"no pair came within 60 s after {number} were judged")
            taken += 0.01
        seconds.append(taken)
    return seconds


def _shows_none(written: bytes) -> bool:
    """Whether what is waited for was drawn later than any pair, which comes with the number of those behind it."""
    none = max(written.rfind(text) for text in _NO_PAIR)
    return none > max((found.start() for found in re.finditer(rb"[1-9]\d* wait\b", written)), default=-1)


def measure(preset: str, pairs: int, *, training: bool) -> Measured:
    """In a workbench of its own."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "labels.jsonl")
        options = ("label", preset, "--count", str(pairs), "--repeat-every", "0", "--first", "tuned", "--out", str(out),
                   "--runs-dir", folder, "--set", "train.steps=100000")
        with Workbench(folder, *options) as workbench:
            workbench.read_until(f"0/{pairs} judged".encode(), 60)
            workbench.read_until(b"23 wait", 180)  # two batches of pairs are there
            if training:
                workbench.type(_F5)
                workbench.read_until(b"resp/s", 180)  # the first step is done
            workbench.read(2)
            found = summary(judge(workbench, pairs))
        assert len(read_labels(out)) == pairs
        return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--preset", default="animals")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = {name: measure(args.preset, args.pairs, training=name == "training") for name in ("idle", "training")}
    if args.json:
        print(json.dumps(table))
        return
    print(f"| while | median | 95 of 100 within (aim {AIM_MS} ms) | worst of {args.pairs} |\n|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {row['median_ms']:.0f} ms | {row['p95_ms']:.0f} ms | {row['worst_ms']:.0f} ms |")


if __name__ == "__main__":
    main()
