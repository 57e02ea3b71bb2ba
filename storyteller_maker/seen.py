"""Which pairs of neighbouring words the grammar has ever told: a table of hashes, built once, small enough to ship."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import pairwise
from multiprocessing import Pool
from pathlib import Path

from storyteller_maker.words import words

Bigram = tuple[str, str]
STORIES = 240_000
FIRST_SEED, PART = 500_000, 4_000
TABLE = Path(__file__).parents[1] / "tests" / "data" / "seen_bigrams.bin"


def bigrams(text: str) -> list[Bigram]:
    """Neighbouring words of a text, in order, across sentences."""
    told = words(text)
    return list(pairwise(told))


def key(bigram: Bigram) -> int:
    """A 32-bit hash that is the same on every machine; one unseen pair in 35,000 is taken for a seen one."""
    return int.from_bytes(blake2b(" ".join(bigram).encode(), digest_size=4).digest(), "big")


def pack(keys: Iterable[int]) -> bytes:
    """Sorted keys as differences, seven bits a byte, compressed."""
    packed, last = bytearray(), 0
    for value in sorted(keys):
        rest, last = value - last, value
        while rest >= 128:
            packed.append(rest & 127 | 128)
            rest >>= 7
        packed.append(rest)
    return zlib.compress(bytes(packed), 9)


def unpack(data: bytes) -> Iterator[int]:
    """What `pack` packed."""
    value = shift = rest = 0
    for byte in zlib.decompress(data):
        rest |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            value += rest
            yield value
            shift = rest = 0


def load(table: Path = TABLE) -> frozenset[int]:
    """The keys of all pairs that were seen."""
    return frozenset(unpack(table.read_bytes()))


def unseen_bigrams(text: str, seen: frozenset[int]) -> list[Bigram]:
    """The pairs of neighbouring words of a text that the grammar has never told; words of a prompt do not count."""
    return [bigram for bigram in bigrams(text) if key(bigram) not in seen]


def _part(seed: int) -> set[Bigram]:
    from storyteller_maker.grammar import stories

    return {bigram for text in stories(PART, seed) for bigram in bigrams(text)}


def main() -> None:
    """Tell 240,000 stories and keep the pairs of neighbouring words."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("table", type=Path, nargs="?", default=TABLE)
    parser.add_argument("--stories", type=int, default=STORIES)
    parser.add_argument("--processes", type=int, default=1)
    args = parser.parse_args()
    found: set[Bigram] = set()
    with Pool(args.processes) as pool:
        for part in pool.imap_unordered(_part, range(FIRST_SEED, FIRST_SEED + args.stories // PART)):
            found |= part
    args.table.parent.mkdir(parents=True, exist_ok=True)
    args.table.write_bytes(pack({key(bigram) for bigram in found}))
    print(f"{len(found)} pairs in {args.table}, {args.table.stat().st_size} bytes")


if __name__ == "__main__":
    main()
