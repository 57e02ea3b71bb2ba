"""Write a model and its tokenizer as a plain Hugging Face folder, in half precision and readable by all."""

from __future__ import annotations

import argparse
import copy
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from rlhf_engine.exporting.tokenizer import save_tokenizer
from storyteller_maker.tokenizer import END_ID, PAD_ID

if TYPE_CHECKING:
    from transformers import GenerationConfig, GPTNeoForCausalLM, PreTrainedModel, PreTrainedTokenizerFast


def export(
    model: PreTrainedModel,
    values: dict[str, torch.Tensor],
    tokenizer: PreTrainedTokenizerFast,
    folder: Path,
) -> None:
    """Save `model` with these weights; other files in the folder stay as they are."""
    clone = copy.deepcopy(model)
    clone.load_state_dict(values, strict=False)
    clone.tie_weights()
    clone.generation_config = generation_config()
    folder.mkdir(parents=True, exist_ok=True)
    clone.half().save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    for path in folder.iterdir():
        path.chmod(0o644)


@torch.no_grad()
def temper(model: GPTNeoForCausalLM, temperature: float) -> None:
    """Fold a temperature into the last layer norm, so that sampling at 1 is what sampling at it was before."""
    model.transformer.ln_f.weight.div_(temperature)
    model.transformer.ln_f.bias.div_(temperature)


def generation_config() -> GenerationConfig:
    """Sampling from the whole distribution unless a caller asks for less."""
    from transformers import GenerationConfig

    whole = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    return GenerationConfig(bos_token_id=END_ID, eos_token_id=END_ID, pad_token_id=PAD_ID, **whole)


def main() -> None:
    """Write a run's latest model into another folder, by default that of the package."""
    from rlhf_engine.storyteller import MODEL_DIR
    from storyteller_maker.measure import load_model

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("source", type=Path, help="folder of a model")
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL_DIR)
    parser.add_argument("--temperature", type=float, default=1.0, help="fold this temperature into the weights")
    args = parser.parse_args()
    model, tokenizer = load_model(args.source)
    temper(model, args.temperature)
    export(model, dict(model.named_parameters()), tokenizer, args.folder)


if __name__ == "__main__":
    main()
