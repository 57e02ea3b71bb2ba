"""Measure a story model: invented words, unseen word pairs, themes, variety, endings, copying."""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_engine.storyteller import MODEL_DIR, lexicon, prompts, themes
from storyteller_maker.seen import TABLE, bigrams, load, unseen_bigrams
from storyteller_maker.tokenizer import CONTEXT, END_ID, PAD_ID
from storyteller_maker.words import bare, words

if TYPE_CHECKING:
    from transformers import GPTNeoForCausalLM, PreTrainedTokenizerFast

Trigram = tuple[str, str, str]
RESPONSE_TOKENS = 54
TRAINING_SEED, TRAINING_BATCH, COPY_CHUNKS = 1, 32, 20  # copies are looked for in the first chunks of the training


@dataclass(frozen=True)
class Figures:
    """What was measured on a set of texts; rates are per 100 words, shares between 0 and 1."""

    texts: int
    words: int
    invented_per_100: float
    unseen_per_100: float
    unseen_standard_error: float
    share_without_unseen: float
    animals: float
    people: float
    distinct_2: float


def invented(text: str) -> list[str]:
    """Words that the grammar cannot produce."""
    known = lexicon()
    return [word for word in words(text) if bare(word) not in known]


def share(texts: Sequence[str], theme: str) -> float:
    """Share of a theme's words among all words."""
    listed, told = set(themes()[theme]), [bare(word) for text in texts for word in words(text)]
    return sum(word in listed for word in told) / max(1, len(told))


def distinct_2(texts: Sequence[str]) -> float:
    """Different word pairs per word pair."""
    pairs = [pair for text in texts for pair in bigrams(text)]
    return len(set(pairs)) / max(1, len(pairs))


def figures(texts: Sequence[str], seen: frozenset[int]) -> Figures:
    """Measure texts against the grammar."""
    counts = [len(words(text)) for text in texts]
    total = max(1, sum(counts))
    unseen = [len(unseen_bigrams(text, seen)) for text in texts]
    rate = sum(unseen) / total
    residuals = [u - rate * n for u, n in zip(unseen, counts, strict=True)]
    return Figures(
        texts=len(texts),
        words=total,
        invented_per_100=100 * sum(len(invented(text)) for text in texts) / total,
        unseen_per_100=100 * rate,
        unseen_standard_error=100 * math.sqrt(sum(r * r for r in residuals)) / total,
        share_without_unseen=sum(not u for u in unseen) / max(1, len(unseen)),
        animals=share(texts, "animals"),
        people=share(texts, "people"),
        distinct_2=distinct_2(texts),
    )


def load_model(folder: Path) -> tuple[GPTNeoForCausalLM, PreTrainedTokenizerFast]:
    """A model in single precision, and its tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval(), tokenizer


def respond(
    model: GPTNeoForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    openers: Sequence[str],
    new_tokens: int = RESPONSE_TOKENS,
    seed: int = 0,
) -> tuple[list[str], float]:
    """A response to each opener at temperature 1 from the whole distribution, and the share that ended."""
    import torch

    torch.manual_seed(seed)
    inputs = tokenizer(list(openers), return_tensors="pt", padding=True, padding_side="left")
    length = inputs["input_ids"].shape[1]
    with torch.no_grad():
        output = model.generate(
            **inputs,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=min(new_tokens, CONTEXT - length),
            pad_token_id=PAD_ID,
            eos_token_id=END_ID,
        )
    new = output[:, length:]
    return tokenizer.batch_decode(new, skip_special_tokens=True), float((new == END_ID).any(1).float().mean())


def training_stories(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """The first stories that the shipped weights were trained on, told again."""
    from storyteller_maker.batches import Batches

    source, told = Batches(tokenizer, TRAINING_BATCH, TRAINING_SEED), []
    for _ in range(COPY_CHUNKS):
        source.chunk()
        told += source.texts
    return told


def longest_copies(texts: Sequence[str], told: Sequence[str]) -> list[int]:
    """For each text, the length of the longest run of words that some told story holds, too."""
    places: dict[Trigram, list[tuple[int, int]]] = {}
    wanted = {gram for text in texts for gram in _trigrams(words(text))}
    stories = [words(story) for story in told]
    for number, story in enumerate(stories):
        for place, gram in enumerate(_trigrams(story)):
            if gram in wanted:
                places.setdefault(gram, []).append((number, place))
    return [_longest_copy(words(text), stories, places) for text in texts]


def _trigrams(told: list[str]) -> list[Trigram]:
    return list(zip(told, told[1:], told[2:], strict=False))


def _longest_copy(text: list[str], stories: list[list[str]], places: dict[Trigram, list[tuple[int, int]]]) -> int:
    best = 2
    for start in range(len(text) - 2):
        for number, place in places.get((text[start], text[start + 1], text[start + 2]), ()):
            story, length = stories[number], 3
            if story[place + best : place + best + 1] != text[start + best : start + best + 1]:
                continue
            while start + length < len(text) and place + length < len(story):
                if story[place + length] != text[start + length]:
                    break
                length += 1
            best = max(best, length)
    return best


def median(values: Sequence[int]) -> float:
    """The middle value."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def report(folder: Path, table: Path, each: int, seed: int, copies: bool) -> dict[str, object]:
    """All figures of a model folder."""
    from storyteller_maker.grammar import stories

    model, tokenizer = load_model(folder)
    openers = list(prompts("animals")) * each
    start = time.monotonic()
    texts, _ = respond(model, tokenizer, openers, seed=seed)
    seconds = time.monotonic() - start
    full, ended = respond(model, tokenizer, openers[: len(openers) // 2], CONTEXT, seed + 1)
    seen = load(table)
    result: dict[str, object] = asdict(figures(texts, seen))
    result["full_stories_ended"] = ended
    result["full_story_words"] = sum(len(words(text)) for text in full) / len(full)
    result["bytes"] = sum((folder / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
    result["seconds_to_sample"] = round(seconds, 2)
    fresh = [" ".join(story.split()[5:51]) for story in stories(len(texts), seed=77_777 + seed)]
    result["grammar"] = asdict(figures(fresh, seen))
    if copies:
        told = training_stories(tokenizer)
        result["copied_words_median"] = median(longest_copies(texts[:160], told))
        result["grammar_copied_words_median"] = median(longest_copies(fresh[:160], told))
    return result


def main() -> None:
    """Measure a model folder (by default the one that is shipped)."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=MODEL_DIR)
    parser.add_argument("--table", type=Path, default=TABLE, help="hashes of seen word pairs")
    parser.add_argument("--each", type=int, default=10, help="responses to each of the 20 openers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--copies", action="store_true", help="look for copies of training stories (a minute)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--show", type=int, default=0, help="print some responses, too")
    args = parser.parse_args()
    result = report(args.folder, args.table, args.each, args.seed, args.copies)
    if args.json:
        print(json.dumps(result, indent=2))
    else:
        for name, value in result.items():
            print(f"{name:28} {value}")
    if args.show:
        model, tokenizer = load_model(args.folder)
        openers = list(prompts("animals"))[: args.show]
        for opener, text in zip(openers, respond(model, tokenizer, openers, 100, args.seed)[0], strict=True):
            print(f"- {opener}|{text}")


if __name__ == "__main__":
    main()
