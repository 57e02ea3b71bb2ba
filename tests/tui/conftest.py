"""A workbench without an engine, for tests of the screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import textual.app
import textual.pilot
from textual.css.stylesheet import Stylesheet
from tui.fake_session import Sessions
from tui.parsed_styles import parsing_once
from tui.settled import settled

from rlhf_engine.config.fields import validate
from rlhf_engine.config.run_config import RunConfig
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.preferences.preferences_file import settings_path
from rlhf_tui.engine.bridge import EngineBridge


@pytest.fixture(scope="session", autouse=True)
def _styles_are_parsed_once() -> Iterator[None]:
    """Each test mounts an app of its own; the rules of the same styles with the same colours are read once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stylesheet, "_parse_rules", parsing_once())
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_key_waits_for_a_while() -> Iterator[None]:
    """After a key a test goes on as soon as the app has done what it asked for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(textual.app, "wait_for_idle", settled)
        patch.setattr(textual.pilot, "wait_for_idle", settled)
        yield


@pytest.fixture(autouse=True)
def _same_for_everyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs and copies of a test lie in its own folder; colours do not depend on who runs it; nobody is new here."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("NO_COLOR", "TEXTUAL_THEME", "TEXTUAL_COLOR_SYSTEM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLORTERM", "truecolor")
    settings_path().parent.mkdir(parents=True)
    settings_path().write_text("hint_seen = true\n")


@pytest.fixture
def config() -> RunConfig:
    return validate({
        "description": "stories with animals",
        "data": {"prompts": ["Once upon a time", "One day"]},
        "rewards": [{
            "kind": "word_list", "name": "words",
            "liked": ["fox", "owl", "bear", "rabbit"], "disliked": ["girl", "boy", "mom"],
        }],
    })


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
