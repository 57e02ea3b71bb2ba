"""Who drives a run is who holds its lock: no file proves it, and nobody who may only read keeps its owner from it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from configs import SMALL
from moments import wait_until

from rlhf_engine.errors import RunError
from rlhf_engine.events import RunState
from rlhf_engine.runs import kernel_locks
from rlhf_engine.runs.follow import Follower
from rlhf_engine.runs.run_care import move_to_trash, rename_run
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_files import LOCK, STATUS
from rlhf_engine.runs.run_list import list_runs
from rlhf_engine.runs.take_over import ask_to_leave
from rlhf_engine.system.processes import this_process

kernel_tells = pytest.mark.skipif(not Path("/proc/locks").exists(), reason="the system does not tell who holds a lock")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes a second user, which only root may become")

STRANGER = 65534

# says "ready" once it has done what `act` is, and then does nothing until it is asked to leave
PROGRAM = """
import fcntl, os, sys, time
from pathlib import Path
import platformdirs, psutil
from rlhf_engine.errors import RunError
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_engine.runs.run_list import list_runs
from rlhf_engine.runs.take_over import ask_to_leave
if {user}:  # not before all is imported: another user need not be able to read where it lies
    os.setgroups([])
    os.setgid({user})
    os.setuid({user})
run = RunDir(Path(sys.argv[1]))
lock = run.path / "run.lock"
{act}
print("ready", flush=True)
time.sleep(600)
"""
DRIVES = """
held = run.lock()
held.__enter__()
run.write_status(RunState.TRAINING, 3, 10)
"""
ONLY_LOCKS = """
handle = os.open(lock, os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_{kind})
"""
LEAVES_IT_TO_A_CHILD = """
handle = os.open(lock, os.O_RDONLY)
fcntl.flock(handle, fcntl.LOCK_EX)
if os.fork():
    os._exit(0)
"""


def program(run: RunDir, act: str, user: int = 0) -> subprocess.Popen[str]:
    """In a process of its own, of this user or another one."""
    return subprocess.Popen([sys.executable, "-c", PROGRAM.format(act=act, user=user), str(run.path)], text=True,
                            stdout=subprocess.PIPE, start_new_session=True,
                            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})


@pytest.fixture
def run(runs_root: Path) -> RunDir:
    run = RunDir.create(runs_root, SMALL, name="quiet-owl")
    with run.lock():
        run.write_status(RunState.TRAINING, 3, 10)
    return run


@pytest.fixture
def begin() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    def begin(run: RunDir, act: str, user: int = 0) -> subprocess.Popen[str]:
        process = program(run, act, user)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    started: list[subprocess.Popen[str]] = []
    yield begin
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # with the child that it has left
        process.wait()


@pytest.fixture
def no_lock_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on macOS."""
    monkeypatch.setattr(kernel_locks, "LOCK_LIST", tmp_path / "none")


@pytest.fixture
def shared(run: RunDir) -> RunDir:
    """The run, which its owner lets everybody read."""
    for folder in (run.path, *run.path.parents):
        if folder == Path("/tmp"):
            break
        folder.chmod(0o755)
    for file in run.path.iterdir():
        file.chmod(0o644)
    return run


def state(run: RunDir) -> str:
    (summary,) = list_runs(run.path.parent)
    return summary.state


def name_in_status(run: RunDir, pid: object, **others: object) -> None:
    row = json.loads((run.path / STATUS).read_text())
    (run.path / STATUS).write_text(json.dumps(row | {"pid": pid} | others))


def is_there(process: subprocess.Popen[str]) -> bool:
    time.sleep(0.05)  # a signal that was sent would have ended it
    return process.poll() is None


# --- a file proves nothing ---


@pytest.mark.parametrize("pid", [-1, 0, 1, 2**70, "four", None, 1e999, -2**31, True])
def test_whatever_number_a_status_names_nobody_drives_a_run_whose_lock_is_free(run: RunDir, pid: object) -> None:
    name_in_status(run, pid)
    assert run.driver() is None
    assert ask_to_leave(run) is None
    assert state(run) in ("interrupted", "unknown")


