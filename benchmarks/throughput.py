"""The engine beside the textbook loop: python -m benchmarks.throughput [--models storyteller 33M] [--rounds 3] [--json]

Preset `notebook`'s work: the same prompts, 60 new tokens, two updates. Each contestant runs in processes of its own,
first once with each number of threads to find its best, then in turns with the others; medians are told. `of peak` is
the arithmetic that the contestant does, by formula, over its time and what large matrix products reach at that time.
`--against textbook engine grpo trl` chooses contestants: by the first of them ratios are told. `a token` is a rollout's
time over its tokens: of all rows of a step at once. On a GPU, where threads hardly matter and need not be looked for:

    python -m benchmarks.throughput --models storyteller 33M 0.5B 1B --against engine grpo trl --threads 8 \\
        --set algorithm.responses_per_step=256 algorithm.minibatch_size=256
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import history
from rlhf_engine.system.cores import share_cores

CONTESTANTS = {"textbook": "textbook loop, one prompt at a time", "engine": "engine (PPO)", "grpo": "engine (GRPO)",
               "trl": "TRL's GRPO, no critic"}
# random weights in these shapes, made by `shapes`
_SHAPES = ("33M", "0.5B", "1B")
_WARM_UP = 4  # steps: in the first three rollouts the engine checks its weights, and a GPU's graphs are captured
_COUNTED = 4  # steps, at least


# --- inside a child process ---


def run_textbook(model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    """Some prompts through the textbook loop."""
    import torch

    from benchmarks.textbook import Seconds, TimedTextbook
    from rlhf_engine.config import presets

    torch.set_num_threads(threads)
    config = presets.load_with_overrides("notebook", overrides)
    loop = TimedTextbook(model, config)
    loop.learn_from(config.data.prompts[0])
    loop.seconds, loop.operations = Seconds(), 0.0
    started = time.perf_counter()
    tokens = sum(loop.learn_from(config.data.prompts[i % len(config.data.prompts)]) for i in range(responses))
    seconds = time.perf_counter() - started
    spent = loop.seconds
    return _figures(seconds, responses, tokens, loop.operations, spent.rollout, spent.score, spent.update) | {
        "half": 0.0, "token": spent.rollout / responses / config.sampling.max_new_tokens}


def run_engine(model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    """PPO: as many steps of the trainer as give at least that many responses, after some that warm it up."""
    from rlhf_engine.config import presets
    from rlhf_engine.config.fields import replace
    from rlhf_engine.events import Event, ModelLoaded, StepFinished
    from rlhf_engine.training.trainer import Trainer

    config = presets.load_with_overrides("notebook", [f"model.name={model}", f"train.threads={threads}", *overrides])
    a_step = config.algorithm.learned_per_step
    steps = max(_COUNTED, -(-responses // a_step))
    config = replace(config, {"train.steps": steps + _WARM_UP})
    metrics: list[dict[str, float]] = []
    peak, half = 0.0, False

    def keep(event: Event) -> None:
        nonlocal peak, half
        if isinstance(event, StepFinished):
            metrics.append(dict(event.metrics))
        elif isinstance(event, ModelLoaded):
            peak, half = event.matmul_peak, event.dtype == "bfloat16"

    Trainer(config, run_dir=None, emit=keep).run()
    counted = metrics[_WARM_UP:]
    phases = [sum(m[f"time/{name}"] for m in counted) for name in ("rollout", "score", "update")]
    seconds = sum(phases)
    operations = sum(m["throughput/matmul_share"] * peak * a_step / m["throughput/responses_per_s"] for m in counted)
    tokens = counted[-1]["num_tokens"] - metrics[_WARM_UP - 1]["num_tokens"]
    token = phases[0] / len(counted) / config.sampling.max_new_tokens
    return _figures(seconds, len(counted) * a_step, tokens, operations, *phases) | {"half": float(half), "token": token}


def run_grpo(model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    """GRPO, whose groups of eight answer fewer prompts, with as many responses and updates."""
    return run_engine(model, threads, responses, [*overrides, "algorithm.kind=grpo", "algorithm.group_size=8"])


def run_trl(model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    """TRL, of which only the whole is timed."""
    import torch

    from benchmarks.peer import train
    from rlhf_engine.config import presets

    torch.set_num_threads(threads)
    config = presets.load_with_overrides("notebook", [f"model.name={model}", *overrides])
    a_step = config.algorithm.learned_per_step
    steps = max(2, -(-responses // a_step))
    seconds = train(model, config, a_step, steps)
    nan = float("nan")
    return _figures(seconds, steps * a_step, nan, nan, nan, nan, nan) | {"half": 0.0, "token": nan}


def run_peak(threads: int, overrides: list[str]) -> dict[str, float]:
    """What large matrix products reach, on the device that the engine takes, in the numbers that `overrides` say."""
    import torch

    from rlhf_engine.config import presets
    from rlhf_engine.models.flops import matmul_peak
    from rlhf_engine.models.loading import choose_device, choose_dtype

    torch.set_num_threads(threads)
    wanted = presets.load_with_overrides("notebook", overrides).model
    device = choose_device(wanted.device)
    return {"peak": matmul_peak(choose_dtype(wanted.dtype, device), device, seconds=2.0)}


def _figures(
    seconds: float, responses: int, tokens: float, operations: float, rollout: float, score: float, update: float
) -> dict[str, float]:
    return {
        "responses_per_s": responses / seconds,
        "tokens_per_s": tokens / seconds,
        "operations_per_s": operations / seconds,
        "rollout": rollout / responses,
        "score": score / responses,
        "update": update / responses,
        "peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0,
    }


# --- outside ---


def child(contestant: str, model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    """Run a contestant in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.throughput", "--contestant", contestant, "--models", model]
    command += ["--threads", str(threads), "--responses", str(responses), "--set", *overrides]
    share_cores()  # as the commands do: the child inherits it before it imports torch
    environment = os.environ | {"PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def best_threads(contestant: str, model: str, responses: int, overrides: list[str]) -> int:
    """The number of threads (1, 2, 4, … cores) with which a contestant is fastest."""
    cores = len(os.sched_getaffinity(0))
    tried = {}
    for threads in [n for n in (1, 2, 4, 8, 16, 32, 64) if n <= cores]:
        tried[threads] = child(contestant, model, threads, responses, overrides)["responses_per_s"]
    return max(tried, key=lambda threads: tried[threads])


def measure(
    model: str, contestants: list[str], rounds: int, responses: dict[str, int], overrides: list[str],
    wanted: int | None = None,
) -> list[dict[str, Any]]:
    """One row a contestant. wanted: threads; left out, each contestant has its best number."""
    threads = {name: wanted or best_threads(name, model, responses[name] // 2, overrides) for name in contestants}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    peaks: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name in contestants:
            run = child(name, model, threads[name], responses[name], overrides)
            found[name].append(run)
            dtype = ["model.dtype=bfloat16" if run["half"] else "model.dtype=float32"]
            peaks[name].append(child("peak", model, len(os.sched_getaffinity(0)), 0, [*overrides, *dtype])["peak"])
    rows = []
    for name, runs in found.items():
        row: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        row |= {"contestant": name, "threads": threads[name], "peak": statistics.median(peaks[name])}
        row["of_peak"] = row["operations_per_s"] / row["peak"]
        row["all_responses_per_s"] = [round(run["responses_per_s"], 2) for run in runs]
        rows.append(row)
    for row in rows:
        row["ratio"] = row["responses_per_s"] / rows[0]["responses_per_s"]
        row["rss_ratio"] = row["peak_rss"] / rows[0]["peak_rss"]
    return rows


def print_rows(model: str, rows: list[dict[str, Any]]) -> None:
    """A table in Markdown."""
    print(f"\n{model}\n")
    columns = ("contestant", "numbers", "peak of products (all cores)", "threads", "responses/s", "ratio", "tokens/s",
               "peak RSS", "of peak", "rollout", "score", "update", "a token")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for row in rows:
        times = " | ".join(f"{row[phase] * 1000:.0f} ms" for phase in ("rollout", "score", "update"))
        line = (
            f"| {CONTESTANTS[row['contestant']]} | {'bfloat16' if row['half'] else 'float32'} | "
            f"{row['peak'] / 1e9:.0f} GFLOP/s | {row['threads']} | {row['responses_per_s']:.2f} | "
            f"{row['ratio']:.1f} | {row['tokens_per_s']:.0f} | "
            f"{row['peak_rss'] / 2**20:.0f} MB ({row['rss_ratio']:.0%}) | "
            f"{row['of_peak']:.0%} | {times} | {row['token'] * 1000:.2f} ms |"
        )
        print(re.sub(r"nan( ms|%|)", "–", line))  # of TRL only the whole is timed
    print("\nseconds are per response; responses/s of each round: ", end="")
    print("; ".join(f"{row['contestant']} {row['all_responses_per_s']}" for row in rows), flush=True)


def main() -> None:
    """Print the tables, or inside a child one contestant's figures."""
    parser = argparse.ArgumentParser(description="The engine beside the textbook loop.")
    parser.add_argument("--models", nargs="+", default=["storyteller", "33M"],
                        help=f"storyteller, {', '.join(_SHAPES)}, or a folder")
    parser.add_argument("--against", nargs="+", choices=list(CONTESTANTS), default=["textbook", "engine"],
                        help="contestants; ratios are to the first")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="settings of the preset to change")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--record", action="store_true", help="keep the ratios in history.jsonl")
    parser.add_argument("--contestant", choices=[*CONTESTANTS, "peak"], help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help="of every contestant; by default the best number is looked for")
    parser.add_argument("--responses", type=int, default=16, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contestant:
        print(json.dumps(_contest(args.contestant, args.models[0], args.threads or 1, args.responses, args.set)))
        return
    if "trl" in args.against and find_spec("trl") is None:
        parser.error("trl is not installed here: pip install trl, or leave it out of --against")
    results = {}
    with tempfile.TemporaryDirectory() as root:
        for model in args.models:
            source = _made(Path(root) / model) if model in _SHAPES else model
            slow, fast = (6, 48) if model in _SHAPES else (32, 160)
            responses = dict.fromkeys(CONTESTANTS, fast) | {"textbook": slow}
            results[model] = measure(source, args.against, args.rounds, responses, args.set, args.threads)
            if not args.json:
                print_rows(model, results[model])
    if args.json:
        print(json.dumps(results))
    if args.record:
        history.record("throughput", {f"{model}, {row['contestant']} beside {rows[0]['contestant']}": row["ratio"]
                                      for model, rows in results.items() for row in rows[1:]})


def _contest(contestant: str, model: str, threads: int, responses: int, overrides: list[str]) -> dict[str, float]:
    from rlhf_engine.storyteller import MODEL_DIR

    if contestant == "peak":
        return run_peak(threads, overrides)
    run = {"textbook": run_textbook, "engine": run_engine, "grpo": run_grpo, "trl": run_trl}[contestant]
    return run(str(MODEL_DIR) if model == "storyteller" else model, threads, responses, overrides)


def _made(folder: Path) -> str:
    """A model of random weights in the shape that the folder is named after."""
    from benchmarks.shapes import save_gpt_neo, save_llama

    if folder.name == "33M":
        return str(save_gpt_neo(folder))
    if folder.name == "1B":
        return str(save_llama(folder))
    return str(save_llama(folder, layers=24, width=896, inner=4864, heads=14, key_value_heads=2, vocabulary=151_936,
                          tied=True))


if __name__ == "__main__":
    main()
