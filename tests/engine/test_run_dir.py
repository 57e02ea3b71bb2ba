"""The run on disk: created for one user, driven by one process, readable whatever a crash left."""

from __future__ import annotations

import json
import math
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from configs import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.errors import RunError
from rlhf_engine.events import EditApplied, RunState, Sample, Span
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_lines import MetricsLine, metrics_line, read_lines, readable, sample, to_line
from rlhf_engine.runs.run_list import find_run, list_runs

SAMPLE = Sample(3, "Once", "a fox\n“ran” \x1b[1m", 1.5, {"animals/liked": 1.5}, 0.25, 7, True, (Span(2, 5, "liked"),))


@pytest.fixture
def run(runs_root: Path) -> RunDir:
    return RunDir.create(runs_root, SMALL, preset="animals")


# --- creating ---


def test_a_new_run_holds_its_config_and_is_for_its_owner_alone(run: RunDir, runs_root: Path):
    assert stat.S_IMODE(run.path.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in run.path.iterdir())
    again = RunDir.open(run.path)
    assert again.config() == SMALL
    assert again.preset == "animals"
    assert again.name == run.path.name
    assert run.path.parent == runs_root


def test_default_names_are_readable_and_unique(runs_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("rlhf_engine.runs.run_dir.secrets.choice", lambda words: words[0])
    names = [RunDir.create(runs_root, SMALL).name for _ in range(5)]
    assert names[0] == "amber-badger"
    assert len(set(names)) == 5
    assert all(name.startswith("amber-badger") for name in names)


def test_a_name_that_is_taken_is_refused(runs_root: Path):
    RunDir.create(runs_root, SMALL, name="first")
    with pytest.raises(RunError, match="already a run named first"):
        RunDir.create(runs_root, SMALL, name="first")


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", ".x", "a b", "x" * 65, "ä"])
def test_names_stay_under_their_root(runs_root: Path, name: str):
    with pytest.raises(RunError, match="is not allowed"):
        RunDir.create(runs_root, SMALL, name=name)
    assert not runs_root.exists()


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(RunError, match="is no run"):
        RunDir.open(tmp_path)


def test_a_root_that_cannot_be_made_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="could not be written"):
        RunDir.create(tmp_path / "file" / "runs", SMALL)


