"""Make the problems of the presets `sft-sorting` and `sorting`: four animals, to be put in alphabetical order.

    python -m benchmarks.sorting [--out presets]

Every word is one token of the storyteller's. 400 problems are solved, for SFT; 2,000 others bring the right answer
alone, for a reward that knows nothing else. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

ANIMALS = ("cat", "cow", "deer", "dog", "frog", "goat", "lion", "monkey", "mouse", "penguin", "pig", "rabbit", "sheep",
           "snail", "tiger", "wolf")
IN_ONE = 4
SOLVED, UNSOLVED = 400, 2_000


def problems(count: int, seed: int = 0) -> list[tuple[str, ...]]:
    """`count` different problems: animals in the order in which they are given."""
    rng = random.Random(seed)
    found: dict[tuple[str, ...], None] = {}
    while len(found) < count:
        found[tuple(rng.sample(ANIMALS, IN_ONE))] = None
    return list(found)


def rows(start: int, count: int) -> list[dict[str, str]]:
    """Problems of seed 0 from `start` on, with their solution and their answer; those of other places are others."""
    return [{"prompt": f"Sort: {', '.join(given)}.", "response": f" {', '.join(sorted(given))}.",
             "answer": ", ".join(sorted(given))} for given in problems(start + count)[start:]]


def files() -> dict[str, str]:
    """The text of each file by its name."""
    solved = rows(0, SOLVED)
    unsolved = [{"prompt": row["prompt"], "answer": row["answer"]} for row in rows(SOLVED, UNSOLVED)]
    return {name: "".join(json.dumps(row) + "\n" for row in part)
            for name, part in (("sft-sorting.jsonl", solved), ("sorting.jsonl", unsolved))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("presets"))
    out = parser.parse_args().out
    for name, text in files().items():
        (out / name).write_text(text, encoding="utf-8")
        print(f"{out / name}: {len(text.splitlines()):,} rows")


if __name__ == "__main__":
    main()
