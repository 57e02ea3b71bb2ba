"""TRL's GRPO at the same work, where `trl` is installed (it is none of our dependencies): a contestant of `throughput`.

Groups of eight responses, sampled by transformers' `generate`, two updates, LoRA adapters of the same rank on the same
layers, a KL term, and no critic: less work than PPO does. On a GPU it trains in bfloat16, as the engine does.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

from rlhf_engine.config.run_config import RunConfig

_GROUP = 8


def train(folder: str, config: RunConfig, responses: int, steps: int) -> float:
    """Seconds that TRL takes for `steps` steps of `responses` responses each, after one that warms it up."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    on_gpu = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.eos_token = tokenizer.eos_token or tokenizer.pad_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if on_gpu else torch.float32)
    ended: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ended.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as out:
        settings = GRPOConfig(
            output_dir=out, per_device_train_batch_size=responses, num_generations=_GROUP, num_iterations=2,
            max_completion_length=config.sampling.max_new_tokens, temperature=config.sampling.temperature, beta=0.1,
            learning_rate=config.optimizer.learning_rate, max_steps=2 * (steps + 1), use_cpu=not on_gpu, bf16=on_gpu,
            save_strategy="no", report_to=[], logging_steps=1, disable_tqdm=True, gradient_checkpointing=False)
        GRPOTrainer(
            model=model, args=settings, processing_class=tokenizer, callbacks=[Clock()],
            train_dataset=Dataset.from_dict({"prompt": list(config.data.prompts) * responses}),
            reward_funcs=lambda completions, **columns: [float(len(set(text.split()))) for text in completions],
            peft_config=LoraConfig(r=config.lora.rank, lora_alpha=config.lora.alpha, task_type="CAUSAL_LM",
                                   target_modules=_target_modules(config)),
        ).train()
    return ended[-1] - ended[1]  # a rollout serves two optimizer steps, of which the first two warmed up


def _target_modules(config: RunConfig) -> str | list[str] | None:
    wanted = list(config.lora.target_modules)
    return "all-linear" if wanted == ["all-linear"] else wanted or None
