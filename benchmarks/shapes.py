"""Models to measure on: the storyteller, and random weights in the shape of larger ones."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoConfig, GPTNeoForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def save_gpt_neo(folder: Path, *, layers: int = 4, width: int = 768, heads: int = 16, vocabulary: int = 50_257) -> Path:
    """GPT-Neo with random weights, by default in the shape of TinyStories-33M (Eldan & Li 2023).

    It has no end token, so that all responses are equally long, and a tokenizer of made-up words, one a token.
    """
    torch.manual_seed(0)
    config = GPTNeoConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_layers=layers,
        num_heads=heads,
        attention_types=[[["global", "local"], layers // 2]],
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    GPTNeoForCausalLM(config).save_pretrained(folder)
    return _save_tokenizer(folder, vocabulary)


def save_llama(
    folder: Path, *, layers: int = 22, width: int = 2048, inner: int = 5632, heads: int = 32, key_value_heads: int = 4,
    vocabulary: int = 32_000, tied: bool = False,
) -> Path:
    """Llama with random weights in bfloat16, by default in the shape of TinyLlama-1.1B (Zhang et al. 2024)."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        tie_word_embeddings=tied,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return _save_tokenizer(folder, vocabulary)


def _save_tokenizer(folder: Path, vocabulary: int) -> Path:
    words = {"<pad>": 0, "<unknown>": 1} | {f"word{index}": index for index in range(2, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unknown>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unknown>")
    fast.save_pretrained(folder)
    return folder
