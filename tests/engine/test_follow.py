"""A follower tells what the trainer told, however the files grow, tear, or are put back."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from configs import SMALL
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import RunError
from rlhf_engine.events import (
    Alarm,
    EditApplied,
    Event,
    Notice,
    PastRead,
    Probed,
    RolledBack,
    RunStarted,
    RunState,
    Sample,
    StateChanged,
    StepFinished,
)
from rlhf_engine.requests import Edit, RequestQueue
from rlhf_engine.runs import follow
from rlhf_engine.runs.follow import Follower
from rlhf_engine.runs.run_care import empty_trash, move_to_trash, rename_run
from rlhf_engine.runs.run_columns import Columns
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import METRICS, PROBES, SAMPLES, STATUS
from rlhf_engine.runs.run_lines import sample_row, to_line
from rlhf_engine.system.processes import ProcessId, this_process
from rlhf_engine.token_trace import TokenTrace
from rlhf_engine.training.trainer import Trainer

GONE = ProcessId(2**22 + 5, "1")
COURSE = (StepFinished, EditApplied, Alarm, Probed)


def response(step: int, number: int) -> Sample:
    return Sample(step, "Once", f"upon a time {number} ü", 1.5, {"length": 1.5}, 0.25, 4, True)


def say(run: RunDir, state: RunState, step: int, process: ProcessId | None = None, message: str = "") -> None:
    """What the trainer writes into status.json, in the name of any process."""
    run.write_status(state, step, 100, message)
    if process is not None:
        row = json.loads((run.path / STATUS).read_text())
        row |= {"pid": process.pid, "process_started": process.started}
        (run.path / STATUS).write_text(json.dumps(row))


def step(run: RunDir, number: int, seconds: float | None = None) -> None:
    """What the trainer writes about one step."""
    run.append_metrics(number, float(number) if seconds is None else seconds, {"objective/kl": number / 3})
    run.append_samples([response(number, index) for index in range(2)])
    say(run, RunState.TRAINING, number)


def finished(number: int, seconds: float | None = None) -> StepFinished:
    samples = tuple(response(number, index) for index in range(2))
    return StepFinished(number, 100, {"objective/kl": number / 3}, samples,
                        float(number) if seconds is None else seconds)


def course(events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, COURSE)]


def timeless(events: list[Event]) -> list[str]:
    """Without the clock's reading, which file and event take one after the other, and without traces, which the file
    rounds; texts, for NaN equals no NaN."""
    def plain(event: Event) -> Event:
        if not isinstance(event, StepFinished):
            return event
        return replace(event, seconds=0.0, samples=tuple(replace(sample, trace=None) for sample in event.samples))

    return [repr(plain(event)) for event in course(events)]


@pytest.fixture
def run(runs_root: Path) -> RunDir:
    return RunDir.create(runs_root, SMALL, name="watched", preset="animals")


@pytest.fixture
def driven(run: RunDir) -> Iterator[RunDir]:
    """The run, driven by this process."""
    with run.lock():
        yield run


@pytest.mark.usefixtures("driven")
def test_all_is_told_at_the_first_look_and_the_new_at_each_later_one(run: RunDir) -> None:
    say(run, RunState.LOADING, 0)
    follower = Follower(run)
    started = RunStarted("watched", str(run.path), SMALL, 0)
    assert follower.poll() == [started, StateChanged(RunState.LOADING, 0, 100)]
    assert follower.poll() == []
    edit, alarm = EditApplied(2, "kl.coef", 0.1, 0.2), Alarm(2, "kl", "KL is far over its target")
    step(run, 1)
    run.append_edit(edit)
    step(run, 2)
    run.append_alarm(alarm)
    told = [finished(1), edit, finished(2), alarm, StateChanged(RunState.TRAINING, 2, 100)]
    assert follower.poll() == told
    assert Follower(run).poll() == [started, *told]
    say(run, RunState.FINISHED, 2, message="finished after step 2")
    assert not follower.ended
    assert follower.poll() == [StateChanged(RunState.FINISHED, 2, 100, "finished after step 2")]
    assert follower.ended


def test_a_run_that_has_begun_and_lost_its_status_is_not_waited_for(run: RunDir) -> None:
    waiting = Follower(run)
    waiting.poll()
    assert not waiting.ended  # it is about to begin
    step(run, 1)
    (run.path / "status.json").unlink()
    with run.lock():
        driven = Follower(run)
        driven.poll()
        assert not driven.ended
    left = Follower(run)
    told = left.poll()
    assert left.ended
    assert any(isinstance(event, Notice) and "status.json" in event.text for event in told)


@pytest.mark.usefixtures("driven")
def test_a_step_waits_for_its_responses_and_for_the_end_of_its_line(run: RunDir) -> None:
    step(run, 1)
    follower = Follower(run)
    follower.poll()
    run.append_metrics(2, 2.0, {"objective/kl": 2 / 3})
    assert follower.poll() == []
    run.append_samples([response(2, index) for index in range(2)])
    line = json.dumps({"step": 3, "seconds": 3.0, "metrics": {"objective/kl": 1.0}}).encode() + b"\n"
    with (run.path / METRICS).open("ab", buffering=0) as file:
        file.write(line[:20])
        assert follower.poll() == []
        file.write(line[20:])
    assert follower.poll() == [finished(2)]


def test_what_cannot_be_read_is_left_out(run: RunDir) -> None:
    follower = Follower(run)
    with (run.path / METRICS).open("ab") as file:
        file.write(b'\xff{"step": 1, "sec')  # torn by a crash; the next line ends it first
    step(run, 2)
    assert course(follower.poll()) == [finished(2)]


def test_a_run_that_is_taken_up_again_goes_back_to_its_checkpoint(run: RunDir) -> None:
    kept, lost = EditApplied(2, "kl.coef", 0.1, 0.2), EditApplied(4, "kl.coef", 0.2, 0.4)
    step(run, 1)
    run.append_edit(kept)
    step(run, 2)
    step(run, 3)
    run.append_edit(lost)
    run.append_alarm(Alarm(3, "kl", "too far"))
    step(run, 4)
    say(run, RunState.TRAINING, 4, GONE)
    follower = Follower(run)
    follower.poll()
    assert follower.ended
    with run.lock():
        run.truncate_after(2, 1)
        say(run, RunState.LOADING, 2)
        step(run, 3, 3.5)
        config = SMALL.model_copy(update={"kl": SMALL.kl.model_copy(update={"coef": 0.2})})
        back, *events = follower.poll()
    assert isinstance(back, RolledBack)
    assert back.step == 2
    assert events == [RunStarted("watched", str(run.path), config, 2), finished(3, 3.5),
                      StateChanged(RunState.TRAINING, 3, 100)]
    assert not follower.ended


def test_a_roll_back_of_the_same_process_is_no_new_start(run: RunDir) -> None:
    for number in (1, 2, 3):
        step(run, number)
    follower = Follower(run)
    follower.poll()
    run.truncate_after(1, 0)
    alarm = Alarm(1, "rolled-back", "diverged at step 3")
    run.append_alarm(alarm)
    run.append_edit(EditApplied(2, "kl.coef", 0.1, 0.05))
    back, *events = follower.poll()
    assert isinstance(back, RolledBack)
    assert events == [alarm, EditApplied(2, "kl.coef", 0.1, 0.05)]
    step(run, 2, 4.5)
    assert course(follower.poll()) == [finished(2, 4.5)]


def test_probes_are_told_in_their_place_and_taken_back_with_their_steps(run: RunDir) -> None:
    probes = {number: response(number, 9) for number in (0, 2, 4)}
    run.append_probe(probes[0])
    for number in (1, 2, 3, 4):
        step(run, number)
        if number in probes:
            run.append_probe(probes[number])
    follower = Follower(run)
    told = [Probed(0, probes[0]), finished(1), finished(2), Probed(2, probes[2]), finished(3), finished(4),
            Probed(4, probes[4])]
    assert course(follower.poll()) == told
    run.truncate_after(3, 0)
    assert course(follower.poll()) == []
    step(run, 4, 4.5)
    again = replace(probes[4], response="another answer")
    run.append_probe(again)
    assert course(follower.poll()) == [finished(4, 4.5), Probed(4, again)]
    assert run.probes() == [probes[0], probes[2], again]


def test_of_a_long_run_only_the_newest_rows_keep_their_traces(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlhf_engine.runs.file_tail.TRACED_ROWS", 3)
    trace = TokenTrace(("a",), {"advantages": (0.5,)}, {"kl_coef": 0.1})
    for number in (1, 2, 3, 4):
        run.append_metrics(number, float(number), {})
        run.append_samples([replace(response(number, 0), trace=trace)], traced=1)
    say(run, RunState.TRAINING, 4)
    told = [event for event in Follower(run).poll() if isinstance(event, StepFinished)]
    assert [event.samples[0].trace for event in told] == [None, trace, trace, trace]
    assert [event.samples[0].response for event in told] == [response(number, 0).response for number in (1, 2, 3, 4)]


def test_a_process_that_is_gone_leaves_nothing_untold(run: RunDir) -> None:
    step(run, 1)
    run.append_metrics(2, 2.0, {"objective/kl": 2 / 3})
    say(run, RunState.TRAINING, 1, GONE)
    follower = Follower(run)
    events = follower.poll()
    assert course(events) == [finished(1), replace(finished(2), samples=())]
    last = events[-1]
    assert isinstance(last, StateChanged)
    assert last.state is RunState.STOPPED
    assert "interrupted after step 1" in last.message
    assert follower.ended


def test_a_run_that_went_from_under_it_is_told_with_where_it_is(run: RunDir, tmp_path: Path) -> None:
    step(run, 1)
    follower = Follower(run)
    assert len(course(follower.poll())) == 1
    renamed = rename_run(run, "other")
    RunDir.create(run.path.parent, SMALL, name="watched")  # another one of that name is not taken for it
    with pytest.raises(RunError, match="The run watched was renamed elsewhere: it is other now"):
        follower.poll()
    move_to_trash(renamed)
    with pytest.raises(RunError, match=f"was deleted elsewhere: it is in the trash of {run.path.parent}"):
        follower.poll()
    empty_trash(run.path.parent)
    with pytest.raises(RunError, match="is gone: it was moved or deleted elsewhere"):
        follower.poll()
    follower.close()


def test_a_follower_writes_nothing(run: RunDir) -> None:
    step(run, 1)
    before = {path.name: path.stat().st_mtime_ns for path in [run.path, *run.path.iterdir()]}
    follower = Follower(run)
    follower.poll()
    follower.close()
    assert {path.name: path.stat().st_mtime_ns for path in [run.path, *run.path.iterdir()]} == before


def test_it_tells_what_the_trainer_told(runs_root: Path, neo_config: RunConfig) -> None:
    emitted: list[Event] = []
    requests = RequestQueue()
    requests.ask(Edit("kl.coef", 0.3))
    run = RunDir.create(runs_root, neo_config, name="real")
    Trainer(neo_config, run_dir=run, requests=requests, emit=emitted.append).run()
    assert timeless(Follower(run).poll()) == timeless(emitted)
    assert len(course(emitted)) >= 4


# --- a long run ---


class Gathered:
    """What a follower hands on of a long run's past."""

    made: ClassVar[list[Gathered]] = []

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.kl: list[float] = []
        self.made.append(self)

    def extend(self, columns: Columns) -> None:
        self.steps += columns.steps
        self.kl += columns.values.get("objective/kl", ())


