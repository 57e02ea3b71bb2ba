"""Opening a long run: python -m benchmarks.long_run [--steps 100000] [--json]

Writes a finished run of so many steps, with all the metrics and eight samples a step that a real one has, and opens it
in the workbench on a pseudo-terminal, from the list of runs. Measured: seconds from Enter to the newest step on the
screen, what that costs in processor time, the process's resident memory before and after; and, opened once more, how
long keys take meanwhile (to the charts and to the samples, in turns, until the keys of that pane are on the screen),
each of which draws a pane and so delays the opening. No model.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

from benchmarks.charts import event
from benchmarks.keys import summary
from benchmarks.workbench import Measured, Workbench
from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import METRICS, SAMPLES
from rlhf_engine.runs.run_lines import sample_row, to_line

_PANES = ((b"2", b"Smooth"), (b"4", b"Inspect"))


def write_run(root: Path, steps: int, name: str = "long-run") -> RunDir:
    """A finished run: the lines that its trainer would have written, without what that takes."""
    run = RunDir.create(root, presets.load("animals"), name=name, preset="animals")
    with open(run.path / METRICS, "w") as metrics, open(run.path / SAMPLES, "w") as samples:
        for step in range(1, steps + 1):
            told = event(step, steps)
            metrics.write(to_line({"step": step, "seconds": told.seconds, "metrics": dict(told.metrics)}) + "\n")
            samples.writelines(to_line(sample_row(sample, traced=False)) + "\n" for sample in told.samples)
    run.write_status(RunState.FINISHED, steps, steps, f"finished after step {steps}")
    return run


def open_it(folder: Path, steps: int, *, keys_meanwhile: bool) -> Measured:
    """Open the run from the list of runs, with keys pressed one after the other until it is shown, or with none."""
    with Workbench(str(folder), "--preset", "animals", "--runs-dir", str(folder / "runs")) as workbench:
        workbench.read_until(b"actor lr", 60)
        workbench.read(2)
        idle = [_key(workbench, number) for number in range(20 if keys_meanwhile else 2)]
        workbench.type(b"r")
        workbench.read_until(b"long-run", 60)
        workbench.read(3)  # sizes and figures of the list are read too
        memory, cpu = workbench.resident_mb, workbench.cpu_seconds
        workbench.type(b"\r")
        keys: list[float] = []
        began, shown, done, place = time.monotonic(), 0.0, f"step {steps}/{steps}".encode(), len(workbench.written)
        workbench.read_until(b"Hyperparameters", 60)  # the workbench is back
        while not shown:
            if keys_meanwhile:
                keys.append(_key(workbench, len(keys)))
            else:
                workbench.read(0.01)
            if done in workbench.written[place:]:
                shown = time.monotonic() - began
        workbench.read(1)
        found = {"seconds": shown, "cpu_seconds": workbench.cpu_seconds - cpu, "before_mb": memory,
                 "after_mb": workbench.resident_mb}
        if keys_meanwhile:
            found |= {"keys": len(keys), **summary([*keys, *keys[-1:]]), "idle_ms": summary(idle)["median_ms"]}
        return found


def _key(workbench: Workbench, number: int) -> float:
    key, effect = _PANES[number % 2]
    workbench.type(key)
    seconds = workbench.read_until(effect, 120)
    workbench.read(0.01)
    return seconds


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Opening a long run in the workbench.")
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args()
    random.seed(0)
    with tempfile.TemporaryDirectory() as folder:
        run = write_run(Path(folder, "runs"), args.steps)
        files = sum((run.path / name).stat().st_size for name in (METRICS, SAMPLES)) / 1e6
        found = open_it(Path(folder), args.steps, keys_meanwhile=False)
        pressed = open_it(Path(folder), args.steps, keys_meanwhile=True)
    if args.json:
        print(json.dumps(found | {"steps": args.steps, "files_mb": files, "with_keys": pressed}))
        return
    print(f"{args.steps:,} steps, {files:.0f} MB of metrics and samples: shown after {found['seconds']:.2f} s "
          f"({found['cpu_seconds']:.2f} s of processor time); memory {found['before_mb']:.0f} → "
          f"{found['after_mb']:.0f} MB; with {pressed['keys']} keys meanwhile after {pressed['seconds']:.2f} s: median "
          f"{pressed['median_ms']:.0f} ms, worst {pressed['worst_ms']:.0f} ms (before, idle: median "
          f"{pressed['idle_ms']:.0f} ms)")


if __name__ == "__main__":
    main()
