"""The tokenizer: byte-level BPE in which every word of the grammar is one token.

Words of the grammar (with their leading space and capitals) are looked up whole; any other text falls back to
a few merges over bytes. So the model spells nothing it has learned, and yet reads everything.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END, PAD = "<|endoftext|>", "<|pad|>"
END_ID, PAD_ID = 0, 1
SIZE = 2560
CONTEXT = 256


def count_pieces(texts: Iterable[str]) -> Counter[str]:
    """How often each byte-level pre-token occurs; a leading space is part of a word."""
    from tokenizers.pre_tokenizers import ByteLevel

    split = ByteLevel(add_prefix_space=False)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(piece for piece, _ in split.pre_tokenize_str(text))
    return counts


def fallback(words: Iterable[str], size: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Special tokens, all bytes, and the best merges over a word list: what spells words that are not known."""
    import json

    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    small = Tokenizer(models.BPE())
    small.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False
    )
    small.train_from_iterator(sorted(words), trainer)
    model = json.loads(small.to_str())["model"]
    return dict(model["vocab"]), [(left, right) for left, right in model["merges"]]


def make(vocab: dict[str, int], merges: list[tuple[str, str]], whole_words: bool) -> Tokenizer:
    """A byte-level tokenizer that takes words whole where it can, or one that always spells."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=whole_words))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(END, special=True), AddedToken(PAD, special=True)])
    return backend


def build(texts: Iterable[str], size: int = SIZE) -> tuple[PreTrainedTokenizerFast, Tokenizer]:
    """The tokenizer for these texts, and the backend that spells their words out in fallback pieces."""
    counts = count_pieces(texts)
    words = [piece.replace("\u0120", " ") for piece in counts]
    vocab, merges = fallback(words, size - len(counts))
    for piece, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        if piece not in vocab and len(vocab) < size:
            vocab[piece] = len(vocab)
    tokenizer = wrapped(make(vocab, merges, whole_words=True))
    return tokenizer, make(vocab, merges, whole_words=False)


def build_pieces(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Ordinary byte-level BPE of these texts: most of their words take several tokens, as in models of others."""
    return wrapped(make(*fallback(texts, size), whole_words=False))


def wrapped(backend: Tokenizer) -> PreTrainedTokenizerFast:
    """A backend as what transformers saves and loads."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=END,
        eos_token=END,
        unk_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer saved in a folder."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return tokenizer


def spelling(tokenizer: PreTrainedTokenizerFast) -> Tokenizer:
    """The backend that spells every word in fallback pieces, with the same ids as the tokenizer."""
    import json

    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return make(model["vocab"], [(left, right) for left, right in model["merges"]], whole_words=False)


def main() -> None:
    """Build the tokenizer from stories of the grammar and save it."""
    from storyteller_maker.grammar import stories

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, help="where to save it")
    parser.add_argument("--stories", type=int, default=60_000, help="stories to read")
    parser.add_argument("--seed", type=int, default=11)
    args = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    tokenizer, _ = build(stories(args.stories, args.seed))
    args.folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(args.folder)
    print(f"{len(tokenizer)} tokens saved in {args.folder}")


if __name__ == "__main__":
    main()
