"""Tiny random sequence classifiers in Hugging Face format, of several architectures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from tiny_models import VOCABULARY
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

ARCHITECTURES = ("bert", "roberta", "modernbert", "llama", "gpt2")
_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}


def save_classifier(
    folder: Path, architecture: str, *, labels: tuple[str, ...] = ("bad", "good"), template: str | None = None,
    pads: bool = True, **changes: Any,
) -> Path:
    """A random classifier, or with one label a regression head, and a byte tokenizer. template: of chats. pads: whether
    config and tokenizer name a padding token. changes: of its config."""
    torch.manual_seed(0)
    ids: dict[str, Any] = {"vocab_size": VOCABULARY, "bos_token_id": 256, "eos_token_id": 256,
                           "pad_token_id": 257 if pads else None}
    named = {"id2label": dict(enumerate(labels)), "label2id": {name: at for at, name in enumerate(labels)}}
    told = ids | named | changes
    model: Any
    match architecture:
        case "bert":
            model = hf.BertForSequenceClassification(hf.BertConfig(**_SIZES, max_position_embeddings=64, **told))
        case "roberta":
            padding = {"vocab_size": VOCABULARY + 2, "pad_token_id": 1}
            model = hf.RobertaForSequenceClassification(
                hf.RobertaConfig(**_SIZES, max_position_embeddings=66, **told | padding))
        case "modernbert":
            model = hf.ModernBertForSequenceClassification(hf.ModernBertConfig(
                **_SIZES, max_position_embeddings=64, cls_token_id=256, sep_token_id=256, global_attn_every_n_layers=2,
                local_attention=16, reference_compile=False, **told))
        case "llama":
            model = hf.LlamaForSequenceClassification(hf.LlamaConfig(
                **_SIZES, num_key_value_heads=2, max_position_embeddings=64, **told))
        case _:
            model = hf.GPT2ForSequenceClassification(hf.GPT2Config(
                n_embd=32, n_layer=2, n_head=4, n_positions=64, **told))
    with torch.no_grad():  # random initial weights are so small that all texts would be judged alike
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=0.3)
    model.save_pretrained(folder)
    _tokenizer(architecture, template, pads).save_pretrained(folder)
    return folder


def _tokenizer(architecture: str, template: str | None, pads: bool) -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {"<end>": 256, "<pad>": 257}
    if architecture == "roberta":  # ids below 2 are its own
        vocabulary = {"<s>": 0, "<pad>": 1} | {word: index + 2 for word, index in vocabulary.items() if index < 257}
    bytes_ = Tokenizer(models.BPE(vocabulary, []))
    bytes_.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_.decoder = decoders.ByteLevel()
    if architecture in ("bert", "modernbert"):
        bytes_.post_processor = processors.TemplateProcessing(
            single="<end> $A <end>", pair="<end> $A <end> $B:1 <end>:1", special_tokens=[("<end>", 256)])
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (architecture == "bert")
    made = hf.PreTrainedTokenizerFast(
        tokenizer_object=bytes_, eos_token="<end>", pad_token="<pad>" if pads else None, model_input_names=names,
        model_max_length=10**30)
    made.chat_template = template
    return made
