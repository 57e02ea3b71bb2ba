"""What the workbench remembers: read whatever the file holds, written whole, nothing of the user's lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from rlhf_tui.areas.preferences.preferences_file import Settings, SettingsFile, load, settings_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config" / "settings.toml"


def write(path: Path, text: str) -> SettingsFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return SettingsFile(path)


def test_a_first_start_has_defaults_and_writes_nothing(path: Path) -> None:
    file = SettingsFile(path)
    assert (file.settings, file.problem) == (Settings(), "")
    assert file.keep() == file.save() == ""
    assert not path.exists()


def test_it_lies_in_the_config_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    assert settings_path() == tmp_path / "elsewhere" / "rlhf-tui" / "settings.toml"


def test_what_was_changed_comes_back_and_nothing_else_is_written(path: Path) -> None:
    file = SettingsFile(path)
    file.change(theme="workbench-light", charts=("objective/kl", "lr", "kl_coef", "val/ratio"), zoomed=False)
    assert file.keep() == ""
    assert set(tomllib.loads(path.read_text())) == {"theme", "charts"}
    again = SettingsFile(path)
    assert again.settings == file.settings
    assert again.problem == ""


def test_nothing_is_written_when_nothing_changed(path: Path) -> None:
    file = write(path, 'theme = "workbench-light"\n')
    before = path.stat()
    file.change(theme="workbench-light")
    assert file.keep() == ""
    assert file.save() == ""
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize(("text", "name", "said"), [
    ("theme = 5", "theme", "theme: must be the name of a theme"),
    ('theme = "../x"', "theme", "theme: must be"),
    ("redraws_per_second = 30", "redraws_per_second", "from 0.1 to 2"),
    ("redraws_per_second = nan", "redraws_per_second", "from 0.1 to 2"),
    ("redraws_per_second = true", "redraws_per_second", "from 0.1 to 2"),
    ('charts = ["lr"]', "charts", "a list of four names of metrics"),
    ('charts = ["lr", "lr", "lr", "no such"]', "charts", "a list of four names of metrics"),
    ("smoothing = 1.0", "smoothing", '"auto", 0, 0.6, 0.9 or 0.97'),
    ('notifications = "email"', "notifications", '"off", "bell" or "osc"'),
    ("zoomed = 1", "zoomed", "true or false"),
])
def test_a_wrong_value_costs_that_value_alone(path: Path, text: str, name: str, said: str) -> None:
    file = write(path, f'chart_marks = "ascii"\n{text}\n')
    assert getattr(file.settings, name) == getattr(Settings(), name)
    assert file.settings.chart_marks == "ascii"
    assert said in file.problem
    assert str(path) in file.problem


def test_a_whole_number_is_a_number(path: Path) -> None:
    assert write(path, "redraws_per_second = 1\nsmoothing = 0\n").settings.redraws_per_second == 1.0


@pytest.mark.parametrize("content", [b"theme = ", b"\xff\xfe", b"[" * 100_000, b"x = " + b"[" * 9000 + b"]" * 9000])
def test_what_is_no_toml_is_one_sentence_and_stays(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    file = SettingsFile(path)
    assert file.settings == Settings()
    assert "not valid TOML" in file.problem
    assert "\n" not in file.problem
    file.change(zoomed=True)
    assert file.keep() == ""
    assert path.read_bytes() == content  # nobody asked for it to be written
    assert file.save() == ""
    assert tomllib.loads(path.read_text()) == {"zoomed": True}
    (aside,) = path.parent.glob("*.wrong")
    assert aside.read_bytes() == content


def test_a_wrong_file_stays_until_the_user_saves(path: Path) -> None:
    text = '# mine\ntheme = 5\nchart_marks = "ascii" # no dots here\n'
    file = write(path, text)
    file.change(last_preset="sea")
    assert file.keep() == ""
    assert path.read_text() == text
    file.change(smoothing=0.6)
    assert file.save() == ""
    assert "# mine" in path.read_text()
    assert "# no dots here" in path.read_text()
    assert tomllib.loads(path.read_text()) == {"chart_marks": "ascii", "last_preset": "sea", "smoothing": 0.6}
    assert SettingsFile(path).problem == ""


def test_a_key_of_a_newer_version_is_said_and_kept(path: Path) -> None:
    file = write(path, "sparkles = true\n")
    assert "sparkles: no such preference" in file.problem
    file.change(hint_seen=True)
    assert file.keep() == ""
    assert tomllib.loads(path.read_text()) == {"sparkles": True, "hint_seen": True}


def test_two_workbenches_keep_what_each_of_them_changed(path: Path) -> None:
    first, second = SettingsFile(path), SettingsFile(path)
    first.change(theme="workbench-light")
    second.change(smoothing=0.6)
    assert first.keep() == second.keep() == ""
    assert (load(path).settings.theme, load(path).settings.smoothing) == ("workbench-light", 0.6)


WRITER = """
import sys
from pathlib import Path
from rlhf_tui.areas.preferences.preferences_file import SettingsFile
for count in range(25):
    file = SettingsFile(Path(sys.argv[1]))
    file.change(**{sys.argv[2]: (count % 2 == 0) if sys.argv[2] != "last_preset" else f"p{count}"})
    said = file.keep()
    assert not said and not file.problem, (said, file.problem)
"""


def test_processes_that_write_at_once_never_leave_a_torn_file(path: Path) -> None:
    names = ["zoomed", "hint_seen", "last_preset"]
    children = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stderr=subprocess.PIPE,
                                 env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}) for name in names]
    for child in children:
        assert child.communicate(timeout=120)[1] == b""
    assert tomllib.loads(path.read_text()) == {"zoomed": True, "hint_seen": True, "last_preset": "p24"}
    assert [entry.name for entry in path.parent.iterdir()] == ["settings.toml"]


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    file = SettingsFile(tmp_path / "config" / "settings.toml")
    (tmp_path / "config").write_text("no folder")
    file.change(zoomed=True)
    said = file.keep()
    assert said.startswith("preferences were not kept: ")
    assert "\n" not in said
    assert file.settings.zoomed  # it counts here all the same


def test_a_link_is_not_followed(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    (tmp_path / "target").write_text("")
    path.symlink_to(tmp_path / "target")
    file = SettingsFile(path)
    file.change(zoomed=True)
    assert "symbolic link" in file.keep()
    assert (tmp_path / "target").read_text() == ""


def test_what_is_not_allowed_is_not_taken(path: Path) -> None:
    file = SettingsFile(path)
    with pytest.raises(ValidationError):
        file.change(redraws_per_second=60.0)
    assert file.settings == Settings()


VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                      lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)) | st.text(), VALUES, max_size=6))
def test_any_toml_gives_settings(tmp_path_factory: Any, data: dict[str, Any]) -> None:
    import tomlkit

    path = tmp_path_factory.mktemp("any") / "settings.toml"
    try:
        path.write_text(tomlkit.dumps(json.loads(json.dumps(data)), sort_keys=False), encoding="utf-8")
    except Exception:  # a value that TOML cannot say
        return
    file = SettingsFile(path)
    assert isinstance(file.settings, Settings)
    file.change(hint_seen=not file.settings.hint_seen)
    wanted = file.settings
    assert file.save() == ""
    assert load(path).settings == wanted
    assert load(path).state == "fine"
