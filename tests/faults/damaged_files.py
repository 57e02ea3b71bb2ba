"""A run as it is on the disk, and what somebody may have put in the place of a file of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from configs import SMALL

from rlhf_engine.events import Alarm, EditApplied, RunState, Sample, Span
from rlhf_engine.runs.run_dir import RunDir

FILES = ("config.toml", "run.json", "status.json", "note.txt", "metrics.jsonl", "samples.jsonl", "probes.jsonl",
         "edits.jsonl", "alarms.jsonl", "output.log", "run.lock", "checkpoints/step-000003/state.json")
LONGEST = 5.0  # seconds that anybody may wait for a command on a run of three steps


def make_run(root: Path, name: str, steps: int = 3) -> RunDir:
    """A finished run of a few steps with something in every file, made without a trainer."""
    run = RunDir.create(root, SMALL, name=name, preset="animals")
    for step in range(1, steps + 1):
        told = Sample(step, "Once", " upon a fox", 1.0, {"animals": 1.0}, 0.5, 4, True, (Span(8, 11, "liked"),))
        run.append_metrics(step, step / 2, {"objective/scores": step / 3, "objective/kl": 0.5})
        run.append_samples([told])
        run.append_probe(told)
        run.append_edit(EditApplied(step, "kl.coef", 0.1, 0.1 + step / 100))
        run.append_alarm(Alarm(step, "kl", "the KL is large"))
    (run.path / "output.log").write_text("printed\n")
    run.write_note("a note")
    folder = run.checkpoints / f"step-{steps:06d}"
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"config": SMALL.model_dump(), "step": steps}))
    with run.lock():
        run.write_status(RunState.FINISHED, steps, steps, "finished")
    return run


def _socket(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # the path of a socket has a hundred characters at most
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def _hole(path: Path) -> None:
    path.touch()
    os.truncate(path, 200 * 10**9)


def _hole_with_lines(path: Path) -> None:
    with open(path, "wb") as file:
        for at in range(200):
            file.seek(at * 10**9)
            file.write(b"\n{}\n")


def _holding(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data) and None


def _values(text: str) -> Callable[[Path], None]:
    """Every number of the file, and where there is none the whole file, is `text`."""
    def damage(path: Path) -> None:
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(_numbers_to(line, text) for line in lines) if lines[0].startswith("{") else text)
    return damage


def _numbers_to(line: str, text: str) -> str:
    kept = json.loads(line, parse_int=lambda _: "@", parse_float=lambda _: "@")
    return json.dumps(kept).replace('"@"', text) + "\n"


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "empty": Path.touch,
    "FIFO": os.mkfifo,
    "socket": _socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a file": lambda path: path.symlink_to("/etc/passwd"),
    "dangling link": lambda path: path.symlink_to("nowhere"),
    "loop of links": lambda path: path.symlink_to(path.name),
    "folder": Path.mkdir,
    "hole": _hole,
    "hole with lines": _hole_with_lines,
    "deep": _holding(b'{"a":' * 100_000 + b"[" * 100_000),
    "deep TOML": _holding(b"x = " + b"[" * 100_000),
    "NUL": _holding(b"\0" * 1000 + b"\n" + b"\0" * 1000),
    "UTF-16": _holding('{"step": 3, "state": "finished"}\n'.encode("utf-16")),
    "half a surrogate pair": _holding(b'{"step": 3, "message": "\\ud800", "note": "\\udfff", "\\ud800": 1}\n'),
    "no UTF-8": _holding(b'{"step": 3, "\xff": "\xc0"}\n'),
    "list": _holding(b"[1, 2, 3]\n"),
    "null": _holding(b"null\n"),
    "true": _holding(b"true\n"),
}
# what is done to the file that is there
CHANGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda path: os.truncate(path, max(1, path.stat().st_size // 2)),
    **{f"numbers are {text}": _values(text) for text in (
        "1e999", "NaN", "-1", "true", "null", '"5"', "2.5", "1" + "0" * 400, "1" + "0" * 5000, "[]", "{}")},
}


def damage(run: RunDir, file: str, kind: str) -> None:
    """Put something else in the place of a file of `run`."""
    path = run.path / file
    if kind in DAMAGES:
        path.unlink()
        DAMAGES[kind](path)
    else:
        CHANGES[kind](path)


def copy_of(run: RunDir, name: str) -> RunDir:
    """The same run under another name; it may have no damage yet."""
    return RunDir(shutil.copytree(run.path, run.path.with_name(name)))


@contextmanager
def in_time(seconds: float = LONGEST) -> Iterator[None]:
    """Raises TimeoutError in the middle of what takes longer, also of what the system would wait for."""
    def ring(*_: object) -> None:
        raise TimeoutError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
