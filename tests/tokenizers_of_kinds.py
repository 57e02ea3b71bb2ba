"""Tokenizers of the kinds that models come with, made in memory, and a random model for any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def byte_level(end_id: int = 256) -> PreTrainedTokenizerFast:
    """GPT-2's kind: every byte a token, nothing added to a text; its end token stands behind a hole in the ids."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | {"<|end|>": end_id}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def metaspace(bytes_too: bool = True) -> PreTrainedTokenizerFast:
    """Llama 2's kind: words begin with ▁, the first of which a text does not show; unknown characters are bytes
    (or <unk>); a text begins with <s>."""
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)] if bytes_too else []
    pieces = ["<unk>", "<s>", "</s>", *byte_pieces, "▁", *"abcdehimnoprtuOs,.[]/", "▁cat", "▁Once", "▁upon", "▁time"]
    merges = [("▁", "c"), ("▁c", "a"), ("▁ca", "t"), ("▁", "O"), ("▁O", "n"), ("▁On", "c"), ("▁Onc", "e"),
              ("▁", "u"), ("▁u", "p"), ("▁up", "o"), ("▁upo", "n"), ("▁", "t"), ("▁t", "i"), ("▁ti", "m"),
              ("▁tim", "e")]
    pieces += ["".join(merge) for merge in merges if "".join(merge) not in pieces]
    tokenizer = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(pieces)}, merges=merges,
                                     unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def word_piece() -> PreTrainedTokenizerFast:
    """BERT's kind: a text stands between [CLS] and [SEP], and a space before each piece that does not begin with ##."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "once", "upon", "a", "time", "##s", "cat", ".", ",", "don", "'", "t"]
    tokenizer = Tokenizer(models.WordPiece(vocab={piece: index for index, piece in enumerate(pieces)},
                                           unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, cls_token="[CLS]", sep_token="[SEP]", pad_token="[PAD]",
                                   unk_token="[UNK]")


def word_level(end_at_the_end: bool = False) -> PreTrainedTokenizerFast:
    """Whole words with spaces between; like T5's it may close each text with the end token."""
    words = ["<unk>", "</s>", "once", "upon", "time", "cat"]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if end_at_the_end:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>")


def save_model(folder: Path, tokenizer: PreTrainedTokenizerFast, rows: int | None = None, **config: Any) -> Path:
    """A random Llama of two layers with `rows` embeddings (else the tokenizer's), beside that tokenizer."""
    torch.manual_seed(0)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": None}
    model = LlamaForCausalLM(LlamaConfig(**{
        "vocab_size": rows or max(tokenizer.get_vocab().values()) + 1, "hidden_size": 32, "intermediate_size": 64,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
        **ids, **config}))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