def test_no_environment_variable_reaches_a_file(runs_root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_planted_secret")
    run = RunDir.create(runs_root, SMALL)
    with run.lock():
        run.write_status(RunState.TRAINING, 1, 2)
        run.append_metrics(1, 0.1, {"loss": 1.0})
    assert not any(b"planted" in path.read_bytes() for path in run.path.iterdir() if path.is_file())


# --- what was written is read back ---


def test_metrics_samples_and_edits_come_back(run: RunDir):
    run.append_metrics(1, 0.5, {"objective/kl": 0.0, "loss/policy_avg": math.nan, "x": math.inf})
    run.append_samples([SAMPLE])
    run.append_edit(EditApplied(2, "kl.coef", 0.1, 0.2))
    (line,) = run.metrics()
    assert (line.step, line.seconds, line.metrics["objective/kl"]) == (1, 0.5, 0.0)
    assert math.isnan(line.metrics["loss/policy_avg"])
    assert run.samples() == [SAMPLE]
    assert run.edits() == [EditApplied(2, "kl.coef", 0.1, 0.2)]


numbers = st.floats(allow_nan=False, allow_infinity=False)


metrics = st.dictionaries(st.text(max_size=9), numbers, max_size=4)


@given(st.builds(MetricsLine, st.integers(0, 10**9), st.floats(0, 1e12), metrics))
def test_any_metrics_are_one_line_of_valid_json(line: MetricsLine):
    text = to_line({"step": line.step, "seconds": line.seconds, "metrics": line.metrics})
    assert "\n" not in text
    assert metrics_line(json.loads(text, parse_constant=lambda name: pytest.fail(name))) == line


@given(st.text())
@settings(max_examples=50)
def test_any_text_of_a_model_comes_back(text: str):
    row = to_line({"step": 1, "prompt": "", "response": text, "score": 0.0, "parts": {}, "kl": 0.0, "tokens": 1,
                   "finished": False, "spans": []})
    assert sample(json.loads(row)).response == text


def test_half_a_surrogate_pair_does_not_stop_a_run(run: RunDir):
    run.append_metrics(1, 0.0, {"\ud800": 1.0})
    assert run.metrics()[0].metrics == {"\ud800": 1.0}


# --- damage ---


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_torn_end_costs_one_line_and_spoils_no_other(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    run = RunDir.create(tmp_path_factory.mktemp("torn"), SMALL)
    for step in range(1, 4):
        run.append_metrics(step, 0.5, {"objective/kl": step})
    file = run.path / "metrics.jsonl"
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    left = whole[:cut + 1].count(b"\n") if whole[cut:cut + 1] == b"\n" else whole[:cut].count(b"\n")
    assert [line.step for line in run.metrics()] == list(range(1, left + 1))
    run.append_metrics(9, 1.0, {})
    assert [line.step for line in run.metrics()] == [*range(1, left + 1), 9]


@given(st.lists(st.binary(max_size=30)))
@settings(max_examples=60, deadline=None)
def test_no_bytes_in_a_file_make_a_reader_raise(junk: list[bytes]):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lines"
        path.write_bytes(b"\n".join(junk) + b'\n[1]\n{"step": null}\n{"step": 1, "seconds": 2, "metrics": {"a": 3}}\n')
        rows, damaged = read_lines(path)
        assert readable(rows, metrics_line)[-1] == MetricsLine(1, 2.0, {"a": 3.0})
        assert damaged >= 1


def test_fields_of_a_newer_version_are_skipped(run: RunDir):
    row = {"step": 1, "seconds": 2.0, "metrics": {"a": 1.0}, "brand_new": [1]}
    (run.path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert run.metrics() == [MetricsLine(1, 2.0, {"a": 1.0})]
    (run.path / "status.json").write_text('{"state": "levitating"}')
    assert run.status() is None


def test_truncation_drops_what_comes_after_and_says_what_was_damaged(run: RunDir):
    for step in range(1, 6):
        run.append_metrics(step, 0.5, {})
        run.append_edit(EditApplied(step, "kl.coef", 0.1, 0.2))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "sec')
    assert run.truncate_after(3, edits=4) == ["metrics.jsonl: 1 unreadable line was dropped."]
    assert [line.step for line in run.metrics()] == [1, 2, 3]
    assert [edit.step for edit in run.edits()] == [1, 2, 3, 4]
    assert run.truncate_after(3, edits=4) == []


def test_truncation_keeps_lines_byte_for_byte_and_files_that_lose_nothing(run: RunDir):
    lines = [b'{"step": %d,"seconds":1e0, "metrics": {"a": 1.0}, "brand_new": "\\u00e9"}\n' % step
             for step in range(1, 9)]
    path, other = run.path / "metrics.jsonl", run.path / "samples.jsonl"
    path.write_bytes(b"".join([*lines[:2], b"{\n", *lines[2:]]))
    other.write_bytes(b"".join(lines[:3]))
    before = other.stat().st_ino
    run.truncate_after(5, edits=0)
    assert path.read_bytes() == b"".join(lines[:5])
    assert other.stat().st_ino == before
    assert [line.step for line in run.each_step()] == [1, 2, 3, 4, 5]


def test_a_link_in_the_place_of_a_file_is_not_followed(run: RunDir, tmp_path: Path):
    target = tmp_path / "target"
    target.write_text("untouched")
    for name in ("metrics.jsonl", "status.json"):
        (run.path / name).symlink_to(target)
    with pytest.raises(RunError, match="symbolic link"):
        run.append_metrics(1, 0.0, {})
    with pytest.raises(RunError, match="symbolic link"):
        run.write_status(RunState.TRAINING, 1, 2)
    assert target.read_text() == "untouched"


# --- one writer ---

HOLD = """
import sys, time
from pathlib import Path
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
run = RunDir.open(Path(sys.argv[1]))
with run.lock():
    run.write_status(RunState.TRAINING, 3, 10)
    print("held", flush=True)
    time.sleep(60)
"""


def hold(run: RunDir) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


def test_a_second_process_is_refused_with_the_first_ones_pid_and_a_dead_holders_lock_is_free(run: RunDir):
    child = hold(run)
    try:
        with pytest.raises(RunError, match=rf"driven by another process \(pid {child.pid}\)"), run.lock():
            pass
        status = run.status()
        assert status is not None
        assert (status.process.pid, status.interrupted) == (child.pid, False)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    status = run.status()
    assert status is not None
    assert status.interrupted
    assert list_runs(run.path.parent)[0].state == "interrupted"
    with run.lock():
        pass


def test_the_lock_is_free_after_an_error(run: RunDir):
    with pytest.raises(KeyError), run.lock():
        raise KeyError
    with run.lock(), pytest.raises(RunError, match=f"pid {os.getpid()}"), RunDir.open(run.path).lock():
        pass


# --- lists of runs ---


def test_a_run_that_is_about_to_start_is_told_from_one_that_cannot_be_read(run: RunDir):
    assert [summary.state for summary in list_runs(run.path.parent)] == ["not begun"]
    (run.path / "status.json").write_text("{")
    assert [summary.state for summary in list_runs(run.path.parent)] == ["unknown"]


def test_runs_are_listed_last_changed_first_and_found_by_name_or_path(runs_root: Path):
    assert list_runs(runs_root) == []
    first, second = (RunDir.create(runs_root, SMALL, name=name) for name in ("first", "second"))
    first.write_status(RunState.FINISHED, 10, 10, "done")
    second.write_status(RunState.STOPPED, 4, 10)
    os.utime(second.path / "status.json", (1, 1))
    (runs_root / "not-a-run").mkdir()
    assert [(run.name, run.state, run.step, run.total_steps) for run in list_runs(runs_root)] == [
        ("first", "finished", 10, 10), ("second", "stopped", 4, 10)]
    assert find_run("first", runs_root).path == first.path
    assert find_run(str(second.path), Path("elsewhere")).path == second.path
    with pytest.raises(RunError, match="there are first, second"):
        find_run("third", runs_root)