def test_a_process_that_a_status_describes_truly_is_left_alone_while_the_lock_is_free(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    innocent = begin(run, "run.write_status(RunState.TRAINING, 3, 10)")
    status = run.status()
    assert status is not None
    assert status.process.pid == innocent.pid
    assert status.interrupted
    assert state(run) == "interrupted"
    follower = Follower(run)
    follower.poll()
    assert follower.ended
    assert ask_to_leave(run) is None
    assert is_there(innocent)


@kernel_tells
def test_a_process_that_a_status_names_is_left_alone_while_another_holds_the_lock(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    innocent, driver = begin(run, ""), begin(run, DRIVES)
    name_in_status(run, innocent.pid)
    with pytest.raises(RunError, match=str(driver.pid)):
        ask_to_leave(run)
    assert is_there(innocent)
    assert is_there(driver)


def test_a_status_of_an_earlier_version_is_read(run: RunDir) -> None:
    name_in_status(run, os.getpid(), process_started="4711", boot_id="b5d3")
    assert state(run) == "interrupted"
    with run.lock():
        assert state(run) == "training"


# --- who holds the lock drives ---


@kernel_tells
def test_who_holds_the_lock_drives_and_is_asked_to_leave(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(run, DRIVES)
    driver = run.driver()
    assert driver is not None
    assert (driver.pid, driver.user, driver.proven) == (process.pid, os.geteuid(), True)
    assert state(run) == "training"
    asked = ask_to_leave(run)
    assert asked is not None
    wait_until(lambda: asked.gone)  # though nobody has asked yet how it ended
    assert process.wait() == -signal.SIGTERM
    assert run.driver() is None


@kernel_tells
def test_one_that_is_stopped_hears_that_it_is_asked(run: RunDir, begin: Callable[..., subprocess.Popen[str]]) -> None:
    process = begin(run, DRIVES + "import signal\nsignal.signal(15, lambda *_: sys.exit(7))")
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    assert ask_to_leave(run) is not None
    assert process.wait(60) == 7


def test_where_the_kernel_has_no_list_the_process_that_the_held_lock_names_is_the_driver(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]], no_lock_list: None
) -> None:
    process = begin(run, DRIVES)
    driver = run.driver()
    assert driver is not None
    assert (driver.pid, driver.user) == (process.pid, os.geteuid())
    asked = ask_to_leave(run)
    assert asked is not None
    assert process.wait(60) == -signal.SIGTERM
    wait_until(lambda: asked.gone)
    assert run.driver() is None
    with run.lock():
        pass


def test_where_the_kernel_has_no_list_a_process_that_files_name_is_left_alone_unless_it_has_the_lock_open(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]], no_lock_list: None
) -> None:
    innocent, driver = begin(run, ""), begin(run, DRIVES)
    name_in_status(run, innocent.pid)
    (run.path / LOCK).write_text(f"{innocent.pid}\n")
    found = run.driver()
    assert found is not None
    assert found.pid is None
    with pytest.raises(RunError):
        ask_to_leave(run)
    with pytest.raises(RunError), run.lock():
        pass
    assert is_there(innocent)
    assert is_there(driver)


def test_this_process_is_never_asked(run: RunDir) -> None:
    with run.lock():
        run.write_status(RunState.TRAINING, 3, 10)
        driver = run.driver()
        assert driver is not None
        with pytest.raises(RunError):
            ask_to_leave(run)


@kernel_tells
def test_a_process_that_started_this_one_is_never_asked(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(run, DRIVES + """
child = os.fork()
if not child:
    try:
        ask_to_leave(run)
    except Exception as error:
        os._exit(42 if str(os.getppid()) in str(error) else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
""")
    assert is_there(process)


def test_a_child_that_a_driver_leaves_behind_holds_nothing(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    process = begin(run, DRIVES + "if os.fork():\n    os._exit(0)")
    process.wait()
    assert state(run) == "interrupted"
    with run.lock():
        pass


@kernel_tells
def test_a_driver_is_not_asked_by_way_of_a_copy_that_shares_its_lock(
    run: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    driver = begin(run, DRIVES)
    copy = run.path.with_name("copy")
    copy.mkdir()
    for name in os.listdir(run.path):
        os.link(run.path / name, copy / name)
    with pytest.raises(RunError, match="link"):
        ask_to_leave(RunDir(copy))
    run.path.with_name("other").symlink_to(run.path)
    with pytest.raises(RunError, match="link"):
        ask_to_leave(RunDir(run.path.with_name("other")))
    assert is_there(driver)
    driver.kill()
    driver.wait()
    with RunDir(copy).lock(), run.lock():  # one file no more
        pass


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)])
def test_what_is_no_file_in_the_place_of_the_lock_holds_nobody(run: RunDir, make: Callable[[Path], None]) -> None:
    (run.path / LOCK).unlink()
    make(run.path / LOCK)
    assert run.driver() is None
    assert state(run) == "interrupted"
    with pytest.raises(RunError, match=LOCK), run.lock():
        pass


