"""Which reward code may run: the command `trust`, and the questions at a terminal."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any, TypeVar

import typer

from rlhf_engine.commands.console import confirm, out, print_json, print_table, say
from rlhf_engine.commands.shared import AsJson
from rlhf_engine.errors import CodeChangedError, CodeInQuestion, ConfigError, RlhfError, RunError, short
from rlhf_engine.rewards.function import code_at, require_trusted
from rlhf_engine.runs import trust as trust_store
from rlhf_engine.runs.checkpoint_list import config_at
from rlhf_engine.runs.run_code import require_own_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.trust import Trusted, UntrustedCodeError

T = TypeVar("T")

_FUNCTION = re.compile(r"(?<=\.py):[A-Za-z_][A-Za-z0-9_]*$")
_LINES, _COLUMNS, _NAMES = 20, 110, 20  # of code that is shown at a question


def trust(
    files: Annotated[list[str] | None, typer.Argument(
        metavar="FILE.py", help="Files of reward functions, also as FILE.py:function; with --remove, digests, "
                                     "too.", show_default=False)] = None,
    listed: Annotated[bool, typer.Option("--list", help="Show all code that is trusted.")] = False,
    remove: Annotated[bool, typer.Option("--remove", help="Trust it no more.")] = False,
    as_json: AsJson = False,
) -> int:
    """Let the code of a reward function run from now on, as it is at this moment. Read it first.

    Trusted are the contents, by their SHA-256: those of the file and of the files beside it that it imports. When one
    of them changes, that is other code.

    With --json: trusted, removed with --remove, a list with file and digest of each; files, too, where code is added
    (all that would run), and when, where it was before.
    """
    if listed and (files or remove):
        raise ConfigError("--list: shows all, and goes with no file and not with --remove")
    if not listed and not files:
        raise ConfigError("trust: which file? `rlhf-tui trust FILE.py`, or --list")
    if listed:
        _show(trust_store.trusted(), "trusted", as_json)
    elif remove:
        found = _meant(files or [])
        trust_store.withdraw([one.digest for one in found])
        _show(found, "removed", as_json)
    else:
        codes = [code_at(_FUNCTION.sub("", file)) for file in files or []]
        for code in codes:
            trust_store.trust(code.digest, code.file)
            if not as_json:
                out(f"trusted from now on: {code.file}", *_about(code))
        if as_json:
            print_json({"trusted": [{"file": str(code.file), "digest": code.digest,
                                     "files": [str(file) for file in code.files]} for code in codes]})
    return 0


# --- questions ---


def having_asked(attempt: Callable[[], T]) -> T:
    """What `attempt` returns, once the person at the terminal trusts the code that it wants to run. Raises
    UntrustedCodeError where there is nobody to ask, or they do not, and whatever else it raises."""
    while True:
        try:
            return attempt()
        except UntrustedCodeError as error:
            if not asked_to_trust(error.code):
                raise


def ask_for_scores(run_dir: RunDir, step: int | None = None) -> None:
    """Asks the person at the terminal about the code that would score for a run's checkpoint. What speaks against it
    is told with the answers, which then have no scores."""
    with suppress(RlhfError):
        config = config_at(run_dir, step)
        require_own_run(run_dir, config)
        having_asked(lambda: require_trusted(config))


def asked_to_trust(code: CodeInQuestion) -> bool:
    """Whether the person at the terminal trusts the code, which is then kept; no where nobody can be asked."""
    if not _can_ask():
        return False
    say(f"The reward code {code.file} is not trusted yet; it would run with all that you may do.")
    _show_code(code)
    return _confirm_or_leave("Trust it from now on, as it is?") and _keep(code)


def accepted_code(error: CodeChangedError) -> bool:
    """Whether the person at the terminal goes on with a run's changed code, which is trusted then; no where nobody can
    be asked."""
    if not _can_ask():
        return False
    say(str(error))
    for code in error.codes:
        _show_code(code)
    agreed = _confirm_or_leave("Continue with it as it is now, and trust it from now on?")
    return agreed and all(map(_keep, error.codes))


def accepted(error: RunError) -> bool:
    """Whether the person at the terminal goes on with what has changed; no where nobody can be asked."""
    if not _can_ask():
        return False
    return _confirm_or_leave(f"{error} Continue with it as it is now?")


def _can_ask() -> bool:
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def _confirm_or_leave(question: str) -> bool:
    """The answer. Ctrl-C leaves, also where it would otherwise stop a run: none has begun."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return confirm(question)
    finally:
        signal.signal(signal.SIGINT, before)


def _keep(code: CodeInQuestion) -> bool:
    try:
        trust_store.trust(code.digest, code.file)
    except RunError as error:
        say(f"warning: {error} It will be asked again.")
    return True


def _show_code(code: CodeInQuestion) -> None:
    lines = code.source.splitlines()
    shown = [f"  | {short(line, _COLUMNS)}" for line in lines[:_LINES]]
    more = [f"  … and {len(lines) - _LINES} more lines: read them all"] if len(lines) > _LINES else []
    say(f"  file     {code.file}", *_about(code), *shown, *more)


def _about(code: CodeInQuestion) -> list[str]:
    neighbours = [str(file) for file in code.files[1:]]
    more = [f"           and {len(neighbours) - _NAMES} more"] if len(neighbours) > _NAMES else []
    return [f"  SHA-256  {code.digest}", *(f"  imports  {name}" for name in neighbours[:_NAMES]), *more]


# --- the list ---


def _meant(names: list[str]) -> list[Trusted]:
    """The trusted code that files and digests mean. Raises ConfigError for one that means none."""
    found: dict[str, Trusted] = {}
    for name in names:
        file = os.path.realpath(os.path.expanduser(_FUNCTION.sub("", name)))
        meant = {one.digest: one for one in trust_store.trusted() if one.digest == name.lower() or one.file == file}
        if not meant:
            raise ConfigError(f"{name}: no code is trusted by that name or digest; `trust --list` shows what is")
        found |= meant
    return list(found.values())


def _show(codes: list[Trusted], what: str, as_json: bool) -> None:
    if as_json:
        rows: list[dict[str, Any]] = [asdict(one) for one in codes]
        print_json({what: rows})
    elif codes:
        print_table(["SHA-256", "since", "file"] if what == "trusted" else [what, "since", "file"],
                    [[one.digest, one.when, one.file] for one in codes])
    else:
        out("no code is trusted")
