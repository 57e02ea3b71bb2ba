"""What the charts cost as a run grows: python -m benchmarks.charts [--steps 100000] [--json]

Draws the workbench's four charts at 120 × 40 over runs of 1,000, 10,000 and 100,000 steps, takes in one step more, and
feeds the workbench a long run of synthetic steps, with samples, while it watches the memory of the process. No model.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from rlhf_engine.config import presets
from rlhf_engine.events import Event, Sample, StepFinished
from rlhf_engine.metrics import REGISTRY
from rlhf_engine.requests import Request
from rlhf_engine.system.processes import resident_bytes
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.charts.charts import Charts
from rlhf_tui.engine.bridge import EngineBridge
from rlhf_tui.engine.messages import EngineEvents
from rlhf_tui.engine.metrics_history import MetricsHistory

SIZE = (120, 40)
REPEATS = 15
BATCH = 100
_NAMES = [*REGISTRY, "rewards/words/mean", "rewards/words/std"]


class NoEngine:
    """Stands where the engine would; nothing is ever asked of it."""

    busy = False

    def __init__(self, emit: Callable[[Event], None]) -> None: ...
    def ask(self, request: Request) -> None: ...
    def serve(self) -> None: ...
    def close(self) -> None: ...


def metrics_of(step: int) -> dict[str, float]:
    """Every metric a step tells of: slow curves under noise, with a spike now and then."""
    spike = 30.0 if step % 997 == 0 else 1.0
    return {name: math.sin(step / (200 + 50 * at)) + random.gauss(0, 0.3) * spike for at, name in enumerate(_NAMES)}


def event(step: int, total: int) -> StepFinished:
    """A step with eight samples."""
    samples = tuple(Sample(step, "Once upon a time", f"there was a fox, number {step}/{index}. " * 4, 1.0,
                           {"liked": 1.0}, 0.5, 40, True) for index in range(8))
    return StepFinished(step, total, metrics_of(step), samples, step * 0.5)


def median_ms(work: Callable[[], None]) -> float:
    """Median processor milliseconds of `work`, which others on the machine do not lengthen, after one warm-up."""
    work()
    taken = []
    for _ in range(REPEATS):
        began = time.process_time()
        work()
        taken.append((time.process_time() - began) * 1000)
    return statistics.median(taken)


def redraw(charts: Charts) -> None:
    """All four charts, from what is kept to text."""
    for chart in charts.charts:
        chart.draw()


async def costs(app: WorkbenchApp, pilot: Pilot[None], lengths: list[int]) -> list[dict[str, float]]:
    """For each length of the run: a redraw of four charts in ms, and of taking in a step in µs (median and worst)."""
    charts, rows, step = app.workbench.charts, [], 0
    await pilot.press("2")
    for length in lengths:
        while step < length:
            step += 1
            charts.curves.add(step, metrics_of(step), step * 0.5)
        await pilot.pause()
        row: dict[str, float] = {"steps": length, "redraw_ms": median_ms(lambda: redraw(charts))}
        other = MetricsHistory()
        for at in range(1, min(length, 2000)):
            other.add(at, metrics_of(at), at * 0.6)
        charts.curves.overlay("another run", other)
        charts.curves.mark(length // 2, "kl.coef 0.1→0.3")
        charts.action_read(-1)
        await pilot.pause()
        row["redraw_all_ms"] = median_ms(lambda: redraw(charts))
        charts.curves.clear_overlays()
        charts.action_drop_cursor()
        taken = []
        for step in range(length + 1, length + 1025):
            told = metrics_of(step)
            began = time.process_time()
            charts.curves.add(step, told, step * 0.5)
            taken.append((time.process_time() - began) * 1e6)
        row |= {"add_us": statistics.median(taken), "add_mean_us": statistics.fmean(taken)}
        rows.append(row)
    return rows


async def memory(app: WorkbenchApp, pilot: Pilot[None], steps: int) -> list[dict[str, float]]:
    """Resident megabytes after each tenth of a run of `steps`, fed to the workbench as the bridge would."""
    rows, tenth = [], max(BATCH, steps // 10)
    for begin in range(0, steps, BATCH):
        app.workbench.post_message(EngineEvents([event(begin + i + 1, steps) for i in range(BATCH)]))
        await pilot.pause()
        if (begin + BATCH) % tenth == 0:
            app.workbench.charts.drawing.draw_changed()
            await pilot.pause()
            rows.append({"steps": begin + BATCH, "rss_mb": resident_bytes() / 2**20})
    return rows


async def measure(steps: int, lengths: list[int]) -> dict[str, list[dict[str, float]]]:
    """Both, each in a workbench of its own; memory first, or it would grow into what the other has left."""
    config, found = presets.load("animals"), {}
    for name, work in (("memory", lambda app, pilot: memory(app, pilot, steps)),
                       ("costs", lambda app, pilot: costs(app, pilot, lengths))):
        with tempfile.TemporaryDirectory() as root:
            app = WorkbenchApp(EngineBridge(Path(root), NoEngine), config, "animals")
            async with app.run_test(size=SIZE) as pilot:
                found[name] = await work(app, pilot)
    return found


def print_tables(found: dict[str, list[dict[str, float]]]) -> None:
    """Markdown."""
    print("Processor time.\n\n| steps | four charts | with another run, edit, cursor | one step more (median, mean) |")
    print("|---|---|---|---|")
    for row in found["costs"]:
        print(f"| {row['steps']:,} | {row['redraw_ms']:.1f} ms | {row['redraw_all_ms']:.1f} ms | "
              f"{row['add_us']:.0f} µs, {row['add_mean_us']:.0f} µs |")
    print("\n| after step | resident memory |\n|---|---|")
    for row in found["memory"]:
        print(f"| {row['steps']:,} | {row['rss_mb']:.1f} MB |")
    middle, last = found["memory"][len(found["memory"]) // 2], found["memory"][-1]
    if last["steps"] > middle["steps"]:
        grown = (last["rss_mb"] - middle["rss_mb"]) * 2**20 / (last["steps"] - middle["steps"])
        print(f"\nIn the second half: {grown:.0f} bytes a step, for {len(_NAMES)} metrics.")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="What the charts cost as a run grows.")
    parser.add_argument("--steps", type=int, default=100_000, help="length of the run whose memory is watched")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1_000, 10_000, 100_000],
                        help="lengths of the runs that are drawn")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    args = parser.parse_args()
    random.seed(0)
    found = asyncio.run(measure(args.steps, sorted(args.lengths)))
    if args.json:
        print(json.dumps(found))
    else:
        print_tables(found)


if __name__ == "__main__":
    main()
