"""Runs and presets of earlier versions open as they did: listed, watched, verified, compared, exported, resumed.

`data/old_runs/make.py` made them, with each version that people may have runs of.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
from moments import until
from typer.testing import CliRunner, Result

from rlhf_engine.commands.cli import make_app
from rlhf_engine.config import presets
from rlhf_engine.events import RunState
from rlhf_engine.runs.run_dir import RunDir
from rlhf_tui.app import WorkbenchApp
from rlhf_tui.areas.inspect.screen import InspectScreen
from rlhf_tui.engine.bridge import EngineBridge

OLD = Path(__file__).parent / "data" / "old_runs"
VERSIONS = sorted(path.name for path in OLD.iterdir() if (path / "expected.json").is_file())
RUNS = ["fork", "function", "sequence", "token"]


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of what one version left, with the model and the reward function that its files name."""
    here = tmp_path / "old"
    shutil.copytree(OLD / request.param, here)
    (here / "kept").rename(here / "runs")
    shutil.copytree(OLD / "model", here / "model")
    shutil.copy(OLD / "vowels.py", here)
    for path in here.rglob("*"):
        if path.suffix in (".toml", ".json", ".jsonl") and path.is_file():
            path.write_bytes(path.read_bytes().replace(b"@HERE@", str(here).encode()))
    for path in here.rglob("manifest.json"):  # of the files as they are now
        manifest = json.loads(path.read_text())
        files = {name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in manifest["files"]}
        path.write_text(json.dumps(manifest | {"files": files}))
    assert call(here, "trust", str(here / "vowels.py")).exit_code == 0
    return here


def call(here: Path, *arguments: str) -> Result:
    where = [] if arguments[0] in ("trust", "score", "train") else ["--runs-dir", str(here / "runs")]
    return CliRunner().invoke(make_app(), [*arguments, *where])


def metrics(here: Path, run: str) -> dict[int, dict[str, Any]]:
    return {line.step: dict(line.metrics) for line in RunDir.open(here / "runs" / run).metrics()}


def test_they_are_listed_verified_and_watched(old: Path) -> None:
    listed = call(old, "runs", "--json")
    found = {row["name"]: row for row in json.loads(listed.stdout)["runs"]}
    assert sorted(found) == RUNS
    assert {name: row["step"] for name, row in found.items()} == {"fork": 7, "function": 4, "sequence": 4, "token": 6}
    assert {row["state"] for row in found.values()} == {"finished"}
    for run in RUNS:
        assert call(old, "verify", run).exit_code == 0
        watched = call(old, "attach", run, "--json")
        assert watched.exit_code == 0
        steps = [row for row in map(json.loads, watched.stdout.splitlines()) if row["event"] == "step"]
        assert [row["step"] for row in steps] == list(metrics(old, run))


def test_their_next_steps_are_those_of_the_version_that_made_them(old: Path) -> None:
    expected = json.loads((old / "expected.json").read_text())
    for run in RUNS:
        before = len(metrics(old, run))
        resumed = call(old, "resume", run, "--set", f"train.steps={before + 2}")
        assert resumed.exit_code == 0, resumed.output
        found = metrics(old, run)
        for line in expected[run]:
            for name, value in line["metrics"].items():
                was = math.nan if value is None else value
                # a share of tokens counts those at the very edge of a clip range one way or the other; and a KL is the
                # small difference of sums of log-probs, each of which float32 knows to some millionths
                same = pytest.approx(was, rel=1e-6, abs=0.03 if "clipfrac" in name else 5e-6, nan_ok=True)
                assert found[line["step"]][name] == same, (run, name)


def test_they_answer_and_are_compared_exported_and_forked(old: Path) -> None:
    for run in RUNS:
        assert call(old, "generate", run, "--prompt", "One day").exit_code == 0
        compared = call(old, "compare", run, "--responses", "4", "--json")
        assert compared.exit_code == 0, compared.output
        assert "score" in compared.stdout
        exported = call(old, "export", run, str(old / f"{run}-adapter"))
        assert exported.exit_code == 0, exported.output
        assert (old / f"{run}-adapter" / "adapter_model.safetensors").is_file()
    forked = call(old, "fork", "function", "--set", "kl.coef=0.3", "--set", "train.steps=5", "--name", "child")
    assert forked.exit_code == 0, forked.output
    assert list(metrics(old, "child")) == [1, 2, 3, 4, 5]


def test_their_presets_still_train(old: Path) -> None:
    for name in ("token", "sequence", "function"):
        trained = call(old, "train", str(old / f"{name}.toml"), "--set", "train.steps=1", "--runs-dir",
                       str(old / "new"))
        assert trained.exit_code == 0, trained.output


async def test_they_are_viewed_and_seen_token_by_token_in_the_workbench(old: Path) -> None:
    app = WorkbenchApp(EngineBridge(old / "runs"), presets.load("animals"), "animals")
    async with app.run_test(size=(160, 50)) as pilot:
        for run in RUNS:
            run_dir = RunDir.open(old / "runs" / run)
            app.bridge.watch(run_dir)
            steps = len(metrics(old, run))
            await until(pilot, lambda steps=steps: app.bridge.view.step == steps, lambda: app.bridge.view.message)
            assert app.bridge.view.state is RunState.FINISHED
            assert any(sample.trace for sample in run_dir.samples())
            await pilot.press("4", "i")
            await until(pilot, lambda: isinstance(app.screen, InspectScreen), lambda: str(app.screen))
            await pilot.press("down", "right", "escape")
            for key in ("h", "escape", "r", "escape"):
                await pilot.press(key)
    app.bridge.close()
    assert app.bridge.join(600)
