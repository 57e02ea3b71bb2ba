"""Every causal architecture that transformers brings, as a random model of a few kilobytes: served, or refused?

For each it prints which, and with what sentence. What is served is sampled from, greedily and with an adapter that says
something, and held against plain passes of transformers over each row alone. A traceback ends it. What no tiny config
was found for is named and left out. From the root: PYTHONPATH=.:tests python -m faults.architectures [MODEL_TYPE ...]
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tiny_models import save_byte_tokenizer, says_what_transformers_says, stir, tiny_config
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from rlhf_engine.errors import ModelError
from rlhf_engine.models.policy import Policy

_MOST = 20_000_000  # parameters: beyond, no setting was found that makes it small
_SIZES = {
    258: "vocab_size vocab_size_per_layer_input",
    64: "max_position_embeddings n_positions max_seq_len seq_length intermediate_size ffn_dim d_ff d_inner n_inner dff "
        "encoder_ffn_dim decoder_ffn_dim ffn_hidden_size intermediate_size_mlp dim_ff mamba_d_ssm",
    32: "hidden_size d_model n_embd dim word_embed_proj_dim embedding_size emb_dim lru_width attention_hidden_size "
        "moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size attention_chunk_size "
        "output_embedding_size input_embedding_size expert_ffn_hidden_size",
    16: "q_lora_rank kv_lora_rank mamba_d_state ssm_state_size hidden_size_per_layer_input chunk_size",
    8: "head_dim attention_head_dim d_kv head_size dim_head d_head global_head_dim swa_head_dim rotary_dim "
       "qk_rope_head_dim qk_nope_head_dim v_head_dim mamba_n_heads mamba_d_head mamba_num_heads mamba_head_dim "
       "state_size mamba_headdim linear_key_head_dim linear_value_head_dim window_size local_attention index_head_dim "
       "index_topk kv_channels",
    4: "num_attention_heads n_head num_heads n_heads encoder_attention_heads decoder_attention_heads num_experts "
       "num_local_experts n_routed_experts moe_num_experts mamba_dt_rank time_step_rank laurel_rank conv_kernel "
       "mamba_d_conv num_encoder_attention_heads num_decoder_attention_heads linear_num_value_heads",
    2: "num_hidden_layers n_layer num_layers n_layers encoder_layers decoder_layers num_encoder_layers num_blocks "
       "num_decoder_layers num_key_value_heads num_experts_per_tok moe_topk moe_k top_k_experts linear_num_key_heads "
       "mamba_expand altup_num_inputs index_n_heads",
    1: "n_group topk_group n_shared_experts num_expert_group moe_num_shared_experts n_groups mamba_n_groups "
       "mamba_ngroups first_k_dense_replace",
}
_TINY = {name: size for size, names in _SIZES.items() for name in names.split()}
_TINY |= {"pad_token_id": 257, "eos_token_id": 256, "bos_token_id": 256, "decoder_start_token_id": 256}
_ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_OWN: dict[str, dict[str, Any]] = {
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "bamba": {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "mamba2": {"num_heads": 8, "expand": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "recurrent_gemma": {"num_hidden_layers": 3, "block_types": ["recurrent", "recurrent", "attention"]},
    "reformer": {"attn_layers": ["local", "local"], "axial_pos_embds_dim": [16, 16], "axial_pos_shape": [8, 8],
                 "is_decoder": True, "local_attn_chunk_length": 8},
    "xmod": _ROBERTA | {"languages": ["en_XX"], "default_language": "en_XX"},
    "xglm": {"pad_token_id": 1}, "prophetnet": {"pad_token_id": 0}, "zaya": {"num_experts_per_tok": 1},
    "bert": {"is_decoder": True},
} | {name: _ROBERTA | {"is_decoder": True} for name in (
    "camembert", "data2vec-text", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl")}


def main(wanted: list[str]) -> None:
    """Try them all, and count."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    counts: Counter[str] = Counter()
    for model_type in wanted or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES):
        with tempfile.TemporaryDirectory() as folder:
            what, why = _tried(model_type, Path(folder))
        counts[what] += 1
        print(f"{model_type:28} {what:22} {why}", flush=True)
    print("; ".join(f"{count} {what}" for what, count in counts.most_common()))


def _tried(model_type: str, folder: Path) -> tuple[str, str]:
    try:
        _save(model_type, folder)
    except Exception as error:  # a config that is tiny and makes sense is not found for all by rule
        return "left out", f"{type(error).__name__}: {error}".splitlines()[0][:100]
    try:
        policy = Policy.from_config(tiny_config(folder))
    except ModelError as error:
        return "refused", str(error).replace(str(folder), model_type)
    stir(policy)
    says_what_transformers_says(policy)
    return ("served without a cache", policy.why_uncached) if policy.why_uncached else ("served", "")


def _save(model_type: str, folder: Path) -> None:
    kind = CONFIG_MAPPING[model_type]
    plain = kind()
    parts = {name: type(part)(**dict(_tiny(part))) for name in getattr(kind, "sub_configs", {})
             if (part := getattr(plain, name, None)) is not None}
    config = kind(**dict(_tiny(plain)) | parts | _OWN.get(model_type, {}))
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > _MOST:
        raise ValueError(f"{size:,} parameters")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.2)
    model.save_pretrained(folder)
    save_byte_tokenizer(folder)


def _tiny(plain: Any) -> Iterator[tuple[str, Any]]:
    """Settings that make a config of this kind small."""
    has = plain.to_dict().keys() | set(getattr(type(plain), "attribute_map", {}).values())
    kinds = list(dict.fromkeys(getattr(plain, "layer_types", None) or []))
    layers = max(2, len(kinds))
    for name, size in _TINY.items():
        if name in has and not isinstance(getattr(plain, name, None), dict):
            yield name, layers if name in ("num_hidden_layers", "n_layer", "num_layers") else size
    if "qk_rope_head_dim" in has:  # latent attention: all heads have keys of their own
        yield "num_key_value_heads", 4
        yield "qk_head_dim", 16
    for name in ("layer_types", "mlp_layer_types"):
        if name in has and getattr(plain, name, None):
            yield name, (list(dict.fromkeys(getattr(plain, name))) * layers)[:layers]


if __name__ == "__main__":
    main(sys.argv[1:])
