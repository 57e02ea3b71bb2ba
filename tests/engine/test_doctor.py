"""The doctor: what it finds on this machine, and what it warns of on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rlhf_engine.commands import doctor
from rlhf_engine.commands.cli import make_app

ROOT = Path(__file__).parents[2]


def test_everything_asked_for_is_reported(tmp_path: Path) -> None:
    result = CliRunner().invoke(make_app(), ["doctor", "--runs-dir", str(tmp_path / "new" / "runs"), "--json"])
    assert result.exit_code == 0, result.output
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert list(found) == ["rlhf-tui", "terminal", "colours", "runs folder", "free disk", "after logout", "torch",
                           "device", "number formats"]
    for check in found.values():
        assert set(check) == {"name", "level", "value", "advice"}
        assert check["value"]
        assert (check["level"] == "warning") == bool(check["advice"])
    assert "float32" in found["number formats"]["value"]
    assert "made with the first run" in found["runs folder"]["value"]
    assert not (tmp_path / "new").exists()


def test_what_needs_no_torch_comes_before_it_is_imported() -> None:
    script = ("import os, sys; from pathlib import Path; from rlhf_engine.commands.doctor import checks\n"
              "for check in checks(Path('runs'), os.environ):\n"
              "    print(check.name, 'torch' in sys.modules)\n"
              "    if check.name == 'after logout': break")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.stdout.splitlines()[-1] == "after logout False", done.stderr
    assert "True" not in done.stdout


@pytest.mark.parametrize(("files", "kills"), [
    ({}, False),
    ({"a/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, False),
    ({"a/logind.conf": "[Login]\nKillUserProcesses=yes\n"}, True),
    ({"a/logind.conf": "[Login]\nKillUserProcesses = no\n", "b/logind.conf": "KillUserProcesses=yes"}, False),
    ({"b/logind.conf": "[Login]\nKillUserProcesses=yes\n", "a/logind.conf.d/10.conf": "KillUserProcesses=no"}, False),
    ({"a/logind.conf": "KillUserProcesses=no", "b/logind.conf.d/90.conf": "KillUserProcesses=yes\n"}, True),
    ({"a/logind.conf.d/90.conf": "KillUserProcesses=no", "b/logind.conf.d/90.conf": "KillUserProcesses=yes"}, False),
])
def test_systemds_setting_is_read_as_systemd_reads_it(tmp_path: Path, files: dict[str, str], kills: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    check = doctor.logout([tmp_path / "a", tmp_path / "b"], {"USER": "nobody-in-particular"})
    assert (check.level == "warning") is kills
    assert ("loginctl enable-linger" in check.advice) is kills


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    check = doctor.runs_folder(tmp_path)
    tmp_path.chmod(0o700)
    assert check.level == "warning"
    assert "may not write there" in check.value


def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SPACE_WANTED", 10**18)
    check = doctor.free_space(tmp_path)
    assert check.level == "warning"
    assert check.value.endswith("GB")


@pytest.mark.parametrize(("environment", "said", "level"), [
    ({"TERM": "xterm-256color"}, "256", "ok"),
    ({"TERM": "xterm", "COLORTERM": "truecolor"}, "16 million", "ok"),
    ({"TERM": "xterm", "NO_COLOR": "1"}, "NO_COLOR", "ok"),
    ({"TERM": "dumb"}, "unknown", "warning"),
    ({"TERM": "linux"}, "8 or 16", "warning"),
])
def test_colours_are_those_the_terminal_declares(environment: dict[str, str], said: str, level: str) -> None:
    check = doctor.colours(environment)
    assert said in check.value
    assert check.level == level
