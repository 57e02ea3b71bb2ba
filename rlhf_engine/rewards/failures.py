"""What is told of somebody's own code that raised: where, for which response, and its traceback."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from rlhf_engine.errors import RewardError, kind_and_message
from rlhf_engine.system.streams import on_stderr

_OURS = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_QUOTED_CHARACTERS = 80


def where_of(error: BaseException) -> str:
    """" at file.py:line", the innermost line that is neither ours nor a library's; empty where there is none."""
    lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)
             if _is_theirs(frame.filename)]
    return f" at {Path(lines[-1][0]).name}:{lines[-1][1]}" if lines else ""


def culprit_of(error: BaseException, responses: Sequence[str]) -> str:
    """The response that was being scored, quoted, as far as the variables of the code that raised tell; else the size
    of the batch. Nothing is called again: a function may have effects, cost money, or take its time."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        held = [value for value in frame.f_locals.values() if isinstance(value, str) and value in responses]
        if held:
            return f"the response {quoted(max(held, key=len))}"
    return f"a batch of {len(responses)} response{'s' * (len(responses) != 1)}"


def raised(name: str, error: BaseException, responses: Sequence[str]) -> RewardError:
    """The sentence about what the reward `name` raised while it scored `responses`."""
    return RewardError(f"Reward {name!r} raised {kind_and_message(error)}{where_of(error)} (scoring "
                       f"{culprit_of(error, responses)}).")


def print_traceback(error: BaseException) -> None:
    """The traceback from where it left our code, on stderr as it is just now."""
    begin: TracebackType | None = error.__traceback__
    while begin is not None and not _is_theirs(begin.tb_frame.f_code.co_filename):
        begin = begin.tb_next
    shown = error.with_traceback(begin) if begin is not None else error
    whole, lines = error.__traceback__, traceback.format_exception(shown)
    error.__traceback__ = whole
    on_stderr("".join(lines))


def quoted(text: str) -> str:
    """The beginning of a text, in quotation marks."""
    return repr(text[:_QUOTED_CHARACTERS]) + ("..." if len(text) > _QUOTED_CHARACTERS else "")


def _is_theirs(filename: str) -> bool:
    return not filename.startswith((_OURS, "<", *_LIBRARIES))
