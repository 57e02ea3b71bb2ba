"""The README of an exported run: what it is, how it was trained, how to load it. No torch, and no path of this machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean

from rlhf_engine import __version__
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.files.json_text import to_json
from rlhf_engine.metrics import STEPS_AVERAGED, describe
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import MetricsLine
from rlhf_engine.system.visible_text import one_line

_TOLD = 2  # of the metrics of its method, the most telling


def model_card(
    run_dir: RunDir, step: int, config: RunConfig, kind: str, base: tuple[str, str | None], dtype: str
) -> str:
    """Markdown for the run's actor after `step`.

    kind: "adapter" or "merged"; base: what peft loads, and its revision; dtype: the number format it was trained on.
    """
    name, revision = base
    local = Path(name).is_absolute()
    shown = Path(name).name if local else name
    if config.model.name == "storyteller":
        shown = "storyteller (ships with rlhf-tui)"
    header = {"library_name": "peft" if kind == "adapter" else "transformers", "pipeline_tag": "text-generation",
              "tags": ["rlhf", config.algorithm.kind, "lora"]} | ({} if local else {"base_model": name})
    facts = [
        ("base model", shown + (f", revision {revision}" if revision else "") + f", in {dtype}"),
        ("run", f"{run_dir.name}, step {step} of {config.train.steps}"),
        ("preset", run_dir.preset and Path(run_dir.preset).stem),
        ("method", config.algorithm.summary(config)),
        ("adapter", f"LoRA, rank {config.lora.rank}, alpha {config.lora.alpha:g}"),
        ("rewards", ", ".join(f"{reward.name} ({reward.kind})" for reward in config.rewards)),
        *_measured(deque((line for line in run_dir.each_step() if line.step <= step), maxlen=STEPS_AVERAGED),
                   config.algorithm.charts[:_TOLD]),
    ]
    rows = "\n".join(f"| {what} | {_cell(value)} |" for what, value in facts if value)
    front = "\n".join(f"{key}: {to_json(value)}" for key, value in header.items())
    return (f"---\n{front}\n---\n\n# {_cell(run_dir.name)}, step {step}\n\n{_cell(config.description)}\n\n"
            f"| | |\n|---|---|\n{rows}\n\n## Loading\n\n```python\n{_loading(kind, dtype)}```\n\n"
            f"Written by rlhf-tui {__version__}.\n")


def _measured(lines: Sequence[MetricsLine], names: Sequence[str]) -> list[tuple[str, str]]:
    """These metrics over the last steps, where they are known."""
    found = []
    for metric in map(describe, names):
        values = [line.metrics[metric.name] for line in lines if isfinite(line.metrics.get(metric.name, float("nan")))]
        if values:
            steps = "the last step" if len(values) == 1 else f"mean of {len(values)} steps"
            unit = f" {metric.unit}" if metric.unit else ""
            found.append((_cell(metric.title), f"{fmean(values):.3g}{unit} ({steps})"))
    return found


def _loading(kind: str, dtype: str) -> str:
    load = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "PATH/OF/THIS/FOLDER"
tokenizer = AutoTokenizer.from_pretrained(folder)
"""
    if kind == "merged":
        return load + "model = AutoModelForCausalLM.from_pretrained(folder)\n"
    return ("from peft import AutoPeftModelForCausalLM\n" + load.replace("AutoModelForCausalLM, ", "")
            + f'model = AutoPeftModelForCausalLM.from_pretrained(folder, dtype="{dtype}")'
            "  # adapter_config.json names the base\n")


def _cell(text: str) -> str:
    """One line of a table, with nothing in it that Markdown would read as markup of its own."""
    flat = one_line(" ".join(text.split()))
    return "".join("\\" + letter if letter in "\\`*_{}[]<>|" else letter for letter in flat)
