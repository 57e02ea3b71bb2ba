"""A long soak: 500 random kills of a run and as many resumes, then the comparison with an undisturbed run.

Prints its figures; any promise that is broken ends it with a traceback. From the root: make soak
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from faults.laboratory import kill_again_and_again, same_as_undisturbed


def main() -> None:
    """Kills, compares, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        killed, found = kill_again_and_again(Path(folder), options.kills, options.seed)
        print(f"{found.kills} kills in {found.seconds:.0f} s, {found.while_saving} of them in the middle of a save; "
              f"{found.steps} steps done, at most {found.most_steps_lost} lost at once; every candidate verified, no "
              "newest step went backwards", flush=True)
        same_as_undisturbed(Path(folder), killed)
        print(f"metrics and alarms of all {found.steps} steps are those of an undisturbed run")


if __name__ == "__main__":
    main()
