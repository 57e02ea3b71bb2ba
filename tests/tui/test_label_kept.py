"""What was judged stays judged, however the workbench ends: a process on a terminal of its own, killed between keys."""

from __future__ import annotations

import os
import random
import re
import signal
import textwrap
from contextlib import suppress
from pathlib import Path

import pytest
from tui.terminal import Terminal

from rlhf_engine.labels.judgement import Judgement
from rlhf_engine.labels.label_file import LabelFile, read_labels

CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from tui.fake_session import FakeSession
    from rlhf_engine.config.fields import validate
    from rlhf_tui.areas.label.label_start import LabelStart
    from rlhf_tui.launch import run_workbench

    config = validate({{"data": {{"prompts": ["Once"]}}, "rewards": [{{"kind": "word_list", "liked": ["fox"]}}]}})
    start = LabelStart(Path("labels/mine.jsonl"), rater="ann", repeat_every=0)
    sys.exit(run_workbench(config, "animals", runs_root=Path("runs"), session_factory=FakeSession, label=start))
""")


def began(tmp_path: Path) -> Terminal:
    """The label screen, pairs in view."""
    terminal = Terminal(tmp_path, CHILD, **{name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME")})
    terminal.read_until(lambda: re.search(rb"\(\d+\)", terminal.written) is not None)
    return terminal


def end(terminal: Terminal) -> None:
    with suppress(ProcessLookupError):
        os.kill(terminal.pid, signal.SIGKILL)
    terminal.wait()


def kept(tmp_path: Path) -> list[Judgement]:
    path = tmp_path / "labels" / "mine.jsonl"
    return read_labels(path) if path.exists() else []


def judged(terminal: Terminal) -> int:
    """The highest count of judged pairs that the screen has shown."""
    return max(map(int, re.findall(rb"(\d+)/\d+ judged", terminal.written)))


def test_a_kill_between_any_two_keys_loses_none(tmp_path: Path) -> None:
    chance, there = random.Random(3), 0
    for count in (1, 3):
        terminal = began(tmp_path)
        try:
            for number in range(there + 1, there + count + 1):
                terminal.type(chance.choice(["a", "b", "t", "0", "\x1b[D", "\x1b[C"]))
                terminal.read_until(f"{number}/100 judged".encode())
        finally:
            end(terminal)
        there += count
        assert len(kept(tmp_path)) == there


@pytest.mark.parametrize("seen", [pytest.param(1, marks=pytest.mark.soak), 7])
def test_a_kill_within_a_burst_loses_none_whose_next_pair_was_shown(tmp_path: Path, seen: int) -> None:
    terminal = began(tmp_path)
    try:
        terminal.type("abababababababab")
        terminal.read_until(lambda: judged(terminal) >= seen)
    finally:
        end(terminal)
    terminal.read(0.05)
    assert seen <= judged(terminal) <= len(kept(tmp_path)) <= 16
    verdicts = [judgement.left_won for judgement in kept(tmp_path)]
    assert verdicts == ([True, False] * 8)[:len(verdicts)]


def test_a_kill_after_an_undo_keeps_what_was_said_last(tmp_path: Path) -> None:
    terminal = began(tmp_path)
    try:
        terminal.type("aau")
        terminal.read_until(b"judged anew")
        terminal.type("b")
        terminal.read_until(b"right better")
    finally:
        end(terminal)
    assert [judgement.left_won for judgement in kept(tmp_path)] == [True, False]


def test_a_terminal_that_goes_away_and_a_request_to_terminate_lose_none(tmp_path: Path) -> None:
    terminal = began(tmp_path)
    terminal.type("aau")
    terminal.read_until(b"judged anew")
    terminal.hang_up()
    assert len(kept(tmp_path)) == 2
    terminal = began(tmp_path)
    terminal.type("b")
    terminal.read_until(b"3/100 judged")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.exit_code()
    assert len(kept(tmp_path)) == 3
    with LabelFile.open(tmp_path / "labels" / "mine.jsonl", rater="ann"):  # nobody holds it any more
        pass