def test_many_look_whether_a_run_is_driven_while_it_is_taken(run: RunDir) -> None:
    looks = 'print("looks", flush=True)\nwhile True:\n    run.driver()'
    watching = [program(run, looks) for _ in range(2)]
    try:
        for process in watching:
            assert process.stdout
            assert process.stdout.readline() == "looks\n"
        for _ in range(300):
            with run.lock():
                pass
    finally:
        for process in watching:
            process.kill()
            process.wait()


# --- who may only read ---


def test_a_lock_that_others_may_open_is_its_owners_alone_once_it_was_taken(shared: RunDir) -> None:
    with (shared.path / LOCK).open() as before:
        with shared.lock():
            assert (shared.path / LOCK).stat().st_mode & 0o777 == 0o600
            assert not os.path.samestat(os.fstat(before.fileno()), (shared.path / LOCK).stat())
        assert os.listdir(shared.path.parent) == ["quiet-owl"]


@as_root
@kernel_tells
@pytest.mark.parametrize("act", [ONLY_LOCKS.format(kind="EX"), ONLY_LOCKS.format(kind="SH"), LEAVES_IT_TO_A_CHILD])
def test_a_reader_who_holds_the_lock_keeps_nobody_from_the_run(
    shared: RunDir, begin: Callable[..., subprocess.Popen[str]], act: str
) -> None:
    begin(shared, act, STRANGER)
    assert shared.driver() is None
    assert state(shared) == "interrupted"
    assert ask_to_leave(shared) is None
    with shared.lock():
        driver = shared.driver()
        assert driver is not None
        assert driver.pid == os.getpid()
        with pytest.raises(RunError, match=str(os.getpid())), RunDir(shared.path).lock():
            pass
    assert [name for name in os.listdir(shared.path) if LOCK in name] == [LOCK]
    move_to_trash(rename_run(shared, "bold-fox"))


@as_root
@kernel_tells
def test_one_who_might_write_the_run_is_named_and_keeps_it(
    shared: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    shared.path.chmod(0o777)
    other = begin(shared, ONLY_LOCKS.format(kind="EX"), STRANGER)
    with pytest.raises(RunError, match=rf"\b{other.pid}\b") as refused, shared.lock():
        pass
    assert str(os.getpid()) not in str(refused.value)  # whom the file still names
    with pytest.raises(RunError, match=rf"\b{other.pid}\b"):
        ask_to_leave(shared)
    assert is_there(other)


@as_root
@kernel_tells
def test_a_run_that_another_user_drives_is_shown_so_and_not_taken(
    shared: RunDir, begin: Callable[..., subprocess.Popen[str]]
) -> None:
    seen = """
try:
    ask_to_leave(run)
    print("asked")
except RunError as error:
    print(error)
print(list_runs(run.path.parent)[0].state, run.driver())
"""
    process = begin(shared, DRIVES)
    (shared.path / STATUS).chmod(0o644)

    def look() -> list[str]:
        looking = program(shared, seen + "sys.exit()", STRANGER)
        return looking.communicate()[0].splitlines()

    refused, told = look()
    assert str(process.pid) in refused
    assert "root" in refused
    assert told.split()[0] == "training"
    assert is_there(process)
    process.kill()
    process.wait()
    name_in_status(shared, os.getpid(), process_started=this_process().started)
    assert look() == ["asked", "interrupted None"]  # there was nobody to be asked
