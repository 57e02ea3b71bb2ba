"""Print stories: python -m storyteller_maker.grammar N --seed S."""

from __future__ import annotations

import argparse

from storyteller_maker.grammar import stories


def main() -> None:
    """Print one story a line."""
    parser = argparse.ArgumentParser(description="Print stories told by the grammar, one a line.")
    parser.add_argument("count", type=int, nargs="?", default=10, help="how many stories")
    parser.add_argument("--seed", type=int, default=0, help="the same seed prints the same stories")
    args = parser.parse_args()
    for text in stories(args.count, args.seed):
        print(text)


if __name__ == "__main__":
    main()
