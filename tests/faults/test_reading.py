"""Whatever lies in the place of a run's file: each command ends, soon, with a sentence; and no other run suffers."""

from __future__ import annotations

import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import typer
from faults.damaged_files import CHANGES, DAMAGES, FILES, copy_of, damage, in_time, make_run
from typer.testing import CliRunner

from rlhf_engine.commands.cli import make_app
from rlhf_engine.errors import RlhfError
from rlhf_engine.events import StepFinished
from rlhf_engine.runs.checkpoint_list import config_at, steps
from rlhf_engine.runs.follow import Follower
from rlhf_engine.runs.run_columns import read_columns
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import figures, list_runs
from rlhf_engine.runs.run_settings import settings_now
from rlhf_tui.engine.metrics_file import Past, read_history

_COMMAND = typer.main.get_command(make_app())  # which takes longer to make than to run
_GIGABYTE = 1 << 30
# which commands read which file; all of them read the list
_READERS = {
    "config.toml": ["attach", "note", "rename"], "run.json": ["runs"], "status.json": ["runs", "attach", "rename"],
    "note.txt": ["runs", "note"], "metrics.jsonl": ["attach"], "probes.jsonl": ["attach"], "edits.jsonl": ["attach"],
    "alarms.jsonl": ["attach"], "run.lock": ["rename"],
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A run that nothing happened to, by itself in a folder."""
    return make_run(tmp_path_factory.mktemp("whole"), "whole")


@pytest.fixture(autouse=True)
def _little_memory() -> Iterator[None]:
    """Who would read a hole of 200 GB into memory fails, and takes nobody else down."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _GIGABYTE, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def ask(*arguments: str) -> tuple[int, str]:
    """The exit code and the output of a command, which must end in time, in a way that is meant for people."""
    with in_time(), CliRunner().isolation() as streams:
        try:
            code: object = _COMMAND.main(list(arguments), prog_name="rlhf-tui")
        except SystemExit as end:
            code = end.code
        output, said = (stream.getvalue().decode() for stream in streams[:2])
    assert code in (0, 1, 2), (arguments, code)
    assert code == 0 or said.strip() or output.strip(), arguments
    return code, output


def look_into(run: RunDir) -> None:
    """What the workbench and a resume read of a run; what is wrong with it is told by errors meant for people."""
    readers: list[Callable[[], object]] = [
        lambda: figures(run), lambda: settings_now(run), lambda: config_at(run, None), lambda: view(run),
        lambda: read_history(run), lambda: run.samples(), lambda: run.alarms(), lambda: run.probes(),
        lambda: run.truncate_after(2, 1)]
    for reader in readers:
        with suppress(RlhfError), in_time():
            reader()


def view(run: RunDir) -> None:
    """Looks at a run as the screen does."""
    follower = Follower(run, gather=Past)
    try:
        follower.poll()
    finally:
        follower.close()


@pytest.mark.parametrize("file", FILES)
def test_no_file_of_a_run_stops_a_command_or_the_list(whole: RunDir, file: str) -> None:
    root = whole.path.parent
    where = ["--runs-dir", str(root)]
    for kind in [*DAMAGES, *CHANGES]:
        commands = _READERS.get(file, [])
        if (file, kind) == ("status.json", "missing"):
            commands = ["runs"]  # a run that has no status yet is waited for
        bad = copy_of(whole, "bad")
        damage(bad, file, kind)
        try:
            rows = {row["name"]: row for row in json.loads(ask("runs", "--json", *where)[1])["runs"]}
            assert (rows["whole"]["state"], rows["whole"]["step"]) == ("finished", 3)
            for command in commands:
                ask(command, *([] if command == "runs" else ["bad"]), *(["bad"] if command == "rename" else []), *where)
            look_into(bad)
            ask("delete", "bad", *where)
        except Exception as error:
            raise AssertionError(f"{file}: {kind}: {error!r}") from error
        finally:
            shutil.rmtree(bad.path, ignore_errors=True)
    ask("trash", *where)
    ask("trash", "--empty", "--yes", *where)


def test_a_line_without_end_costs_little_and_no_other_line(whole: RunDir) -> None:
    bad = copy_of(whole, "bad")
    metrics = bad.path / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    metrics.write_bytes(lines[0] + b"x" * 40_000_000 + b"\n" + b"".join(lines[1:]))
    with in_time():
        assert [line.step for line in bad.metrics()] == [1, 2, 3]
        assert [step for columns in read_columns(metrics) for step in columns.steps] == [1, 2, 3]
        follower = Follower(bad)
        told = [event for _ in range(60) for event in follower.poll()]
        follower.close()
    assert [event.step for event in told if isinstance(event, StepFinished)] == [1, 2, 3]
    assert bad.truncate_after(2, 9) != []
    assert [line.step for line in bad.metrics()] == [1, 2]
    shutil.rmtree(bad.path)


@pytest.mark.parametrize("kind", ["FIFO", "link to a device", "loop of links", "dangling link", "hole", "a file"])
def test_what_is_no_folder_of_a_run_is_left_out_of_the_list(whole: RunDir, kind: str) -> None:
    path = whole.path.with_name("stranger")
    Path.touch(path) if kind == "a file" else DAMAGES[kind](path)
    try:
        with in_time():
            assert [run.name for run in list_runs(path.parent)] == ["whole"]
        assert ask("note", "stranger", "--runs-dir", str(path.parent))[0] == 2
    finally:
        path.unlink()


@pytest.mark.parametrize("kind", ["FIFO", "link to a device", "loop of links", "hole", "empty", "folder"])
def test_checkpoints_that_are_no_folder_are_told_in_a_sentence(whole: RunDir, kind: str) -> None:
    bad = copy_of(whole, "bad")
    shutil.rmtree(bad.checkpoints)
    DAMAGES[kind](bad.checkpoints)
    with in_time():
        assert figures(bad).checkpoints == ()
        with pytest.raises(RlhfError):
            config_at(bad, None)
    assert ask("verify", "bad", "--runs-dir", str(bad.path.parent))[0] == 1
    shutil.rmtree(bad.path)


def test_names_of_checkpoints_that_no_step_has_are_none(whole: RunDir) -> None:
    bad = copy_of(whole, "bad")
    names = ["step-" + "9" * 200, "step-000004." + "9" * 99, "step-\N{ARABIC-INDIC DIGIT ONE}23456", "step-000005\n"]
    for name in names:
        (bad.checkpoints / name).mkdir()
    (bad.checkpoints / "step-000006").symlink_to(whole.path)
    assert steps(bad) == [3]
    shutil.rmtree(bad.path)
