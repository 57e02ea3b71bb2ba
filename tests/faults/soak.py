"""A long soak: 500 random kills of a run and as many resumes, then half an hour of storms against the screen.

Prints its figures; any promise that is broken ends it with a traceback. From the root: make soak
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

from faults.laboratory import kill_again_and_again, same_as_undisturbed
from faults.storm import storm


def main() -> None:
    """Kills and compares, then storms."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30, help="of storm against the screen")
    options = parser.parse_args()
    if options.kills:
        with tempfile.TemporaryDirectory() as folder:
            kills(Path(folder), options.kills, options.seed)
    if options.minutes:
        with tempfile.TemporaryDirectory() as folder:
            storms(Path(folder), 60 * options.minutes, options.seed)


def kills(root: Path, count: int, seed: int) -> None:
    """Kill, resume, compare with an undisturbed run."""
    killed, found = kill_again_and_again(root, count, seed)
    print(f"{found.kills} kills in {found.seconds:.0f} s, {found.while_saving} of them in the middle of a save; "
          f"{found.steps} steps done, at most {found.most_steps_lost} lost at once; every candidate verified, no "
          "newest step went backwards", flush=True)
    same_as_undisturbed(root, killed)
    print(f"metrics and alarms of all {found.steps} steps are those of an undisturbed run", flush=True)


def storms(root: Path, seconds: float, seed: int) -> None:
    """Keys, pastes, clicks and sizes against a training workbench."""
    found = storm(root, seconds, seed)
    actions = ", ".join(f"{count} {kind}" for kind, count in found.actions.most_common())
    half = len(found.memory) // 2
    print(f"{sum(found.actions.values())} actions in {found.seconds:.0f} s ({actions}); {found.runs} runs, "
          f"{found.steps} steps, {found.edits} live edits; it answered {len(found.answers)} checks, after "
          f"{statistics.median(found.answers) * 1e3:.0f} ms in the median, {max(found.answers) * 1e3:.0f} ms at worst; "
          f"most memory in the first half {max(found.memory[:half], default=0) / 1e6:.0f} MB, in the second "
          f"{max(found.memory[half:]) / 1e6:.0f} MB; it left when asked, and every run is whole", flush=True)


if __name__ == "__main__":
    main()
