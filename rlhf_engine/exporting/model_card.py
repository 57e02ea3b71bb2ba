"""The README of an exported run: what it is, how it was trained, how to load it. No torch, and no path of this machine.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import fmean
from typing import Any

from rlhf_engine import __version__
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.files.json_text import to_json
from rlhf_engine.metrics import STEPS_AVERAGED, describe
from rlhf_engine.model_folders.adapter_folder import WELL_KEPT
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import MetricsLine
from rlhf_engine.system.visible_text import one_line

_TOLD = 2  # of the metrics of its method, the most telling


def model_card(
    run_dir: RunDir, step: int, config: RunConfig, kind: str, base: tuple[str, str | None], dtype: str,
    numbers: Mapping[str, Any] | None = None, lost: str = "",
) -> str:
    """Markdown for the run's actor after `step`, or its reward model.

    kind: "adapter" or "merged"; base: what peft loads, and its revision; dtype: the number format it was trained on,
    and that of merged weights; numbers: those of the checkpoint, which say what the scores of a reward model mean;
    lost: a sentence about what rounding took.
    """
    scores = config.algorithm.scores_texts
    name, revision = base
    local = Path(name).is_absolute()
    shown = Path(name).name if local else name
    if config.model.name == "storyteller":
        shown = "storyteller (ships with rlhf-tui)"
    task = "text-classification" if scores else "text-generation"
    header = {"library_name": "peft" if kind == "adapter" else "transformers", "pipeline_tag": task,
              "tags": ["rlhf", config.algorithm.kind, "lora"]} | ({} if local else {"base_model": name})
    facts = [
        ("base model", shown + (f", revision {revision}" if revision else "") + f", in {dtype}"),
        ("run", f"{run_dir.name}, step {step} of {config.train.steps}"),
        ("preset", run_dir.preset and Path(run_dir.preset).stem),
        ("method", config.algorithm.summary(config)),
        ("adapter", f"LoRA, rank {config.lora.rank}, alpha {config.lora.alpha:g}"),
        ("weights", f"base and adapter merged, in {dtype}" if kind == "merged" else "the adapter's alone, in float32"),
        ("rounding", lost),
        ("rewards", ", ".join(f"{reward.name} ({reward.kind})" for reward in config.rewards)),
        *(_score_facts(numbers or {}) if scores else ()),
        *_measured(deque((line for line in run_dir.each_step() if line.step <= step), maxlen=STEPS_AVERAGED),
                   config.algorithm.charts[:_TOLD]),
    ]
    rows = "\n".join(f"| {what} | {_cell(value)} |" for what, value in facts if value)
    loading = _loading_classifier(kind, dtype, config) if scores else _loading(kind, dtype)
    front = "\n".join(f"{key}: {to_json(value)}" for key, value in header.items())
    return (f"---\n{front}\n---\n\n# {_cell(run_dir.name)}, step {step}\n\n{_cell(config.description)}\n\n"
            f"| | |\n|---|---|\n{rows}\n\n## Loading\n\n```python\n{loading}```\n\n"
            f"Written by rlhf-tui {__version__}.\n")


def loss_told(kept: float | None, dtype: str) -> str:
    """One sentence if a merged model has lost part of what was learnt; else empty. kept: None of what is not merged."""
    if kept is None or kept >= WELL_KEPT:
        return ""
    return (f"rounded to {dtype}, the merged weights keep {max(kept, 0.0):.0%} of what the adapter adds to them; the "
            "adapter alone keeps all of it")


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


def _score_facts(numbers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where 0 and 1 of the scores lie."""
    pairs = list(zip(numbers.get("center", ()), numbers.get("scale", ()), strict=False))
    told = ", ".join(f"(raw − {center:.4g}) / {scale:.4g}" for center, scale in pairs)
    return [("score", f"{told}; raw is what the model says at the last token of the prompt with the response behind "
                      "it, without an end token; center and scale were measured on answers of the untrained base")]


def _loading_classifier(kind: str, dtype: str, config: RunConfig) -> str:
    member = "" if len(config.algorithm.needs.heads) == 1 else "/member-1"
    load = f"""from transformers import AutoModelForSequenceClassification, AutoTokenizer

folder = "PATH/OF/THIS/FOLDER{member}"
tokenizer = AutoTokenizer.from_pretrained(folder)
"""
    if kind == "merged":
        load += "model = AutoModelForSequenceClassification.from_pretrained(folder)\n"
    else:
        load = "from peft import AutoPeftModelForSequenceClassification\n" + load.replace(
            "AutoModelForSequenceClassification, ", "") + (
            "model = AutoPeftModelForSequenceClassification.from_pretrained("
            f'folder, num_labels=1, dtype="{dtype}")\n')
    return load + ('raw = model.eval()(**tokenizer("PROMPT AND RESPONSE", return_tensors="pt")).logits[0, 0]\n'
                   "# for a batch: model.config.pad_token_id must be set, and no text end with that token\n")


def _cell(text: str) -> str:
    """One line of a table, with nothing in it that Markdown would read as markup of its own."""
    flat = one_line(" ".join(text.split()))
    return "".join("\\" + letter if letter in "\\`*_{}[]<>|" else letter for letter in flat)
