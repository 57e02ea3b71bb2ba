"""Which process is meant: one that has ended, or another with its number, is not it."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import psutil
from moments import wait_until

from rlhf_engine.system.processes import ProcessId, resident_bytes, this_process


def test_a_process_with_the_same_number_is_another_one() -> None:
    me = this_process()
    assert me == this_process()
    assert me.alive
    for started in ("1", "", "then", "inf"):
        assert not replace(me, started=started).alive
    for pid in (-1, 0, 2**70):
        assert not replace(me, pid=pid).alive


def test_a_process_that_has_ended_is_gone_even_if_nobody_asked_how() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = ProcessId(child.pid, str(psutil.Process(child.pid).create_time()))
    assert process.alive
    child.terminate()
    wait_until(lambda: not process.alive)
    os.kill(child.pid, 0)  # its number is still taken: nobody has waited for it
    child.wait()


def test_the_memory_of_this_process_is_known() -> None:
    assert resident_bytes() > 1_000_000
