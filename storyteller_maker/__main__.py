"""Make the storyteller from nothing: word list, table of seen pairs, tokenizer, weights, and a check of the bars."""

from __future__ import annotations

import argparse
import subprocess
from pathlib import Path

from rlhf_engine.storyteller import DATA_DIR, MODEL_DIR
from rlhf_engine.system.own_process import environment, python
from storyteller_maker.seen import TABLE

TEMPERATURE = 0.9  # folded into the weights, see the model card
LEXICON = DATA_DIR / "lexicon.txt"


def steps(work: Path, minutes: float, folder: Path) -> list[list[str]]:
    """The commands, in order; each is a module of this package with its arguments."""
    return [
        ["words", str(LEXICON)],
        ["seen", str(TABLE)],
        ["tokenizer", str(work / "tokenizer")],
        ["pretrain", str(work / "tokenizer"), str(work / "run"), "--minutes", str(minutes)],
        ["export", str(work / "run" / "latest"), str(folder), "--temperature", str(TEMPERATURE)],
        ["measure", str(folder), "--copies"],
    ]


def main() -> None:
    """Run every step; the model card is written by hand and stays as it is."""
    parser = argparse.ArgumentParser("python -m storyteller_maker", description=main.__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/storyteller"), help="folder for what is in between")
    parser.add_argument("--minutes", type=float, default=68.0, help="how long to pre-train")
    parser.add_argument("--folder", type=Path, default=MODEL_DIR, help="where the model goes")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for module, *arguments in steps(args.work, args.minutes, args.folder):
        print(f"== {module}", flush=True)
        subprocess.run(python(f"storyteller_maker.{module}", arguments), env=environment(), check=True)


if __name__ == "__main__":
    main()
