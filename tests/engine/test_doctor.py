"""The doctor: what it finds on this machine, and what it warns of on others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_models import tiny_config
from typer.testing import CliRunner

from rlhf_engine.commands import doctor
from rlhf_engine.commands.cli import make_app
from rlhf_engine.commands.doctor_torch import new_runs_take, no_gpu
from rlhf_engine.config.run_config import RunConfig
from rlhf_engine.errors import ModelError
from rlhf_engine.models.dtype_trial import found_faster

ROOT = Path(__file__).parents[2]


def test_everything_asked_for_is_reported(tmp_path: Path) -> None:
    result = CliRunner().invoke(make_app(), ["doctor", "--runs-dir", str(tmp_path / "new" / "runs"), "--json"])
    assert result.exit_code == 0, result.output
    found = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert list(found) == ["rlhf-tui", "terminal", "colours", "runs folder", "free disk", "compiler", "after logout",
                           "torch", "device", "number formats", "new runs take"]
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


@pytest.mark.parametrize(("there", "own", "said"), [
    (["gcc", "g++"], {}, ["gcc", "g++"]),
    (["clang", "clang++"], {}, ["clang", "clang++"]),
    (["cc"], {}, ["no compiler for C++"]),
    ([], {}, ["no compiler for C,", "no compiler for C++", "torch.compile"]),
    (["gcc", "g++", "mine"], {"CC": "mine"}, ["mine", "g++"]),
    (["gcc", "g++"], {"CXX": "gone"}, ["gcc", "no compiler for C++", "CXX=gone"]),
])
def test_compilers_are_looked_for_where_torch_looks(
    tmp_path: Path, there: list[str], own: dict[str, str], said: list[str]
) -> None:
    for name in there:
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "Python.h").touch()
    check = doctor.compiler({"PATH": str(tmp_path), **own}, tmp_path)
    assert all(word in check.value for word in said), check.value
    assert ("torch.compile" in check.value) is ("no " in check.value)


def test_headers_of_python_that_are_missing_are_said(tmp_path: Path) -> None:
    assert "Python.h" in doctor.compiler(os.environ, tmp_path).value


@pytest.mark.parametrize(("built_for", "nvidia", "level", "advice"), [
    (None, False, "ok", ""),
    ("CUDA 12.8", False, "ok", ""),
    (None, True, "warning", "pytorch.org"),
    ("CUDA 12.8", True, "warning", "nvidia-smi"),
])
def test_a_gpu_that_torch_does_not_use_is_said(built_for: str | None, nvidia: bool, level: str, advice: str) -> None:
    check = no_gpu(built_for, nvidia)
    assert (check.level, check.value[:3]) == (level, "cpu")
    assert advice in check.advice


UNITS = {"avx512_bf16": True}


@pytest.mark.parametrize(("device", "environment", "abilities", "takes", "said"), [
    ("cpu", {}, {}, "float32 ", "AMX"),
    ("cpu", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, UNITS, "float32 ", "ONEDNN_MAX_CPU_ISA"),
    ("cpu", {}, UNITS, "bfloat16 or float32 ", "none was tried"),
    ("mps", {}, UNITS, "float32 ", ""),
])
def test_the_number_format_of_new_runs_is_said_with_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, environment: dict[str, str],
    abilities: dict[str, bool], takes: str, said: str,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    check = new_runs_take(device, environment, abilities)
    assert check.value.startswith(takes)
    assert said in check.value


def test_what_trials_found_is_said_of_the_models_that_were_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model_folders: dict[str, Path]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, seconds in (("llama", 0.4), ("gpt2", 2.0)):
        config = tiny_config(model_folders[name], model={"dtype": "auto"})
        found_faster(config, capable=True,
                     seconds=lambda asked, half=seconds: {"float32": 1.0, "bfloat16": half}[asked.model.dtype])

    def fails(asked: RunConfig) -> float:
        if asked.model.dtype == "bfloat16":
            raise ModelError("numbers that are not finite")
        return 1.0

    found_faster(tiny_config(model_folders["gpt_neo"], model={"dtype": "auto"}), capable=True, seconds=fails)
    said = new_runs_take("cpu", {}, UNITS).value
    told = {name: next(part for part in said.split("; ") if name in part) for name in ("llama", "gpt2", "gpt_neo")}
    assert "bfloat16, " in told["llama"]
    assert "2.5 times" in told["llama"]
    assert "float32, " in told["gpt2"]
    assert "0.5 times" in told["gpt2"]
    assert "float32, for it does not pass" in told["gpt_neo"]
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(999), raising=False)  # another machine
    assert "none was tried" in new_runs_take("cpu", {}, UNITS).value
