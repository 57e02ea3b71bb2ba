"""Pre-train the storyteller from nothing on fresh stories of the grammar, within a given number of minutes."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
import torch.nn.functional as F

from storyteller_maker.batches import IGNORED, Batch, Batches
from storyteller_maker.export import export
from storyteller_maker.tokenizer import CONTEXT, END_ID, PAD_ID, load

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Architecture = Literal["gpt_neo", "llama"]
LossFunction = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
LAYERS, WIDTH, HEADS = 4, 160, 4
VALIDATION_SEED, HELD_OUT = 990_001, 12  # seed of the stories kept apart, and batches of them
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # of mallopt(3)


@dataclass(frozen=True)
class Plan:
    """How to train; the rates fall linearly to zero over the minutes given, or over the steps if those are fewer."""

    minutes: float = 68.0
    steps: int | None = None
    size: int = 32
    seed: int = 1
    adam_rate: float = 3e-3
    muon_rate: float = 0.03
    muon_decay: float = 0.02
    warm_up: int = 100
    averaging: float = 0.995
    threads: int = 1
    compiled: bool = True
    architecture: Architecture = "gpt_neo"
    save_every_minutes: float = 8.0


def keep_memory() -> None:
    """Ask glibc to keep freed memory: handing large tensors back after each step costs half of the time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
            libc.mallopt(parameter, value)


def new_model(vocabulary: int, seed: int, architecture: Architecture = "gpt_neo") -> PreTrainedModel:
    """A small model with random weights: the storyteller's GPT-Neo, or a Llama to try things on a second one."""
    from transformers import GPTNeoConfig, GPTNeoForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=WIDTH,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            num_key_value_heads=HEADS,
            intermediate_size=5 * WIDTH // 2,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=END_ID,
            eos_token_id=END_ID,
            pad_token_id=PAD_ID,
        ))
    config = GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        num_layers=LAYERS,
        num_heads=HEADS,
        attention_types=[[["global"], LAYERS]],
        max_position_embeddings=CONTEXT,
        window_size=CONTEXT,
        intermediate_size=4 * WIDTH,
        embed_dropout=0.0,
        attention_dropout=0.0,
        resid_dropout=0.0,
        bos_token_id=END_ID,
        eos_token_id=END_ID,
        pad_token_id=PAD_ID,
    )
    return GPTNeoForCausalLM(config)


def loss_function(model: PreTrainedModel, compiled: bool) -> LossFunction:
    """Mean loss per predicted token."""

    def loss(ids: torch.Tensor, targets: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED)

    if not compiled:
        return loss
    function: LossFunction = torch.compile(loss, dynamic=True)
    return function


def optimizers(model: PreTrainedModel, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings, gains and biases."""
    inner = [p for name, p in model.named_parameters() if p.dim() == 2 and (".h." in name or ".layers." in name)]
    held = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in held]
    adam = torch.optim.AdamW(outer, lr=plan.adam_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    built = [torch.optim.Muon(inner, plan.muon_rate, weight_decay=plan.muon_decay), adam]
    for optimizer in built:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return built


class Average:
    """A running average of the weights, which is what gets saved."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """Move towards the model's weights, faster in the beginning."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in model.named_parameters():
            self.values[name].lerp_(parameter, 1 - decay)


@torch.no_grad()
def validate(model: PreTrainedModel, values: dict[str, torch.Tensor], batches: list[Batch]) -> float:
    """Mean loss per token of the averaged weights on stories kept apart."""
    total = count = 0.0
    for batch in batches:
        kwargs = {"input_ids": batch.ids, "position_ids": batch.positions, "use_cache": False}
        logits = torch.func.functional_call(model, values, kwargs=kwargs).logits
        tokens = int((batch.targets != IGNORED).sum())
        loss = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORED)
        total, count = total + float(loss) * tokens, count + tokens
    return total / count


def progress(plan: Plan, step: int, seconds: float) -> float:
    """How much of the training is done, between 0 and 1 or a little more."""
    return max(seconds / (60 * plan.minutes), step / plan.steps if plan.steps else 0.0)


def rates(plan: Plan, step: int, done: float) -> float:
    """Factor on the learning rates: a warm-up over steps, then linear decay over the time given."""
    return min(1.0, (step + 1) / plan.warm_up) * max(0.0, 1.0 - done)


def train(plan: Plan, tokenizer: PreTrainedTokenizerFast, out: Path) -> PreTrainedModel:
    """Train until the time is up; log to out/log.jsonl, save the averaged model to out/latest now and then."""
    keep_memory()
    torch.set_num_threads(plan.threads)
    model = new_model(len(tokenizer), plan.seed, plan.architecture)
    loss_of, built = loss_function(model, plan.compiled), optimizers(model, plan)
    average = Average(model, plan.averaging)
    held_out = Batches(tokenizer, plan.size, VALIDATION_SEED).chunk()[:HELD_OUT]
    stream: Iterator[Batch] = iter(Batches(tokenizer, plan.size, plan.seed))
    start = saved = logged = time.monotonic()
    tokens = step = 0
    while (done := progress(plan, step, (now := time.monotonic()) - start)) < 1:
        factor = rates(plan, step, done)
        batch = next(stream)
        loss = loss_of(batch.ids, batch.targets, batch.positions)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in built:
            for group in optimizer.param_groups:
                group["lr"] = factor * group["peak"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(model, step)
        step, tokens = step + 1, tokens + int((batch.targets != IGNORED).sum())
        if now - logged > 60:
            logged = now
            record = {"minutes": round((now - start) / 60, 1), "step": step, "tokens": tokens, "loss": loss.item()}
            note(out, {**record, "validation": validate(model, average.values, held_out)})
        if now - saved > 60 * plan.save_every_minutes:
            saved = now
            export(model, average.values, tokenizer, out / "latest")
    export(model, average.values, tokenizer, out / "latest")
    note(out, {"step": step, "tokens": tokens, "validation": validate(model, average.values, held_out)})
    return model


def note(out: Path, record: dict[str, float]) -> None:
    """Append a line to the log."""
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(record) + "\n")


def main() -> None:
    """Pre-train the storyteller; the tokenizer must exist."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("tokenizer", type=Path, help="folder of the tokenizer")
    parser.add_argument("out", type=Path, help="folder for the log and the model (out/latest)")
    parser.add_argument("--minutes", type=float, default=Plan.minutes)
    parser.add_argument("--steps", type=int, help="stop after so many steps, if the minutes last so long")
    parser.add_argument("--seed", type=int, default=Plan.seed)
    parser.add_argument("--threads", type=int, default=Plan.threads)
    parser.add_argument("--adam-rate", type=float, default=Plan.adam_rate)
    parser.add_argument("--muon-rate", type=float, default=Plan.muon_rate)
    parser.add_argument("--save-every-minutes", type=float, default=Plan.save_every_minutes)
    parser.add_argument("--eager", action="store_true", help="do not compile (slower, but starts at once)")
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    args.out.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        minutes=args.minutes,
        steps=args.steps,
        seed=args.seed,
        threads=args.threads,
        adam_rate=args.adam_rate,
        muon_rate=args.muon_rate,
        save_every_minutes=args.save_every_minutes,
        compiled=not args.eager,
    )
    train(plan, load(args.tokenizer), args.out)


if __name__ == "__main__":
    main()
