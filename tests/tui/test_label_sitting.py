"""What a key costs does not grow with the label file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from rlhf_engine.labels.judgement import Judgement, row
from rlhf_engine.labels.label_file import LabelFile
from rlhf_engine.labels.pair import Answer, Origin, Pair
from rlhf_tui.areas.label.sitting import Sitting


def pair(number: int) -> Pair:
    return Pair(f"number {number}", Answer("a fox", True, Origin("tuned")), Answer("an owl", True, Origin("tuned")))


def instructions_of_a_key(path: Path, judged: int, repeat_every: int) -> int:
    """Python's instructions from a key to the next pair, in a file with so many judgements; the fewest of ten keys."""
    path.write_text("".join(json.dumps(row(Judgement(pair(number), "ann", "first", False))) + "\n"
                            for number in range(judged)))
    with LabelFile.open(path, rater="ann") as file:
        sitting = Sitting(file, "ann", repeat_every)
        sitting.queue.add(pair(judged + number) for number in range(12))
        sitting.advance()
        counts = []
        for _ in range(10):
            counts.append(0)

            def count(frame: FrameType, event: str, _: Any) -> Any:
                frame.f_trace_opcodes = True
                counts[-1] += event == "opcode"
                return count

            traced = sys.gettrace()
            sys.settrace(count)
            try:
                judgement = sitting.judgement("left")
                sitting.keep(judgement, anew=False)
                sitting.kept(judgement)
                sitting.advance()
                assert sitting.judged
                assert sitting.per_minute
                assert sitting.median_seconds
            finally:
                sys.settrace(traced)
        return min(counts)


@pytest.mark.parametrize("repeat_every", [0, 10])
def test_a_key_does_as_much_with_many_judgements_as_with_few(tmp_path: Path, repeat_every: int) -> None:
    few, many = (instructions_of_a_key(tmp_path / f"{count}.jsonl", count, repeat_every) for count in (30, 1000))
    assert 100 < many <= few * 1.1
