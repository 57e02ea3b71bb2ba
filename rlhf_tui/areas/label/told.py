"""What is said of a judgement once it is made: what it was, the guess, and who gave the two responses."""

from __future__ import annotations

from textual.content import Content

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.pair import Origin
from rlhf_tui.areas.label.pair_view import in_order
from rlhf_tui.areas.label.sitting import Said, said_of
from rlhf_tui.terminal.clean_text import clean_line

WORDS: dict[Said, str] = {"left": "left better", "right": "right better", "tie": "a tie", "both_bad": "both bad",
                          "skip": "skipped"}


def origin_text(origin: Origin) -> str:
    """Who gave a response, in a few words."""
    run = clean_line(origin.run.rpartition("/")[2])
    if origin.kind == "file":
        return clean_line(origin.model) or "not known"
    if origin.kind == "reference":
        return "reference"
    kind = origin.kind if origin.kind in ("recorded", "tuned") else ""
    step = "" if origin.step is None else f"step {origin.step}"
    return " ".join(filter(None, (kind, run, step))) or origin.kind


def guess_text(judgement: Judgement) -> Content:
    """What the rewards or the reward model made of the pair, beside what was said."""
    guess = judgement.pair.guess
    if guess is None:
        return Content.styled("no guess", "$text-muted")
    left = 1 - guess if judgement.swapped else guess
    if guess == 0.5:
        return Content.styled("guess: either", "$text-muted")
    side, chance = ("left", left) if left >= 0.5 else ("right", 1 - left)
    told = f"guess: {side}, {chance:.0%}"
    if not judgement.decided:
        return Content.styled(told, "$text-muted")
    if (side == "left") == judgement.left_won:
        return Content.styled(f"{told} ✓ agreed", "$text-success")
    return Content.styled(f"{told} ✗ disagreed", "$text-warning")


def last_line(judgement: Judgement) -> Content:
    """The pair that was judged last, in a line."""
    left, right = (origin_text(answer.origin) for answer in in_order(judgement.pair, judgement.swapped))
    marks = " ⚑" * judgement.flag + " ✎" * bool(judgement.note)
    said = WORDS[said_of(judgement)]
    return Content.assemble(("last: ", "$text-muted"), (f"{said}{marks}", "bold"), " · ", guess_text(judgement),
                            (f" · left {left}, right {right} · v why, u anew", "$text-muted"))
