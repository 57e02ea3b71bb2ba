"""A workbench without an engine, for tests of the screen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_session import FakeSession

from rlhf_engine.config import RunConfig
from rlhf_engine.fields import validate
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.bridge import EngineBridge


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing a test does lands in the user's folders; colours do not depend on who runs it."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config() -> RunConfig:
    return validate({
        "description": "stories with animals",
        "prompts": ["Once upon a time", "One day"],
        "rewards": [{
            "kind": "word_list", "name": "words",
            "liked": ["fox", "owl", "bear", "rabbit"], "disliked": ["girl", "boy", "mom"],
        }],
    })


class Sessions(list[FakeSession]):
    """Makes fake sessions and keeps them, newest last."""

    def __call__(self, emit: Callable[..., None]) -> FakeSession:
        self.append(FakeSession(emit))
        return self[-1]

    @property
    def last(self) -> FakeSession:
        return self[-1]


@pytest.fixture
def sessions() -> Iterator[Sessions]:
    made = Sessions()
    yield made
    for session in made:
        session.release()


@pytest.fixture
def bridge(tmp_path: Path, sessions: Sessions) -> EngineBridge:
    return EngineBridge(tmp_path / "runs", sessions)


@pytest.fixture
def app(bridge: EngineBridge, config: RunConfig) -> WorkbenchApp:
    return WorkbenchApp(bridge, config, "animals")
