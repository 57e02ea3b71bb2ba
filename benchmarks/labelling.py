"""Time from a key that judges to the next pair on the screen, idle and while the storyteller really trains.

python -m benchmarks.labelling [--pairs 300] [--preset animals] [--json]. The aim: 95 of 100 within 50 ms. Each
judgement is on the disk by then: the number of judged pairs, which is waited for, is drawn with the next pair. Keys
come at random moments about a quarter of a second apart, faster than anybody reads. Between any two of them another key
is pressed that only says a sentence: as long takes the terminal, and a machine on which others work. At the end every
judgement has to be in the file.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.keys import AIM_MS, summary
from benchmarks.workbench import Measured, Workbench
from rlhf_engine.labels.label_file import read_labels

_KEYS = (b"a", b"b", b"t", b"0", b"\x1b[D", b"\x1b[C")
_F5 = b"\x1b[15~"
_NO_PAIR = (b"are sampled", b"waiting for step")
_REFUSED = b"no pair to judge"
_PATIENCE = 180.0  # seconds, for a batch of pairs or a step on a busy machine


def judge(workbench: Workbench, pairs: int, gap: tuple[float, float] = (0.1, 0.4)) -> tuple[list[float], list[float]]:
    """Seconds from each of `pairs` keys to the next pair, where none waited until one was sampled; and those from as
    many keys that only say a sentence."""
    chance, judged, said = random.Random(0), [], []
    for number in range(1, pairs + 1):
        workbench.read(chance.uniform(*gap))
        workbench.type(b"l")
        said.append(workbench.read_until(b"this is the label screen", _PATIENCE))
        workbench.read(chance.uniform(*gap))
        judged.append(_judge_one(workbench, chance.choice(_KEYS), f"{number}/{pairs} judged".encode(), number < pairs))
    return judged, said


def _judge_one(workbench: Workbench, key: bytes, done: bytes, more: bool) -> float:
    """Seconds from the key that was heard, to the next pair where there are more."""
    while True:
        before, began = len(workbench.written), time.monotonic()
        workbench.type(key)
        heard = _until(workbench, before, lambda came: done in came or _REFUSED in came)
        if done in heard:
            if more:
                _until(workbench, before, lambda came: not _shows_none(came))
            return time.monotonic() - began
        workbench.read(0.5)  # the pair was not in view yet: the key did nothing, as the screen says


def _until(workbench: Workbench, begin: int, true: Callable[[bytes], bool]) -> bytes:
    """What was written from `begin` on, once that is `true`. Raises TimeoutError."""
    deadline = time.monotonic() + _PATIENCE
    while not true(came := workbench.written[begin:]):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come within {_PATIENCE} s; last came {workbench.written[-300:]!r}")
        workbench.read_some(0.5)
    return came


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
            _until(workbench, 0, lambda came: re.search(rb"[12]\d wait\b", came) is not None)
            if training:
                workbench.type(_F5)
                workbench.read_until(b"resp/s", _PATIENCE)  # the first step is done
            workbench.read(2)
            judged, said = judge(workbench, pairs)
        assert len(read_labels(out)) == pairs
        floor = summary(said)
        return summary(judged) | {"said_median_ms": floor["median_ms"], "said_p95_ms": floor["p95_ms"]}


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
    print(f"| while | median | 95 of 100 within (aim {AIM_MS} ms) | worst of {args.pairs} | a key that only says "
          "something: median | 95 of 100 within |\n|---|---|---|---|---|---|")
    for name, row in table.items():
        print(f"| {name} | {row['median_ms']:.0f} ms | {row['p95_ms']:.0f} ms | {row['worst_ms']:.0f} ms | "
              f"{row['said_median_ms']:.0f} ms | {row['said_p95_ms']:.0f} ms |")


if __name__ == "__main__":
    main()
