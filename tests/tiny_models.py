"""Tiny random models in Hugging Face format, made in a second, for tests of the real loading code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from rlhf_engine.algorithms.base import Resources
from rlhf_engine.algorithms.ppo import PPO
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.config.sections import SamplingConfig
from rlhf_engine.models.choice import DrawnAhead
from rlhf_engine.models.decoding.prepared import PreparedDecoder
from rlhf_engine.models.policy import Policy
from rlhf_engine.models.rollout import sample

VOCABULARY = 258  # every byte, an end token, a padding token


class Likeliest:
    """A `Draw` of the likeliest id."""

    def noise(self, generator: torch.Generator, tokens: int, rows: int, columns: int) -> DrawnAhead:
        return DrawnAhead(torch.zeros(tokens, rows))

    def pick(self, probabilities: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return probabilities.argmax(dim=-1)


def save_tiny_model(folder: Path, architecture: str, *, own_padding: bool = True) -> Path:
    """A random gpt_neo, llama or gpt2 (with dropout), and a byte tokenizer that may pad with its end token."""
    torch.manual_seed(0)
    ids = {"bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 257 if own_padding else 256}
    if architecture == "gpt_neo":
        config = GPTNeoConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            num_layers=2,
            num_heads=4,
            attention_types=[[["global", "local"], 1]],
            window_size=8,
            max_position_embeddings=64,
            **ids,
        )
        model = GPTNeoForCausalLM(config)
    elif architecture == "llama":
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            **ids,
        )
        model = LlamaForCausalLM(config)
    else:
        config = GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            resid_pdrop=0.1,
            embd_pdrop=0.1,
            attn_pdrop=0.1,
            **ids,
        )
        model = GPT2LMHeadModel(config)
    for parameter in model.parameters():  # random initial weights are so small that every test would see ties
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    save_byte_tokenizer(folder, own_padding=own_padding)
    return folder


def save_byte_tokenizer(folder: Path, *, own_padding: bool = True) -> None:
    """A tokenizer of 256 bytes and an end token, which is also the padding unless that is a token of its own."""
    _byte_tokenizer(own_padding).save_pretrained(folder)


def _byte_tokenizer(own_padding: bool) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {"<|end|>": 256, "<|pad|>": 257}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|end|>",
        eos_token="<|end|>",
        pad_token="<|pad|>" if own_padding else "<|end|>",
    )


def tiny_config(folder: Path, **sections: object) -> RunConfig:
    """A config for a tiny model: small batches, no whitening surprises, one word list."""
    base = {
        "data": {"prompts": ["Once", "There was a", "x", "Long ago"]},
        "model": {"name": str(folder), "dtype": "float32", "device": "cpu"},
        "lora": {"rank": 4, "alpha": 8.0, "target_modules": []},
        "sampling": {"max_new_tokens": 12},
        "algorithm": {"responses_per_step": 8, "minibatch_size": 4, "epochs": 2},
        "train": {"steps": 3, "seed": 1, "threads": 1, "checkpoint_every": 1, "keep_checkpoints": 10},
        "sentinel": {"truncated_share": None},  # a random model ends nothing
        "rewards": [{"kind": "length", "name": "length", "min_words": 3, "penalty_per_word": 1.0}],
    }
    for name, values in sections.items():
        base[name] = {**base.get(name, {}), **values} if isinstance(values, dict) else values
    return RunConfig.model_validate(base)


def stir(policy: Policy, seed: int = 0) -> None:
    """Give both adapters and the value head random weights, as if they had learnt something."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters.values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def look_at_all_positions(policy: Policy) -> None:
    """Have a tiny gpt_neo look at all positions: it has a window of 8."""
    for block in policy.base.base_model.h:
        block.attn.attention.attention_type = "global"
        block.attn.attention.bias = block.attn.attention.bias.new_ones(block.attn.attention.bias.shape).tril()


@torch.no_grad()
def says_what_transformers_says(policy: Policy) -> None:
    """Assert it of greedy responses to left-padded prompts, by the decoder that training would use, and of the
    log-probs that they would be trained on: against plain passes over each row alone."""
    generator = torch.Generator().manual_seed(0)
    rollout = sample(policy, ["Once upon a time", "x", "There was"], SamplingConfig(max_new_tokens=8), generator,
                     decoder=PreparedDecoder(policy), draw=Likeliest())
    ids, mask, response_mask = rollout.batch(torch.arange(len(rollout)))
    found = policy.log_probs("actor", ids, mask, response_mask.shape[1], 1.0).log_probs
    for row in range(len(rollout)):
        whole = torch.cat([rollout.prompt_ids[row][rollout.prompt_mask[row]],
                           rollout.response_ids[row][rollout.response_mask[row]]])
        width = int(rollout.response_mask[row].sum())
        logits = policy.base(input_ids=whole[None]).logits[0, -width - 1 : -1].float()
        logits[:, policy.banned] = -torch.inf
        log_p = logits.log_softmax(-1)
        expected = log_p.gather(-1, whole[-width:, None])[:, 0]
        torch.testing.assert_close(log_p.max(dim=-1).values, expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(found[row, :width], expected, atol=1e-4, rtol=1e-4)


def make_ppo(config: RunConfig, tell: Callable[[str], None] = lambda text: None, policy: Policy | None = None) -> PPO:
    """PPO as a trainer would make it, on a policy of its own if none is given."""
    return PPO(config, Resources.of(policy or Policy.from_config(config), config, tell))
