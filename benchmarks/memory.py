"""Memory of each method beside PPO: python -m benchmarks.memory [--models storyteller 33M] [--methods grpo sft …]

The same batch for all: 64 responses (--responses) of about 60 tokens a step, half as many pairs for DPO, 16 responses
in a forward pass, two steps. Each method runs in a process of its own; told is the peak of its resident memory, and
what its adapters and their optimizers hold.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rlhf_engine.system.cores import share_cores

METHODS = ("ppo", "grpo", "rloo", "reinforce", "online_dpo", "dpo", "sft")
WORDS = 60
_TEXT = ("there was a little fox who lived in a big wood and one day the fox saw a bird " * 4).split()


# --- inside a child process ---


def config_of(model: str, method: str, threads: int, responses: int) -> Any:
    """Preset `animals` with its model and method replaced, and rows of its length for methods that sample nothing."""
    from rlhf_engine.config import presets
    from rlhf_engine.config.fields import validate

    data = presets.load_with_overrides("animals", [f"model.name={model}"]).model_dump()
    prompts = (data["data"]["prompts"] * responses)[:responses]
    response = " " + " ".join(_TEXT[:WORDS])
    sizes: dict[str, Any] = {"responses_per_step": responses, "minibatch_size": responses // 2}
    if method in ("grpo", "rloo", "online_dpo"):
        sizes |= {"group_size": 4}
    if method == "online_dpo":
        sizes |= {"minibatch_size": responses // 8}
    if method == "dpo":
        sizes = {"pairs_per_step": responses // 2}
        data["data"] |= {"prompts": prompts, "chosen": [response] * responses,
                         "rejected": [" " + " ".join(_TEXT[WORDS - 1::-1])] * responses}
    if method == "sft":
        sizes = {"texts_per_step": responses, "minibatch_size": responses // 2}
        data["data"] |= {"texts": [prompt + response for prompt in prompts]}
    data["algorithm"] = {"kind": method, **sizes}
    data["kl"] |= {"controller": "fixed", "coef": 0.1}
    data["train"] |= {"steps": 2, "threads": threads, "micro_batch_size": 16}
    data["probe"] |= {"every": 0}
    data["sampling"] |= {"max_new_tokens": WORDS}
    return validate(data)


def run(model: str, method: str, threads: int, responses: int) -> dict[str, float]:
    """Two steps; bytes."""
    from rlhf_engine.training.trainer import Trainer

    trainer = Trainer(config_of(model, method, threads, responses), run_dir=None, emit=lambda event: None)
    trainer.run()
    assert trainer.algorithm is not None
    state = trainer.algorithm.state().tensors
    held = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    return {"peak_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0, "state": float(held)}


# --- outside ---


def child(model: str, method: str, threads: int, responses: int) -> dict[str, float]:
    """Run a method in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", "--method", method, "--models", model,
               "--threads", str(threads), "--responses", str(responses)]
    share_cores()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"PYTHONWARNINGS": "ignore"})
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def print_rows(model: str, found: dict[str, dict[str, float]]) -> None:
    """A table in Markdown."""
    print(f"\n{model}\n\n| method | peak RSS | less than PPO | adapters and optimizers |\n|---|---|---|---|")
    most = found["ppo"]["peak_rss"]
    for method, row in found.items():
        less = "" if method == "ppo" else f"{(most - row['peak_rss']) / 2**20:,.0f} MB"
        print(f"| {method} | {row['peak_rss'] / 2**20:,.0f} MB | {less} | {row['state'] / 2**20:.1f} MB |", flush=True)


def main() -> None:
    """Print the tables, or inside a child one method's figures."""
    parser = argparse.ArgumentParser(description="Memory of each method beside PPO.")
    parser.add_argument("--models", nargs="+", default=["storyteller", "33M"], help="storyteller, 33M, or a folder")
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS, help="ppo is measured in any case")
    parser.add_argument("--responses", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.method:
        print(json.dumps(run(args.models[0], args.method, args.threads, args.responses)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as root:
        for model in args.models:
            source = model
            if model == "33M":
                from benchmarks.shapes import save_gpt_neo

                source = str(save_gpt_neo(Path(root) / model))
            results[model] = {method: child(source, method, args.threads, args.responses)
                              for method in METHODS if method == "ppo" or method in args.methods}
            if not args.json:
                print_rows(model, results[model])
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
