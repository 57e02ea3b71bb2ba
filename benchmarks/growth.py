"""How speed and memory grow: python -m benchmarks.growth [--threads 2] [--quick] [--svg FILE]

Responses per second against batch, response length, vocabulary and size of the model, and memory and time per step over
2,000 steps. Each point is a process of its own. Models have random weights in the storyteller's shape and no end token,
so that all responses are equally long. Prints Markdown: tables, and a picture of each, which --svg also keeps.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import plotext
from rich.console import Console
from rich.text import Text

from benchmarks.throughput import child

STORYTELLER_VOCABULARY = 2_546
ONE_EPOCH = ["algorithm.epochs=1"]
PICTURES: list[str] = []


def points(model: str, threads: int, settings: dict[int, list[str]], responses: int) -> dict[int, dict[str, float]]:
    """The engine's figures for each x and its settings."""
    return {x: child("engine", model, threads, responses, [*ONE_EPOCH, *given]) for x, given in settings.items()}


def print_growth(title: str, unit: str, found: dict[int, dict[str, float]]) -> None:
    """A table and a picture."""
    print(f"\n### {title}\n")
    print(f"| {unit} | responses/s | tokens/s | rollout + score + update of a response | peak RSS |")
    print("|---|---|---|---|---|")
    for x, row in found.items():
        times = " + ".join(f"{row[phase] * 1000:.1f}" for phase in ("rollout", "score", "update"))
        print(f"| {x:,} | {row['responses_per_s']:.1f} | {row['tokens_per_s']:,.0f} | {times} ms | "
              f"{row['peak_rss'] / 2**20:.0f} MB |")
    picture(f"tokens/s by {unit}", list(found), [row["tokens_per_s"] for row in found.values()])


def picture(title: str, x: list[int], y: list[float]) -> None:
    """A plotext chart in a code block, kept for `save_svg`."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(72, 14)
    plotext.title(title)
    plotext.xscale("log")
    plotext.ylim(0, max(y) * 1.1)
    plotext.xticks(x, [f"{value:,}" for value in x])
    plotext.plot(x, y, marker="braille")
    drawn = plotext.uncolorize(plotext.build()).rstrip()
    print(f"\n```text\n{drawn}\n```", flush=True)
    PICTURES.append(drawn)


def save_svg(file: Path) -> None:
    """All pictures so far, as a terminal shows them."""
    console = Console(record=True, width=74, file=io.StringIO())
    console.print(Text("\n\n".join(PICTURES)))
    drawn = console.export_svg(title="rlhf-tui: tokens per second")
    # rich would have whoever looks at the picture fetch a font from the web
    file.write_text(re.sub(r"@font-face\s*\{.*?\}", "", drawn, flags=re.DOTALL), encoding="utf-8")


def run_steps(model: str, threads: int, steps: int) -> None:
    """Many small steps; one JSON line with resident memory and time per step along the way. Inside a child."""
    from rlhf_engine.config import presets
    from rlhf_engine.events import Event, StepFinished
    from rlhf_engine.system.processes import resident_bytes
    from rlhf_engine.training.trainer import Trainer

    settings = [f"model.name={model}", f"train.threads={threads}", f"train.steps={steps}", "sampling.max_new_tokens=8",
                "algorithm.responses_per_step=8", "algorithm.minibatch_size=8", *ONE_EPOCH]
    taken: list[float] = []
    memory: list[float] = []

    def keep(event: Event) -> None:
        if isinstance(event, StepFinished):
            taken.append(sum(event.metrics[f"time/{phase}"] for phase in ("rollout", "score", "update")))
            memory.append(resident_bytes() / 2**20)

    config = presets.load_with_overrides("notebook", settings)
    Trainer(config, run_dir=None, emit=keep).run()
    tenth = max(1, steps // 10)
    print(json.dumps([
        {"step": end, "memory": memory[end - 1], "seconds": statistics.median(taken[end - tenth:end])}
        for end in range(tenth, steps + 1, tenth)
    ]))


def print_steps(model: str, threads: int, steps: int) -> None:
    """Memory and time per step over a long run."""
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.growth", "--steps-of", model]
    command += ["--threads", str(threads), "--steps", str(steps)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    rows = json.loads(printed.splitlines()[-1])
    print(f"\n### {steps:,} steps\n\n8 responses of 8 tokens each.\n\n| after step | resident memory | time per step |")
    print("|---|---|---|")
    for row in rows:
        print(f"| {row['step']:,} | {row['memory']:.0f} MB | {row['seconds'] * 1000:.1f} ms |")
    growth = rows[-1]["memory"] / rows[0]["memory"] - 1
    print(f"\nMemory grew by {growth:.1%} from step {rows[0]['step']:,} to step {rows[-1]['step']:,}.")


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description="How speed and memory grow.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="few points, to see that it works")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="where to keep the pictures")
    parser.add_argument("--steps-of", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.steps_of:
        run_steps(args.steps_of, args.threads, args.steps)
        return
    from benchmarks.shapes import save_gpt_neo

    batches = [8, 64] if args.quick else [8, 16, 32, 64, 128, 256, 512]
    lengths = [16, 64] if args.quick else [16, 32, 64, 128, 256]
    widths = [160, 320] if args.quick else [160, 320, 640, 1_280]
    vocabularies = [1_000, 4_000] if args.quick else [1_000, 4_000, 16_000, 50_257]
    steps = 40 if args.quick else args.steps
    with tempfile.TemporaryDirectory() as root:
        model = str(save_gpt_neo(Path(root) / "small", width=160, heads=4, vocabulary=STORYTELLER_VOCABULARY))
        print_growth("Batch", "responses per step", points(model, args.threads, {
            n: [f"algorithm.responses_per_step={n}", f"algorithm.minibatch_size={min(n, 32)}"] for n in batches}, 128))
        print_growth("Response length", "tokens per response", points(model, args.threads, {
            n: [f"sampling.max_new_tokens={n}"] for n in lengths}, 64))
        found: dict[int, dict[str, float]] = {}
        for n in vocabularies:
            sized = str(save_gpt_neo(Path(root) / f"{n}", width=160, heads=4, vocabulary=n))
            found |= points(sized, args.threads, {n: []}, 64)
        print_growth("Vocabulary", "vocabulary", found)
        found = {}
        for width in widths:
            sized = str(save_gpt_neo(Path(root) / f"w{width}", width=width, heads=width // 40,
                                     vocabulary=STORYTELLER_VOCABULARY))
            parameters = 12 * 4 * width**2 + STORYTELLER_VOCABULARY * width  # of four layers and the embeddings
            found |= points(sized, args.threads, {parameters // 1_000: []}, 64)
        print_growth("Size of the model", "thousand parameters", found)
        if args.svg:
            save_svg(args.svg)
        print_steps(model, args.threads, steps)


if __name__ == "__main__":
    main()