def long(run: RunDir, first: int, last: int) -> None:
    """Steps as the trainer writes them, quickly; each sixteenth with two responses, each fiftieth with a probe."""
    for name, rows in (
        (METRICS, ({"step": at, "seconds": float(at), "metrics": {"objective/kl": at / 3}}
                   for at in range(first, last + 1))),
        (SAMPLES, (sample_row(response(at, index), traced=False)
                   for at in range(first, last + 1) if at % 16 == 0 for index in range(2))),
        (PROBES, (sample_row(response(at, 0), traced=False)
                  for at in range(first if first > 1 else 0, last + 1) if at % 50 == 0)),
    ):
        with (run.path / name).open("a") as file:
            file.writelines(to_line(row) + "\n" for row in rows)


@pytest.fixture
def gathered() -> list[Gathered]:
    Gathered.made.clear()
    return Gathered.made


def test_of_a_long_run_the_past_is_told_at_once_and_the_newest_steps_one_by_one(
    run: RunDir, gathered: list[Gathered]
) -> None:
    long(run, 1, 20_000)
    edit = EditApplied(77, "kl.coef", 0.1, 0.2)
    run.append_edit(edit)
    say(run, RunState.FINISHED, 20_000, message="finished after step 20000")
    follower = Follower(run, gather=Gathered)
    started, past, *events = follower.poll()
    assert isinstance(started, RunStarted)
    assert started.first_step == 0
    assert isinstance(past, PastRead)
    assert past.past is gathered[0]
    assert gathered[0].steps == list(range(1, past.step + 1))
    assert gathered[0].kl == [step / 3 for step in gathered[0].steps]
    newest = [event for event in events if isinstance(event, StepFinished)]
    assert [event.step for event in newest] == list(range(past.step + 1, 20_001))
    assert len(newest) < 5000
    assert {sample.step for sample in past.samples} == {at for at in range(16, past.step + 1) if at % 16 == 0}
    assert [event.step for event in events if isinstance(event, Probed)] == list(range(0, 20_001, 50))
    assert edit in events
    assert follower.ended
    long(run, 20_001, 20_003)
    say(run, RunState.TRAINING, 20_003)
    assert [event.step for event in follower.poll() if isinstance(event, StepFinished)] == [20_001, 20_002, 20_003]


