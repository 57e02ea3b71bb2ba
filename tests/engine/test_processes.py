"""Which process is meant, and what it is asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from moments import wait_until

from rlhf_engine.processes import ProcessId, _boot, _started, this_process


def test_a_process_with_the_same_number_is_another_one() -> None:
    me = this_process()
    assert me.alive
    assert not replace(me, started="1").alive
    assert not replace(me, started="1").ask_to_leave()


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell")
def test_a_process_that_has_ended_is_gone_even_if_nobody_asked_how() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = ProcessId(child.pid, _started(child.pid), _boot())
    assert process.alive
    assert process.ask_to_leave()
    wait_until(lambda: not process.alive)
    os.kill(child.pid, 0)  # its number is still taken: nobody has waited for it
    assert not process.ask_to_leave()
    assert child.wait() == -signal.SIGTERM


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the system does not tell")
def test_a_process_that_is_stopped_hears_that_it_is_asked_to_leave() -> None:
    heard = "import signal, sys\nsignal.signal(15, lambda *_: sys.exit(7))\nprint(flush=True)\ninput()"
    child = subprocess.Popen([sys.executable, "-c", heard], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    process = ProcessId(child.pid, _started(child.pid), _boot())
    os.kill(child.pid, signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert process.stopped
    assert process.ask_to_leave()
    assert child.wait(60) == 7
    assert not process.stopped
