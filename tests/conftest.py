"""What all tests share: no test touches the user's folders, or leaves torch more threads than the machine can spare."""

from __future__ import annotations

import gc
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

gc.disable()  # until all is imported, see below
# before anything asks for a folder: HOME and the XDG folders of this test process (and its children) are its own
_HOME = Path(tempfile.mkdtemp(prefix="rlhf-tests-"))
for _name, _folder in {"HOME": ".", "XDG_CONFIG_HOME": "config", "XDG_DATA_HOME": "data", "XDG_CACHE_HOME": "cache",
                       "XDG_STATE_HOME": "state"}.items():
    os.environ[_name] = str((_HOME / _folder).resolve())
os.environ["HF_HUB_OFFLINE"] = "1"
# a suite that was started with nohup, or in the background of a script, ignores these, and would hand that on to each
# process that a test hangs up on, or interrupts
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
# read when torch is first imported: one thread in each test process, and none that spins while others want the core
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
# models that leave it to us are computed in float32 on every machine: in bfloat16 numbers are not those of transformers
os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX512_CORE"


# how long an example takes says something of the machine, not of the code
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=40)
settings.register_profile("soak", settings.get_profile("any machine"), max_examples=1000)
settings.load_profile("any machine")


def pytest_collection_finish() -> None:
    """What all tests share is no garbage: looking through the libraries' objects for it, again and again, takes a tenth
    of the time. What tests leave behind is looked for seldom; those that are about it look themselves."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's folder of its own for each test."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))


@pytest.fixture(autouse=True)
def _denormals() -> Iterator[None]:
    """Loading a model sets its thread to round denormals to zero; hypothesis wants to draw them.

    Before the test, for a fixture of its module may have loaded one, and after it.
    """
    def allow() -> None:
        if "torch" in sys.modules:
            sys.modules["torch"].set_flush_denormal(False)

    allow()
    yield
    allow()


@pytest.fixture
def runs_root(tmp_path: Path) -> Path:
    """Where runs of this test lie."""
    return tmp_path / "runs"