def test_of_large_files_only_the_end_is_read_and_the_first_probe(
    run: RunDir, gathered: list[Gathered], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "NEWEST_BYTES",
                        follow.NEWEST_BYTES | {METRICS: 4000, SAMPLES: 4000, PROBES: 2000})
    long(run, 1, 2000)
    say(run, RunState.FINISHED, 2000)
    _, past, *events = Follower(run, gather=Gathered).poll()
    assert isinstance(past, PastRead)
    told = [*past.samples, *(sample for event in events if isinstance(event, StepFinished) for sample in event.samples)]
    assert 4 <= len(told) <= 4000 / 100
    assert told[-1] == response(2000, 1)
    probes = [event.step for event in events if isinstance(event, Probed)]
    assert probes[0] == 0
    assert probes[-1] == 2000
    assert len(probes) < 20


def test_a_long_run_that_goes_back_a_little_is_not_gathered_again(run: RunDir, gathered: list[Gathered]) -> None:
    long(run, 1, 20_000)
    say(run, RunState.TRAINING, 20_000)
    follower = Follower(run, gather=Gathered)
    follower.poll()
    run.truncate_after(19_990, 0)
    long(run, 19_991, 19_995)
    say(run, RunState.TRAINING, 19_995)
    back, *events = follower.poll()
    assert isinstance(back, RolledBack)
    assert back.step == 19_995  # the same steps with the same clock's reading: nothing to take back there
    assert course(events) == []
    assert len(gathered) == 1


