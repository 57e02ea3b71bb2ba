"""Ways to decode beside one another: python -m benchmarks.decoding [--models storyteller 33M] [--responses 16 64]

Whole steps of the trainer (preset `notebook`: 60 new tokens, two updates), in one process by turns: one step samples
as the engine does, the next with transformers' own forward pass and a cache of fixed length, the next with
transformers' growing cache. In float32 the second multiplies with merged weights, too. All else is the same, so the
ratio is what a way to decode gives a user. Medians over the turns, after three that warm up. With `--threads 1`
processor time tells the ways apart on a machine that others use, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from rlhf_engine.system.cores import share_cores

_WARM_UP = 3  # turns; in the first ones the engine checks its weights
DECODERS = ("prepared", "static", "plain")
TITLES = {"prepared": "the engine's", "static": "plain pass, cache of fixed length",
          "plain": "plain pass, growing cache"}


# --- inside a child process ---


def make_plain(policy: Any, kind: str) -> Any:
    """Transformers' forward pass, with its growing cache, or with one of fixed length and in float32 merged weights."""
    import torch
    from transformers import DynamicCache, StaticCache

    class Plain:
        def __init__(self) -> None:
            merges = kind == "static" and policy.dtype == torch.float32
            self.weights = [torch.empty_like(linear.weight) for linear in policy.adapted] if merges else []

        @contextmanager
        def merged(self) -> Iterator[None]:
            for linear, weight in zip(policy.adapted, self.weights, strict=False):
                linear.stand_in = partial(torch.nn.functional.linear, weight=weight, bias=linear.bias)
            try:
                yield
            finally:
                for linear in policy.adapted:
                    linear.stand_in = None

        def start(self, ids: torch.Tensor, mask: torch.Tensor, new_tokens: int, *ahead: Any) -> torch.Tensor:
            for linear, weight in zip(policy.adapted, self.weights, strict=False):
                linear.merge(weight)
            self.width = ids.shape[1]
            self.mask = torch.cat([mask, mask.new_ones(len(ids), new_tokens)], dim=1)
            config, length = policy.base.config, self.mask.shape[1]
            self.cache = (StaticCache(config=config, max_cache_len=length) if kind == "static"
                          else DynamicCache(config=config))
            return self.forward(ids)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            mask = self.mask if kind == "static" else self.mask[:, : self.width]
            with self.merged():
                hidden: torch.Tensor = policy.forward(ids, mask, self.cache, width=self.width)[:, -1]
            return hidden

        def step(self, chosen: torch.Tensor) -> torch.Tensor:
            self.width += 1
            return self.forward(chosen.unsqueeze(1))

        def token(self, last: Any, noise: Callable[[], torch.Tensor], choice: Any) -> Any:
            return choice(self.step(last.chosen), last.open_rows, noise())

        def keep(self, rows: torch.Tensor) -> bool:
            return False

    return Plain()


class Turns:
    """A decoder that is another one in every rollout."""

    def __init__(self, policy: Any, tell: Callable[[str], None]) -> None:
        from rlhf_engine.models.decoding.prepared import PreparedDecoder

        self.prepared = PreparedDecoder(policy, tell)
        self.decoders = {"prepared": self.prepared, "static": make_plain(policy, "static"),
                         "plain": make_plain(policy, "plain")}
        self.used: list[str] = []

    def __getattr__(self, name: str) -> Any:  # whatever else the engine asks of a decoder
        return getattr(self.decoders[self.used[-1]], name)

    def start(self, *arguments: Any, **options: Any) -> Any:
        """The next one's turn."""
        self.used.append(DECODERS[len(self.used) % len(DECODERS)])
        return self.decoders[self.used[-1]].start(*arguments, **options)


def run(model: str, responses: int, dtype: str, threads: int, turns: int) -> dict[str, Any]:
    """Seconds of each phase of a step, medians, by decoder."""
    from rlhf_engine.config import presets
    from rlhf_engine.events import Event, StepFinished
    from rlhf_engine.training.trainer import Trainer

    settings = {"model.name": model, "model.dtype": dtype, "train.threads": threads,
                "algorithm.responses_per_step": responses, "algorithm.minibatch_size": responses,
                "train.steps": (turns + _WARM_UP) * len(DECODERS)}
    config = presets.load_with_overrides("notebook", [f"{key}={value}" for key, value in settings.items()])
    metrics: dict[str, list[dict[str, float]]] = {name: [] for name in DECODERS}
    made: list[Turns] = []
    clock = [time.process_time()]

    def keep(event: Event) -> None:
        if isinstance(event, StepFinished):
            now = time.process_time()
            metrics[made[-1].used[-1]].append({**event.metrics, "processor": now - clock[0]})
            clock[0] = now

    def make(policy: Any, tell: Callable[[str], None]) -> Turns:
        made.append(Turns(policy, tell))
        return made[-1]

    with mock.patch("rlhf_engine.algorithms.base.PreparedDecoder", make):
        Trainer(config, run_dir=None, emit=keep).run()
    found: dict[str, Any] = {"why_plain": made[-1].prepared.why_plain}
    for name, steps in metrics.items():
        found[name] = {phase: median(step[f"time/{phase}"] for step in steps[_WARM_UP:])
                       for phase in ("rollout", "score", "update")}
        found[name]["processor"] = median(step["processor"] for step in steps[_WARM_UP:])
    return found


# --- outside ---


def measure(model: str, responses: int, dtype: str, threads: int, turns: int) -> dict[str, Any]:
    """`run` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.decoding", "--child", "--models", model, "--responses", str(responses),
               "--dtypes", dtype, "--threads", str(threads), "--turns", str(turns)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONWARNINGS": "ignore"})
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print one table."""
    share_cores()
    parser = argparse.ArgumentParser(description="Ways to decode beside one another.")
    parser.add_argument("--models", nargs="+", default=["storyteller", "33M"], help="storyteller, 33M, or a folder")
    parser.add_argument("--responses", nargs="+", type=int, default=[16, 64])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(run(args.models[0], args.responses[0], args.dtypes[0], args.threads, args.turns)))
        return
    from rlhf_engine.storyteller import MODEL_DIR

    print("| model | dtype | responses a step | decoding | responses/s | rollout + score + update | processor time of "
          "a step | against the engine's |\n|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for model in args.models:
            source = {"storyteller": str(MODEL_DIR)}.get(model, model)
            if model == "33M":
                from benchmarks.shapes import save_gpt_neo

                source = str(save_gpt_neo(Path(root) / model))
            for dtype in args.dtypes:
                for responses in args.responses:
                    found = measure(source, responses, dtype, args.threads, args.turns)
                    best = found["prepared"]["processor"]
                    for name in DECODERS:
                        spent = found[name]
                        times = " + ".join(f"{spent[phase]:.2f}" for phase in ("rollout", "score", "update"))
                        seconds = sum(spent[phase] for phase in ("rollout", "score", "update"))
                        print(f"| {model} | {dtype} | {responses} | {TITLES[name]} | {responses / seconds:.2f} | "
                              f"{times} s | {spent['processor']:.2f} s | {spent['processor'] / best:.2f} |", flush=True)
                    if found["why_plain"]:
                        print(f"weights not prepared: {found['why_plain']}", flush=True)


if __name__ == "__main__":
    main()
