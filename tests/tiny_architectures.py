"""Tiny random models of other architectures than those of `tiny_models`: one for each way of not being a Llama."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_models import VOCABULARY, save_byte_tokenizer

_IDS = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 256, "pad_token_id": 257}
_LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 64, **_IDS}
_GPT = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, **_IDS}
_BERT = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, **_IDS}
_MAMBA = {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, **_IDS}
_SEEING = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
           "image_size": 28, "patch_size": 14}
_BART = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
         "decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64,
         "decoder_start_token_id": 256, **_IDS}


def _jamba() -> Any:
    return hf.JambaForCausalLM(hf.JambaConfig(
        **_LLAMA | {"num_hidden_layers": 4}, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2,
        expert_layer_offset=1, num_experts=2, num_experts_per_tok=1, mamba_d_state=8, mamba_dt_rank=4,
        use_mamba_kernels=False))


def _gemma3_seeing() -> Any:
    text = _LLAMA | {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
    return hf.Gemma3ForConditionalGeneration(hf.Gemma3Config(
        text_config=text, vision_config=_SEEING, mm_tokens_per_image=4, image_token_index=250, boi_token_index=251,
        eoi_token_index=252, pad_token_id=257, eos_token_id=256, bos_token_id=256))


def _llava() -> Any:
    text = hf.LlamaConfig(**_LLAMA)
    return hf.LlavaForConditionalGeneration(hf.LlavaConfig(
        text_config=text, vision_config=hf.CLIPVisionConfig(**_SEEING, projection_dim=32), image_token_index=250))


def _mllama() -> Any:
    text = {name: value for name, value in _LLAMA.items() if name != "head_dim"} | {"pad_token_id": 0}
    return hf.MllamaForConditionalGeneration(hf.MllamaConfig(
        text_config=text | {"cross_attention_layers": [1]}, image_token_index=250,
        vision_config={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_global_layers": 1,
                       "attention_heads": 4, "image_size": 28, "patch_size": 14, "vision_output_dim": 64,
                       "intermediate_layers_indices": [0], "max_num_tiles": 1, "supported_aspect_ratios": [[1, 1]]}))


BUILDERS: dict[str, Callable[[], Any]] = {
    # learned positions with an offset; ALiBi three times; rotary; capped and scaled logits; a sliding window
    "opt": lambda: hf.OPTForCausalLM(hf.OPTConfig(
        hidden_size=32, word_embed_proj_dim=32, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=64, **_IDS)),
    "bloom": lambda: hf.BloomForCausalLM(hf.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **_IDS)),
    "mpt": lambda: hf.MptForCausalLM(hf.MptConfig(d_model=32, n_heads=4, n_layers=2, max_seq_len=64, **_IDS)),
    "falcon": lambda: hf.FalconForCausalLM(hf.FalconConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True, **_IDS)),
    "gpt_neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_BERT, max_position_embeddings=64)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(
        **{name: value for name, value in _LLAMA.items() if name != "head_dim"})),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**_LLAMA, sliding_window=8)),
    "cohere": lambda: hf.CohereForCausalLM(hf.CohereConfig(**_LLAMA, logit_scale=0.25)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**_LLAMA, sliding_window=8)),
    "mixtral": lambda: hf.MixtralForCausalLM(hf.MixtralConfig(**_LLAMA, num_local_experts=4)),
    "dots1": lambda: hf.Dots1ForCausalLM(hf.Dots1Config(
        **_LLAMA, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1,
        moe_intermediate_size=16, first_k_dense_replace=0)),
    # experts that tokens are sent to by numbers that are read from tensors
    "jetmoe": lambda: hf.JetMoeForCausalLM(hf.JetMoeConfig(
        hidden_size=32, num_hidden_layers=2, num_key_value_heads=2, kv_channels=8, intermediate_size=64,
        num_local_experts=4, num_experts_per_tok=2, max_position_embeddings=64, **_IDS)),
    # a hybrid with state space layers
    "jamba": _jamba,
    # caches of their own, or none
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(**_MAMBA)),
    "mamba2": lambda: hf.Mamba2ForCausalLM(hf.Mamba2Config(**_MAMBA, num_heads=8, head_dim=8, n_groups=1)),
    "minimax": lambda: hf.MiniMaxForCausalLM(hf.MiniMaxConfig(
        **_LLAMA, num_local_experts=2, layer_types=["linear_attention", "full_attention"], block_size=8)),
    "openai-gpt": lambda: hf.OpenAIGPTLMHeadModel(hf.OpenAIGPTConfig(**_GPT)),
    # what reads padded rows otherwise
    "rwkv": lambda: hf.RwkvForCausalLM(hf.RwkvConfig(
        hidden_size=32, attention_hidden_size=32, intermediate_size=64, num_hidden_layers=2, **_IDS)),
    "bart-decoder": lambda: hf.BartForCausalLM(hf.BartConfig(**_BART)),
    # what is no causal language model
    "bart": lambda: hf.BartForConditionalGeneration(hf.BartConfig(**_BART)),
    "bert": lambda: hf.BertLMHeadModel(hf.BertConfig(**_BERT)),
    "bert-generation": lambda: hf.BertGenerationDecoder(hf.BertGenerationConfig(**_BERT)),
    "xlnet": lambda: hf.XLNetLMHeadModel(hf.XLNetConfig(d_model=32, n_layer=2, n_head=4, d_inner=64, **_IDS)),
    # what also sees
    "gemma3": _gemma3_seeing,
    "llava": _llava,
    "mllama": _mllama,
}


def save_architecture(folder: Path, name: str) -> Path:
    """Save a random model of that kind, with the byte tokenizer of `tiny_models`."""
    torch.manual_seed(0)
    model = BUILDERS[name]()
    for parameter in model.parameters():
        if parameter.dim() > 1:  # random initial weights are so small that every test would see ties
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    save_byte_tokenizer(folder)
    return folder
