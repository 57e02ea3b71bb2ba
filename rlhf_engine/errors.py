"""The errors a user can cause. Each message is one sentence: what is wrong, where, and what is allowed.

Anything else that escapes the engine is a bug and keeps its traceback.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic_core import ValidationError

from rlhf_engine.system.visible_text import one_line


@dataclass(frozen=True)
class CodeInQuestion:
    """Reward code that was named and is not trusted. files: all that would run, `file` first, then its neighbours."""

    file: Path
    digest: str
    files: tuple[Path, ...]
    source: str
    """What `file` holds, for the person who decides; it is text of a stranger."""


class RlhfError(Exception):
    """Base of every error whose message is meant for the user."""


class ConfigError(RlhfError):
    """A preset, a `--set` or a form field holds something that is not allowed."""

    def __init__(self, problems: list[str] | str) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class ModelError(RlhfError):
    """A model or tokenizer could not be found, loaded or used."""


class PromptError(ModelError):
    """A prompt that the tokenizer cannot read, or the model cannot hold."""


class RewardError(RlhfError):
    """A reward raised, or returned something that is not one finite number per response."""


class RunError(RlhfError):
    """A run directory cannot be created, opened, written, or is driven by another process."""


class CheckpointError(RunError):
    """A checkpoint is missing, incomplete or damaged."""


class NonFiniteError(RlhfError):
    """Probabilities, log-probabilities, values or a gradient are NaN or infinite. Nothing was learnt from them.

    A trainer leaves the update out, and calls it a divergence if that goes on; elsewhere it is an error like others.
    """


class BaseChangedError(RunError):
    """The base model that a run was trained on is another one now; a person must say whether to go on."""


class CodeChangedError(RunError):
    """A run's reward code is not what it was; a person must say whether to go on with `codes`, which are what it is
    now."""

    def __init__(self, message: str, codes: tuple[CodeInQuestion, ...] = ()) -> None:
        self.codes = codes
        super().__init__(message)


class DataChangedError(RunError):
    """The file or dataset that a run learns from is not what it was; a person must say whether to go on with it."""


class OutputError(RlhfError):
    """Standard output cannot be written. `gone`: since nobody reads it any more, who then need not be told; `hung_up`:
    since it is a terminal that has gone away, and nobody told this process."""

    def __init__(self, message: str, *, gone: bool = False, hung_up: bool = False) -> None:
        self.gone, self.hung_up = gone, hung_up
        super().__init__(message)


def short(text: str, most: int = 80) -> str:
    """A text of somebody else's on one line, cut to what fits into a sentence, and nothing in it that hides."""
    return one_line(text if len(text) <= most else text[: most - 1] + "…")


def first_few(problems: list[str], most: int = 20) -> list[str]:
    """Sentences as people read them: a line for each, but no more lines than a screen has."""
    if len(problems) <= most:
        return problems
    return [*problems[: most - 1], f"and {len(problems) - most + 1:,} more mistakes"]


def first_line(error: BaseException) -> str:
    """What an error of somebody else's says, cut to what fits into a sentence of ours.

    Such an error may quote megabytes of what it was given, and that of the settings' library gives an address to read.
    """
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    else:
        lines = list(filter(None, map(str.strip, _beginning(error).splitlines()))) or ["without a word"]
        said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return short(f"there is no {said}" if isinstance(error, KeyError) else said, 200)


def kind_and_message(error: BaseException) -> str:
    """The kind of an error of somebody's code and what it says, on one line and cut: "KeyError: 'fox'"."""
    said = first_line(error) if isinstance(error, ValidationError) else short(_beginning(error).strip(), 400)
    return short(type(error).__name__) + (f": {said}" if said else "")


def _beginning(error: BaseException) -> str:
    try:
        return str(error)[:4000]
    except Exception:  # what somebody's own error says may raise
        return ""