def test_a_long_run_that_goes_far_back_is_told_anew(run: RunDir, gathered: list[Gathered]) -> None:
    long(run, 1, 20_000)
    say(run, RunState.TRAINING, 20_000)
    follower = Follower(run, gather=Gathered)
    follower.poll()
    run.truncate_after(15_000, 0)
    say(run, RunState.TRAINING, 15_000)
    started, past, *events = follower.poll()
    assert isinstance(started, RunStarted)
    assert started.first_step == 0
    assert isinstance(past, PastRead)
    newest = [event.step for event in events if isinstance(event, StepFinished)]
    assert gathered[1].steps + newest == list(range(1, 15_001))


def test_who_prints_a_long_run_gets_all_its_steps_a_portion_at_a_look(
    run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "LOOK_BYTES", 10_000)
    long(run, 1, 1000)
    edits = [EditApplied(at, "kl.coef", 0.1, at / 1000) for at in (10, 500, 1000)]
    for edit in edits:
        run.append_edit(edit)
    say(run, RunState.FINISHED, 1000, message="finished")
    follower, told, looks = Follower(run, samples=False), list[Event](), 0
    while not follower.ended:
        told, looks = told + follower.poll(), looks + 1
    assert looks > 5
    assert [event.step for event in told if isinstance(event, StepFinished)] == list(range(1, 1001))
    assert not any(event.samples for event in told if isinstance(event, StepFinished))
    for edit in edits:
        assert told[told.index(edit) + 1] == StepFinished(edit.step, 100, {"objective/kl": edit.step / 3}, (),
                                                          float(edit.step))
    assert isinstance(told[-1], StateChanged)
    assert sum(isinstance(event, StateChanged) for event in told) == 1


