"""How `rlhf-tui` begins: at once without arguments, by the command line with any."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rlhf_engine.config import presets
from rlhf_tui import cli, launch, start


@pytest.fixture(autouse=True)
def _garbage_is_collected_again() -> Iterator[None]:
    yield
    gc.enable()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was opened: by the workbench alone, or by the command line."""
    found: list[str] = []

    def run_workbench(config: Any, preset: str, **_: Any) -> int:
        found.append(f"workbench {preset} {config.train.steps}")
        return 7

    monkeypatch.setattr(presets, "user_folder", lambda: tmp_path)
    monkeypatch.setattr(start, "no_screen", lambda: "")
    monkeypatch.setattr(launch, "run_workbench", run_workbench)
    monkeypatch.setattr(cli, "main", lambda: found.append("command line"))
    return found


def test_without_arguments_the_workbench_opens_at_once(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rlhf-tui"])
    with pytest.raises(SystemExit) as left:
        start.main()
    assert left.value.code == 7
    assert opened == [f"workbench animals {presets.load('animals').train.steps}"]


def test_arguments_are_for_the_command_line(monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["rlhf-tui", "--start"])
    start.main()
    assert opened == ["command line"]
    assert gc.isenabled()


def test_a_broken_preset_is_told_by_the_command_line(
    monkeypatch: pytest.MonkeyPatch, opened: list[str], tmp_path: Path
) -> None:
    (tmp_path / "animals.toml").write_text("steps = [")
    monkeypatch.setattr(sys, "argv", ["rlhf-tui"])
    start.main()
    assert opened == ["command line"]


def test_the_first_frame_imports_no_command_line_and_no_engine() -> None:
    late = ("torch", "transformers", "peft", "plotext", "numpy", "typer", "psutil", "huggingface_hub",
            "rlhf_engine.commands.cli", "rlhf_engine.commands.training", 
            "rlhf_engine.training.trainer", "rlhf_engine.session")
    code = ("import sys, rlhf_tui.start, rlhf_tui.launch, rlhf_engine.config.presets;"
            "rlhf_engine.config.presets.load('animals');"
            f"print([name for name in {late!r} if name in sys.modules])")
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "[]", done.stderr