# --- any cut of what is written gives the same events ---

Write = tuple[str, bytes]


def writes(folder: Path, actions: list[str]) -> tuple[RunDir, list[Write]]:
    """A run in which `actions` happened, and what was written in which order: (file, bytes added, or whole status)."""
    run, done = RunDir.create(folder, SMALL, name="whole"), list[Write]()
    sizes: dict[str, int] = {}

    def note(name: str) -> None:
        data = (run.path / name).read_bytes()
        done.append((name, data if name == STATUS else data[sizes.get(name, 0):]))
        sizes[name] = len(data)

    number = 0
    for action in actions:
        if action == "edit":
            run.append_edit(EditApplied(number + 1, "kl.coef", 0.1, 0.2 + len(done) / 1000))
            note("edits.jsonl")
        elif action == "probe":
            run.append_probe(response(number, len(done)))
            note("probes.jsonl")
        elif action == "alarm":
            run.append_alarm(Alarm(number, "kl", f"KL is far over its target ({len(done)})"))
            note("alarms.jsonl")
        else:
            number += 1
            run.append_metrics(number, float(number), {"objective/kl": number / 3})
            note(METRICS)
            for index in range(2):
                run.append_samples([response(number, index)])
                note("samples.jsonl")
            (run.path / STATUS).write_text(json.dumps(status_row(number)))
            note(STATUS)
    return run, done


def status_row(number: int) -> dict[str, object]:
    process = this_process()
    return {"state": "training", "step": number, "total_steps": 100, "message": "", "pid": process.pid,
            "process_started": process.started}


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_cut_of_what_is_written_gives_the_same_events(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=4))
    probes = data.draw(st.sets(st.integers(0, len(counts))))
    actions = ["probe"] * (0 in probes) + [
        action for number, (edits, alarms) in enumerate(counts, 1)
        for action in ["edit"] * edits + ["step"] + ["alarm"] * alarms + ["probe"] * (number in probes)]
    with tempfile.TemporaryDirectory() as folder, ExitStack() as driven:
        whole, done = writes(Path(folder), actions)
        growing = RunDir.create(Path(folder), SMALL, name="growing")
        for run in (whole, growing):
            driven.enter_context(run.lock())
        follower, told = Follower(growing), list[Event]()
        for name, written in done:
            if name == STATUS:
                aside = growing.path / "aside"
                aside.write_bytes(written)
                os.replace(aside, growing.path / name)
            else:
                cuts = sorted(data.draw(st.lists(st.integers(0, len(written)), max_size=2), label=name))
                for start, end in zip([0, *cuts], [*cuts, len(written)], strict=True):
                    with (growing.path / name).open("ab") as file:
                        file.write(written[start:end])
                    if cuts:
                        told += follower.poll()
            if data.draw(st.booleans()):
                told += follower.poll()
        told += follower.poll()
        assert course(told) == course(Follower(whole).poll())
        assert [event.step for event in told if isinstance(event, StepFinished)] == list(
            range(1, len(counts) + 1))
        follower.close()
